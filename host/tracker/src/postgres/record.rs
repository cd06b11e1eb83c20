//! What settled attempts lead to, and its writing.
//!
//! Owns the fold of a batch: items are locked and read once, several stages of one item are settled one after the
//! other in memory, and each table is written by one statement. Never checks a fence: what comes here was taken out
//! of the queue.

use std::collections::{BTreeMap, HashMap};

use futures_util::try_join;
use gristmill_model::{
    Bits, Counters, DeadReason, Disposition, Fence, HostId, ItemId, JobId, Masks, StageBit, StageId, StageKey, State,
    Timestamp,
};
use tokio_postgres::{Row, Statement};

use super::fail::Fail;
use super::tx::Tx;
use super::write::{Attempts, Costs, Enqueued, Outcomes, Waits};
use crate::Error;
use crate::advance;
use crate::records::Completion;
use crate::sqlite::claim_key;

/// In the order of their ids, so that two hosts that settle stages of the same items never wait in a circle.
pub(super) const LOCK_ITEMS: &str =
    "SELECT id, job_id, done, skipped, dead, live, stale, priority, cancelled_at IS NOT NULL
    FROM items WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
/// What is leased under its fence goes out of the queue: the licence to record its attempt.
pub(super) const TAKE: &str = "DELETE FROM queue USING unnest($1::bigint[], $2::bigint[]) AS u (k, f)
    WHERE key = k AND state = 2 AND fence = f
    RETURNING key, fence, stage_id, due_at, attempts, lost, deferrals, last_attempt, first_due_at, operation_id";
pub(super) const ATTEMPT_IDS: &str = "SELECT nextval('gristmill.attempts_id_seq') FROM generate_series(1, $1::bigint)";
const OLD_RESULTS: &str =
    "SELECT key, state, version_id, output_hash, output IS NOT NULL FROM item_stages WHERE key = ANY ($1)";
const SET_MASKS: &str =
    "UPDATE items SET done = u.done, skipped = u.skipped, dead = u.dead, live = u.live, stale = u.stale
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
        AS u (item, done, skipped, dead, live, stale) WHERE id = item";
const SKIP_THROUGH: &str = "INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, error)
    SELECT k, 5, 0, 0, 0, $2, 'a stage whose output it needs was skipped' FROM unnest($1::bigint[]) AS u (k)
    ON CONFLICT (key) DO UPDATE SET state = 5, reason = NULL, attempts = 0, lost = 0, deferrals = 0,
        settled_at = excluded.settled_at, version_id = NULL, input_hash = NULL, output_hash = NULL, output = NULL,
        error = excluded.error";
const END_LEASES: &str = "DELETE FROM leases USING unnest($1::bigint[], $2::bigint[]) AS u (f, n)
    WHERE fence = f AND open <= n";
const SHRINK_LEASES: &str = "UPDATE leases SET open = open - n FROM unnest($1::bigint[], $2::bigint[]) AS u (f, n)
    WHERE fence = f";

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// An item's row, without its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct ItemState {
    pub(super) id: ItemId,
    pub(super) job: JobId,
    pub(super) masks: Masks,
    pub(super) priority: i64,
    pub(super) cancelled: bool,
}

impl ItemState {
    /// The columns of `LOCK_ITEMS`.
    pub(super) fn read(row: &Row) -> Self {
        let mask = |column: usize| row.get::<_, i64>(column) as u64;
        Self {
            id: ItemId(row.get(0)),
            job: JobId(row.get(1)),
            masks: Masks { done: mask(2), skipped: mask(3), dead: mask(4), live: mask(5), stale: mask(6) },
            priority: row.get(7),
            cancelled: row.get(8),
        }
    }
}

/// What a queue row leaves behind when it is taken out.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) key: StageKey,
    pub(super) fence: Fence,
    pub(super) stage: StageId,
    pub(super) due_at: i64,
    pub(super) counters: Counters,
    pub(super) last_attempt: Option<i64>,
    pub(super) first_due_at: Option<i64>,
    pub(super) operation: Option<i64>,
}

