//! Counter changes of a transaction.
//!
//! Owns their folding, and the one write of each at the transaction's end: in the order of their keys, so that two
//! transactions never wait for each other in a circle. Never counts rows.

use std::collections::BTreeMap;

use futures_util::try_join;
use gristmill_model::{ItemStatus, JobId, StageId, State};
use tokio_postgres::Statement;

use super::fail::Fail;
use super::tx::Tx;
use crate::rules::Counts;

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

#[derive(Default)]
pub(super) struct Tally {
    stages: BTreeMap<(i64, i64), i64>,
    items: BTreeMap<(i64, i64), i64>,
    versions: BTreeMap<i64, i64>,
    charges: BTreeMap<(i64, String, i64), (f64, i64)>,
}

impl Counts for Tally {
    fn stage(&mut self, stage: StageId, state: State, change: i64) {
        *self.stages.entry((stage.0, state.code())).or_default() += change;
    }

    fn item(&mut self, job: JobId, status: ItemStatus, change: i64) {
        *self.items.entry((job.0, status.code())).or_default() += change;
    }
}

impl Tally {
    pub(super) fn version(&mut self, version: i64, change: i64) {
        *self.versions.entry(version).or_default() += change;
    }

    pub(super) fn charge(&mut self, stage: StageId, meter: &str, day: i64, amount: f64) {
        let (sum, n) = self.charges.entry((stage.0, meter.to_owned(), day)).or_default();
        *sum += amount;
        *n += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        let none = |mut changes: std::collections::btree_map::Values<'_, (i64, i64), i64>| changes.all(|n| *n == 0);
        none(self.stages.values())
            && none(self.items.values())
            && self.versions.values().all(|n| *n == 0)
            && self.charges.is_empty()
    }

    pub(super) async fn prepare(self, tx: &Tx<'_>) -> Result<Counters, Fail> {
        let statements = tx.prepare_all([STAGES, ITEMS, VERSIONS, CHARGES]).await?;
        Ok(Counters { tally: self, statements })
    }
}

/// Counter changes that are ready to be written.
pub(super) struct Counters {
    tally: Tally,
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
        let charges = &self.tally.charges;
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
