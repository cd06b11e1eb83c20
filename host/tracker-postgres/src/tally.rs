//! Counter changes of a transaction.
//!
//! Owns the one write of each kind of counter at the transaction's end, in the order of keys. Never counts rows.

use std::collections::BTreeMap;

use futures_util::try_join;
use tokio_postgres::Statement;

use super::fail::Fail;
use super::tx::Tx;
use gristmill_tracker::rules::Tally;

const STAGES: &str = "INSERT INTO stage_counts AS c (stage_id, state, slot, n)
    SELECT stage, state, $4, n FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS u (stage, state, n)
    ON CONFLICT (stage_id, state, slot) DO UPDATE SET n = c.n + excluded.n";
const ITEMS: &str = "INSERT INTO item_counts AS c (job_id, status, slot, n)
    SELECT job, status, $4, n FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS u (job, status, n)
    ON CONFLICT (job_id, status, slot) DO UPDATE SET n = c.n + excluded.n";
const VERSIONS: &str = "INSERT INTO version_counts AS c (version_id, slot, n)
    SELECT version, $3, n FROM unnest($1::bigint[], $2::bigint[]) AS u (version, n)
    ON CONFLICT (version_id, slot) DO UPDATE SET n = c.n + excluded.n";
const CHARGES: &str = "INSERT INTO cost_rollups AS c (stage_id, meter, day, slot, amount, n)
    SELECT stage, meter, day, $6, amount, n
    FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::float8[], $5::bigint[]) AS u (stage, meter, day, amount, n)
    ON CONFLICT (stage_id, meter, day, slot) DO UPDATE SET amount = c.amount + excluded.amount, n = c.n + excluded.n";

/// The charged amounts and their number, by stage, meter and day.
pub(super) type Charges = BTreeMap<(i64, String, i64), (f64, i64)>;

/// Whether nothing changes.
pub(super) fn is_empty(tally: &Tally, charges: &Charges) -> bool {
    let changes = tally.stages.values().chain(tally.items.values()).chain(tally.versions.values());
    changes.copied().all(|n| n == 0) && charges.is_empty()
}

pub(super) async fn prepare(tx: &Tx<'_>, tally: Tally, charges: Charges) -> Result<Counters, Fail> {
    let statements = tx.prepare_all([STAGES, ITEMS, VERSIONS, CHARGES]).await?;
    Ok(Counters { tally, charges, statements })
}

/// Counter changes that are ready to write.
pub(super) struct Counters {
    tally: Tally,
    charges: Charges,
    statements: [Statement; 4],
}

impl Counters {
    pub(super) async fn write(&self, tx: &Tx<'_>) -> Result<(), Fail> {
        let slot = tx.core.slot.get();
        let [stages, items, versions, charges] = &self.statements;
        let pairs = async |statement: &Statement, changes: &BTreeMap<(i64, i64), i64>| -> Result<(), Fail> {
            let changed = changes.iter().filter(|(_, n)| **n != 0);
            let ((a, b), n): ((Vec<i64>, Vec<i64>), Vec<i64>) = changed.map(|((a, b), n)| ((*a, *b), *n)).unzip();
            if !n.is_empty() {
                tx.run(statement, &[&a, &b, &n, &slot]).await?;
            }
            Ok(())
        };
        try_join!(
            pairs(stages, &self.tally.stages),
            pairs(items, &self.tally.items),
            self.versions(tx, versions, slot),
            self.charges(tx, charges, slot),
        )?;
        Ok(())
    }

    async fn versions(&self, tx: &Tx<'_>, statement: &Statement, slot: i64) -> Result<(), Fail> {
        let changed = self.tally.versions.iter().filter(|(_, n)| **n != 0);
        let (versions, n): (Vec<i64>, Vec<i64>) = changed.unzip();
        if !n.is_empty() {
            tx.run(statement, &[&versions, &n, &slot]).await?;
        }
        Ok(())
    }

    async fn charges(&self, tx: &Tx<'_>, statement: &Statement, slot: i64) -> Result<(), Fail> {
        let charges = &self.charges;
        if charges.is_empty() {
            return Ok(());
        }
        let stages: Vec<i64> = charges.keys().map(|(stage, ..)| *stage).collect();
        let meters: Vec<&str> = charges.keys().map(|(_, meter, _)| meter.as_str()).collect();
        let days: Vec<i64> = charges.keys().map(|(.., day)| *day).collect();
        let (amounts, n): (Vec<f64>, Vec<i64>) = charges.values().copied().unzip();
        tx.run(statement, &[&stages, &meters, &days, &amounts, &n, &slot]).await?;
        Ok(())
    }
}