impl Taken {
    /// The columns of `TAKE`.
    pub(super) fn read(row: &Row) -> Self {
        let count = |column: usize| row.get::<_, i64>(column) as u32;
        Self {
            key: StageKey(row.get(0)),
            fence: Fence(row.get(1)),
            stage: StageId(row.get(2)),
            due_at: row.get(3),
            counters: Counters { attempts: count(4), lost: count(5), deferrals: count(6) },
            last_attempt: row.get(7),
            first_due_at: row.get(8),
            operation: row.get(9),
        }
    }
}

/// An attempt to be recorded.
pub(super) struct Attempt<'a> {
    pub(super) host: HostId,
    /// None: its host vanished, and only that one knew.
    pub(super) started_at: Option<Timestamp>,
    pub(super) completion: &'a Completion,
    pub(super) taken: Taken,
}

struct OldResult {
    state: i64,
    version: Option<i64>,
    output_hash: Option<Vec<u8>>,
    has_output: bool,
}

/// A batch that is being folded.
#[derive(Default)]
pub(super) struct Batch<'a> {
    items: BTreeMap<ItemId, ItemState>,
    changed: Vec<ItemId>,
    ids: Vec<i64>,
    attempts: Attempts<'a>,
    costs: Costs<'a>,
    outcomes: Outcomes<'a>,
    waits: Waits,
    enqueued: Enqueued,
    skips: Skips,
    /// The versions of the results that this batch writes.
    versions: HashMap<i64, i64>,
    settled: BTreeMap<i64, i64>,
    /// How many stages became ready.
    pub(super) released: u64,
}

impl<'a> Batch<'a> {
    /// A batch of these items, which are locked, and with as many ids as there are attempts.
    pub(super) fn new(items: &[Row], ids: &[Row]) -> Self {
        let items = items.iter().map(ItemState::read).map(|item| (item.id, item)).collect();
        // The last one first: they are popped.
        let ids = ids.iter().rev().map(|row| row.get(0)).collect();
        Self { items, ids, ..Self::default() }
    }

