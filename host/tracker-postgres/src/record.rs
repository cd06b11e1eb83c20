//! Settles a batch of attempts, and writes the results.
//!
//! Owns the fold of a batch: items are locked and read once, several stages of one item are settled one after the other
//! in memory, and one statement writes each table. Never checks a fence: the caller has already taken the rows out of
//! the queue.

use std::collections::{BTreeMap, HashMap};

use futures_util::try_join;
use gristmill_model::{
    Bits, Counters, DeadReason, Digest, Disposition, Fence, HostId, ItemId, StageId, StageKey, Timestamp,
};
use tokio_postgres::{Row, Statement};

use super::cancel::leave_queue;
use super::changes::{Changes, Prepared};
use super::fail::Fail;
use super::tx::Tx;
use super::write::{Attempts, Costs, Outcomes, Waits};
use gristmill_tracker::Error;
use gristmill_tracker::records::Completion;
use gristmill_tracker::rules::settle::{Next, Standing};
use gristmill_tracker::rules::{Item, Rows, Taken, events, item, settle};

/// Takes rows out of the queue that are leased under their fence. Only this transaction may record their attempts.
pub(super) const TAKE: &str = "DELETE FROM queue USING unnest($1::bigint[], $2::bigint[]) AS u (k, f)
    WHERE key = k AND state = 2 AND fence = f
    RETURNING key, fence, stage_id, due_at, coalesce(first_due_at, due_at), attempts, lost, deferrals, last_attempt,
        operation_id, superseded";
pub(super) const ATTEMPT_IDS: &str = "SELECT nextval('gristmill.attempts_id_seq') FROM generate_series(1, $1::bigint)";
const STANDING: &str =
    "SELECT key, version_id, output_hash FROM item_stages WHERE key = ANY ($1) AND output IS NOT NULL";
const END_LEASES: &str = "DELETE FROM leases USING unnest($1::bigint[], $2::bigint[]) AS u (f, n)
    WHERE fence = f AND open <= n";
const SHRINK_LEASES: &str = "UPDATE leases SET open = open - n FROM unnest($1::bigint[], $2::bigint[]) AS u (f, n)
    WHERE fence = f";

/// Reads the columns of `TAKE`.
pub(super) fn read_taken(row: &Row) -> Taken {
    let count = |column: usize| row.get::<_, i64>(column) as u32;
    Taken {
        key: StageKey(row.get(0)),
        fence: Fence(row.get(1)),
        stage: StageId(row.get(2)),
        due_at: row.get(3),
        first_due_at: row.get(4),
        counters: Counters { attempts: count(5), lost: count(6), deferrals: count(7) },
        last_attempt: row.get(8),
        operation: row.get(9),
        superseded: row.get(10),
    }
}

/// An attempt to record.
pub(super) struct Attempt<'a> {
    pub(super) host: HostId,
    /// None for a lost attempt: only its host knew.
    pub(super) started_at: Option<Timestamp>,
    pub(super) completion: &'a Completion,
    pub(super) taken: Taken,
}

/// A batch of attempts that are being settled.
pub(super) struct Batch<'a> {
    items: BTreeMap<ItemId, Item>,
    ids: Vec<i64>,
    attempts: Attempts<'a>,
    costs: Costs<'a>,
    outcomes: Outcomes<'a>,
    waits: Waits,
    changes: Changes,
    /// Rows that were taken out of the queue because of these attempts.
    left: BTreeMap<ItemId, Rows>,
    settled: BTreeMap<i64, i64>,
    /// How many stages became ready, for the answer.
    pub(super) released: u64,
}

impl<'a> Batch<'a> {
    /// A batch for these locked items, with one id for each attempt.
    pub(super) fn new(items: BTreeMap<ItemId, Item>, ids: &[Row]) -> Self {
        Self {
            items,
            // Reversed, since ids are popped from the end.
            ids: ids.iter().rev().map(|row| row.get(0)).collect(),
            attempts: Attempts::default(),
            costs: Costs::default(),
            outcomes: Outcomes::default(),
            waits: Waits::default(),
            changes: Changes::default(),
            left: BTreeMap::new(),
            settled: BTreeMap::new(),
            released: 0,
        }
    }