    /// Folds attempts in.
    pub(super) async fn record(&mut self, tx: &Tx<'_>, attempts: &[Attempt<'a>]) -> Result<(), Fail> {
        let old = self.old_results(tx, attempts).await?;
        for attempt in attempts {
            self.record_one(tx, attempt, old.get(&attempt.taken.key.0))?;
        }
        Ok(())
    }

    /// Most attempts are of stages that were never settled: those are not looked up.
    async fn old_results(&self, tx: &Tx<'_>, attempts: &[Attempt<'a>]) -> Result<HashMap<i64, OldResult>, Fail> {
        let was_settled = |key: &StageKey| {
            let masks = self.items.get(&key.item()).map(|item| item.masks).unwrap_or_default();
            (masks.done | masks.skipped | masks.dead) & key.bit().mask() != 0
        };
        let keys: Vec<i64> =
            attempts.iter().map(|attempt| attempt.taken.key).filter(was_settled).map(|key| key.0).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = tx.query(OLD_RESULTS, &[&keys]).await?;
        let read = |row: &Row| {
            let old =
                OldResult { state: row.get(1), version: row.get(2), output_hash: row.get(3), has_output: row.get(4) };
            (row.get(0), old)
        };
        Ok(rows.iter().map(read).collect())
    }

    fn record_one(&mut self, tx: &Tx<'_>, attempt: &Attempt<'a>, old: Option<&OldResult>) -> Result<(), Fail> {
        let Attempt { taken, completion, .. } = attempt;
        let key = taken.key;
        let id = self.ids.pop().ok_or_else(|| Error::Damaged("an attempt has no id".to_owned()))?;
        let Some(mut item) = self.items.get(&key.item()).copied() else {
            return Err(Error::Damaged(format!("item {} of a queue row is missing", key.item())).into());
        };
        self.attempts.push(id, attempt, tx.core.shapes.spec(taken.stage.job()));
        for (meter, amount) in &completion.charges {
            self.costs.push(id, meter, *amount);
            tx.count_charge(taken.stage, meter, completion.ended_at.0.div_euclid(MICROS_PER_DAY), *amount);
        }
        *self.settled.entry(taken.fence.0).or_default() += 1;
        tx.count_stage(taken.stage, State::Leased, -1);
        let counters = taken.counters.after(completion.outcome);
        let state = match completion.disposition {
            Disposition::Wait(delay) if item.cancelled => {
                let _ = delay;
                let was = item.masks;
                item.masks.live &= !key.bit().mask();
                if item.masks != was {
                    self.set(item);
                }
                return Ok(());
            }
            Disposition::Wait(delay) => {
                let due_at = (tx.now() + delay).0;
                self.waits.push(taken, counters, id, due_at, claim_key(due_at, item.priority));
                tx.count_stage(taken.stage, State::Waiting, 1);
                return Ok(());
            }
            Disposition::Done => State::Done,
            Disposition::Skipped => State::Skipped,
            Disposition::Dead(_) => State::Dead,
        };
        forget_settled(tx, key.bit(), taken.stage, item.masks, old, state);
        self.outcomes.push(state, completion, counters, id, tx.now());
        tx.count_stage(taken.stage, state, 1);
        if state == State::Done {
            tx.count_version(completion.version.0, 1);
            self.versions.insert(key.0, completion.version.0);
        }
        let changed = old.is_some_and(|old| is_change(old, completion, state));
        self.settle(tx, key, item, state, changed)
    }

    /// What a settled stage means for its item, and for what comes after it.
    fn settle(
        &mut self,
        tx: &Tx<'_>,
        key: StageKey,
        mut item: ItemState,
        state: State,
        changed: bool,
    ) -> Result<(), Fail> {
        let dag = tx.dag(item.job)?;
        let advance = advance::settle(&dag, item.masks, item.cancelled, key.bit(), state, changed);
        let new = |key: StageKey| self.versions.get(&key.0).copied();
        self.skips.push(tx, &item, advance.skipped, advance.replaced, new);
        for bit in Bits(advance.released) {
            let after = ItemState { masks: advance.masks, ..item };
            self.enqueued.push(tx, &after, bit, None);
        }
        self.released += u64::from(advance.released.count_ones());
        tx.count_item(item.job, item.id, Some(advance.was), Some(advance.is));
        item.masks = advance.masks;
        self.set(item);
        Ok(())
    }

    fn set(&mut self, item: ItemState) {
        if self.changed.last() != Some(&item.id) {
            self.changed.push(item.id);
        }
        self.items.insert(item.id, item);
    }

    /// Prepares what is to be written.
    pub(super) async fn prepare(mut self, tx: &Tx<'_>) -> Result<Ready<'a>, Fail> {
        self.skips.forget_replaced(tx).await?;
        self.changed.sort_unstable();
        self.changed.dedup();
        let statements = tx.prepare_all([SET_MASKS, SKIP_THROUGH, END_LEASES, SHRINK_LEASES]).await?;
        let rows = super::write::Statements::prepare(tx).await?;
        Ok(Ready { batch: self, statements, rows })
    }
}

/// A batch that is ready to be written.
pub(super) struct Ready<'a> {
    batch: Batch<'a>,
    statements: [Statement; 4],
    rows: super::write::Statements,
}

impl Ready<'_> {
    /// Writes it: one statement a table, sent in one breath.
    pub(super) async fn write(&self, tx: &Tx<'_>) -> Result<(), Fail> {
        let Self { batch, statements: [masks, skip, end, shrink], rows } = self;
        try_join!(
            batch.attempts.write(tx, &rows.attempts),
            batch.costs.write(tx, &rows.costs),
            batch.outcomes.write(tx, rows),
            batch.skips.write(tx, skip),
            batch.waits.write(tx, &rows.waits),
            batch.enqueued.write(tx, &rows.enqueue),
            batch.write_masks(tx, masks),
            batch.write_leases(tx, end, shrink),
        )?;
        Ok(())
    }
}

impl Batch<'_> {
    async fn write_masks(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let items: Vec<&ItemState> = self.changed.iter().filter_map(|id| self.items.get(id)).collect();
        set_masks(tx, statement, &items).await
    }

    /// Counts members of leases as settled, and ends a lease with its last one.
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

/// Stages that are skipped along, in place of the results that they had.
#[derive(Default)]
pub(super) struct Skips {
    keys: Vec<i64>,
    replaced: Vec<i64>,
}