    /// Adds attempts.
    pub(super) async fn record(&mut self, tx: &Tx<'_>, attempts: &[Attempt<'a>]) -> Result<(), Fail> {
        let standing = self.standing(tx, attempts).await?;
        self.left = self.leave_queue(tx, attempts).await?;
        let mut damaged = Vec::new();
        for attempt in attempts {
            self.record_one(tx, attempt, standing.get(&attempt.taken.key).copied())?;
            let Attempt { taken, completion, .. } = attempt;
            if completion.disposition == Disposition::Dead(DeadReason::Damaged) {
                damaged.push(events::stage_damaged(taken.key, taken.stage, completion.error.as_deref()));
            }
        }
        if damaged.is_empty() { Ok(()) } else { tx.note_all(&damaged).await }
    }

    /// Takes the rows out of the queue that the rule names.
    async fn leave_queue(&self, tx: &Tx<'_>, attempts: &[Attempt<'a>]) -> Result<BTreeMap<ItemId, Rows>, Fail> {
        let mut leaves: Vec<(Item, u64)> = Vec::new();
        for Attempt { taken, completion, .. } in attempts {
            let Some(item) = self.items.get(&taken.key.item()) else { continue };
            let stages = settle::leaves(&*tx.dag(item.job)?, item, taken, completion);
            leaves.push((*item, stages));
        }
        leave_queue(tx, leaves.into_iter()).await
    }

    /// The older outputs that the rule needs.
    async fn standing(&self, tx: &Tx<'_>, attempts: &[Attempt<'a>]) -> Result<HashMap<StageKey, Standing>, Fail> {
        let is_asked = |attempt: &&Attempt<'_>| {
            let Attempt { taken, completion, .. } = attempt;
            self.items.get(&taken.key.item()).is_some_and(|item| settle::asks(item, taken, completion))
        };
        let keys: Vec<i64> = attempts.iter().filter(is_asked).map(|attempt| attempt.taken.key.0).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = tx.query(STANDING, &[&keys]).await?;
        let read = |row: &Row| {
            let output_hash = row.get::<_, Option<&[u8]>>(2).and_then(Digest::from_slice);
            (StageKey(row.get(0)), Standing { version: row.get(1), output_hash })
        };
        Ok(rows.iter().map(read).collect())
    }

    fn record_one(&mut self, tx: &Tx<'_>, attempt: &Attempt<'a>, standing: Option<Standing>) -> Result<(), Fail> {
        let Attempt { taken, completion, .. } = attempt;
        let id = self.ids.pop().ok_or_else(|| Error::Damaged("an attempt has no id".to_owned()))?;
        let item = self.items.get_mut(&taken.key.item());
        let item =
            item.ok_or_else(|| Error::Damaged(format!("item {} of a queue row is missing", taken.key.item())))?;
        self.attempts.push(id, attempt, tx.core.shapes.spec(taken.stage.job()));
        for (meter, amount) in &completion.charges {
            self.costs.push(id, meter, *amount);
            tx.count_charge(taken.stage, meter, item::day(completion.ended_at), *amount);
        }
        *self.settled.entry(taken.fence.0).or_default() += 1;
        let dag = tx.dag(item.job)?;
        // An earlier attempt of this batch may have changed its input.
        let taken = &Taken { superseded: taken.superseded || self.changes.is_superseded(taken.key), ..*taken };
        let leaves = settle::leaves(&dag, item, taken, completion);
        let mut left = self.left.get_mut(&item.id).map(|rows| rows.take(leaves)).unwrap_or_default();
        for bit in Bits(leaves & !left.all()) {
            // An earlier attempt of this batch may have enqueued it.
            if self.waits.remove(item.key(bit)) {
                left.waiting |= bit.mask();
            } else if self.changes.remove(item.key(bit)) {
                left.ready |= bit.mask();
            }
        }
        let settled = settle::settle(&dag, *item, taken, completion, standing, left, tx.now());
        match settled.next {
            Next::Wait { due_at, claim_key } => self.waits.push(taken, settled.counters, id, due_at, claim_key),
            Next::Outcome { state, reason } => {
                self.outcomes.push((state, reason), completion, settled.counters, id, tx.now());
            }
            Next::Nothing => {}
        }
        if let Some(version) = settled.version_gone {
            tx.count_version(version, -1);
        }
        if let Some(version) = settled.version_new {
            tx.count_version(version, 1);
            self.changes.output(taken.key, version);
        }
        *item = settled.change.after;
        self.released += u64::from(settled.change.entered.ready.count_ones());
        self.changes.push(tx, &dag, &settled.change, None);
        Ok(())
    }

    /// Prepares the writes.
    pub(super) async fn prepare(mut self, tx: &Tx<'_>) -> Result<Ready<'a>, Fail> {
        let changes = std::mem::take(&mut self.changes).prepare(tx).await?;
        let leases = tx.prepare_all([END_LEASES, SHRINK_LEASES]).await?;
        let rows = super::write::Statements::prepare(tx).await?;
        Ok(Ready { batch: self, changes, leases, rows })
    }
}

/// A batch that is ready to write.
pub(super) struct Ready<'a> {
    batch: Batch<'a>,
    changes: Prepared,
    leases: [Statement; 2],
    rows: super::write::Statements,
}

impl Ready<'_> {
    /// Writes it: one statement for each table, all sent at once.
    pub(super) async fn write(&self, tx: &Tx<'_>) -> Result<(), Fail> {
        let Self { batch, changes, leases: [end, shrink], rows } = self;
        try_join!(
            batch.attempts.write(tx, &rows.attempts),
            batch.costs.write(tx, &rows.costs),
            batch.outcomes.write(tx, rows),
            batch.waits.write(tx, &rows.waits),
            changes.write(tx),
            batch.write_leases(tx, end, shrink),
        )?;
        Ok(())
    }
}

impl Batch<'_> {
    /// Counts members of leases as settled, and deletes a lease with its last one.
    async fn write_leases(&self, tx: &Tx<'_>, end: &Statement, shrink: &Statement) -> Result<(), Fail> {
        let (fences, n): (Vec<i64>, Vec<i64>) = self.settled.iter().unzip();
        if fences.is_empty() {
            return Ok(());
        }
        let parameters: super::tx::Parameters<'_> = &[&fences, &n];
        try_join!(tx.run(end, parameters), tx.run(shrink, parameters))?;
        Ok(())
    }
}

/// Counts members of leases as given back.
pub(super) async fn shrink_leases(tx: &Tx<'_>, settled: &BTreeMap<i64, i64>) -> Result<(), Fail> {
    let (fences, n): (Vec<i64>, Vec<i64>) = settled.iter().unzip();
    if !fences.is_empty() {
        tx.execute(END_LEASES, &[&fences, &n]).await?;
        tx.execute(SHRINK_LEASES, &[&fences, &n]).await?;
    }
    Ok(())
}