impl Skips {
    /// Skips stages of an item along, of which some had a result. `new`: the version of one that is not written yet.
    pub(super) fn push(
        &mut self,
        tx: &Tx<'_>,
        item: &ItemState,
        skipped: u64,
        replaced: u64,
        new: impl Fn(StageKey) -> Option<i64>,
    ) {
        for bit in Bits(skipped) {
            let (key, stage) = (StageKey::new(item.id, bit), StageId::new(item.job, bit));
            self.keys.push(key.0);
            if replaced & bit.mask() != 0 {
                tx.count_stage(stage, State::Done, -1);
                match new(key) {
                    Some(version) => tx.count_version(version, -1),
                    None => self.replaced.push(key.0),
                }
            }
            let was_skipped = item.masks.skipped & bit.mask() != 0;
            tx.count_stage(stage, State::Skipped, i64::from(!was_skipped));
        }
    }

    /// Takes the results that give way out of the counters.
    pub(super) async fn forget_replaced(&self, tx: &Tx<'_>) -> Result<(), Fail> {
        if self.replaced.is_empty() {
            return Ok(());
        }
        for row in tx.query(OLD_RESULTS, &[&self.replaced]).await? {
            if let (Some(version), true) = (row.get::<_, Option<i64>>(2), row.get::<_, bool>(4)) {
                tx.count_version(version, -1);
            }
        }
        Ok(())
    }

    async fn write(&self, tx: &Tx<'_>, statement: &Statement) -> Result<(), Fail> {
        if !self.keys.is_empty() {
            tx.run(statement, &[&self.keys, &tx.now().0]).await?;
        }
        Ok(())
    }

    /// As `write`, for what is not sent together with anything.
    pub(super) async fn write_alone(&self, tx: &Tx<'_>) -> Result<(), Fail> {
        self.forget_replaced(tx).await?;
        let statement = tx.prepare(SKIP_THROUGH).await?;
        self.write(tx, &statement).await
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

/// Writes the masks of items that are locked.
pub(super) async fn set_masks(tx: &Tx<'_>, statement: &Statement, items: &[&ItemState]) -> Result<(), Fail> {
    let column = |read: fn(&ItemState) -> u64| items.iter().map(|item| read(item) as i64).collect::<Vec<i64>>();
    let ids: Vec<i64> = items.iter().map(|item| item.id.0).collect();
    let (done, skipped) = (column(|item| item.masks.done), column(|item| item.masks.skipped));
    let (dead, live, stale) =
        (column(|item| item.masks.dead), column(|item| item.masks.live), column(|item| item.masks.stale));
    tx.run(statement, &[&ids, &done, &skipped, &dead, &live, &stale]).await?;
    Ok(())
}

/// As `set_masks`, for what is not sent together with anything.
pub(super) async fn set_masks_alone(tx: &Tx<'_>, items: &[&ItemState]) -> Result<(), Fail> {
    if items.is_empty() {
        return Ok(());
    }
    let statement = tx.prepare(SET_MASKS).await?;
    set_masks(tx, &statement, items).await
}

/// Takes an earlier outcome of the stage out of the counters. A dead stage keeps the result it had, and its count.
fn forget_settled(tx: &Tx<'_>, bit: StageBit, stage: StageId, masks: Masks, old: Option<&OldResult>, now: State) {
    for (mask, state) in [(masks.done, State::Done), (masks.skipped, State::Skipped), (masks.dead, State::Dead)] {
        if mask & bit.mask() != 0 {
            tx.count_stage(stage, state, -1);
        }
    }
    if let Some(version) = old.filter(|old| old.has_output && now != State::Dead).and_then(|old| old.version) {
        tx.count_version(version, -1);
    }
}

/// Whether an outcome is another one than the one there was.
fn is_change(old: &OldResult, completion: &Completion, now: State) -> bool {
    let hash = completion.output.as_ref().map(|output| &output.hash.0[..]);
    old.state != now.code() || (now == State::Done && old.output_hash.as_deref() != hash)
}

/// Why a stage is dead.
pub(super) fn reason(disposition: Disposition) -> Option<i64> {
    match disposition {
        Disposition::Dead(reason) => Some(DeadReason::code(reason)),
        _ => None,
    }
}
