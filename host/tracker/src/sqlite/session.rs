//! The writer's side of one connection.
//!
//! Owns the transaction, the DAGs, the numbers of the registered specs, and the counters of the batch at hand, which
//! are folded and written once at its end. Never runs outside the writer.

use std::collections::HashMap;
use std::rc::Rc;

use gristmill_model::{
    Bits, Dag, ItemId, ItemStatus, JobId, Masks, OperationId, StageBit, StageId, StageKey, State, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, Statement};

use super::blobs::Blobs;
use super::hot::Hot;
use crate::Error;

/// One step of priority weighs as much as a minute of waiting. With priority in the key, the oldest of any priority is
/// reached in the end, and no sweep ever changes a row.
const PRIORITY_STEP_MICROS: i64 = 60_000_000;

pub(super) struct Session<'c> {
    pub(super) connection: &'c Connection,
    pub(super) blobs: Blobs,
    pub(super) hot: Hot<'c>,
    pub(super) tally: Tally,
    /// Others write too: what is known of jobs is read anew in each transaction.
    beside: bool,
    dags: HashMap<JobId, Rc<Dag>>,
    /// The specs that this session registered: attempts name them.
    specs: HashMap<JobId, i64>,
    /// Those of the batch at hand.
    new_specs: Vec<(JobId, i64)>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
}

/// Counter changes of the batch at hand.
#[derive(Default)]
pub(super) struct Tally {
    stages: HashMap<(StageId, State), i64>,
    items: HashMap<(JobId, ItemStatus), i64>,
    versions: HashMap<i64, i64>,
}

impl Tally {
    pub(super) fn stage(&mut self, stage: StageId, state: State, change: i64) {
        *self.stages.entry((stage, state)).or_default() += change;
    }

    /// A stage of an item is in another state.
    pub(super) fn moved(&mut self, stage: StageId, from: State, to: State) {
        self.stage(stage, from, -1);
        self.stage(stage, to, 1);
    }

    pub(super) fn item(&mut self, job: JobId, status: ItemStatus, change: i64) {
        *self.items.entry((job, status)).or_default() += change;
    }

    /// An item's status may be another.
    pub(super) fn status(&mut self, job: JobId, was: ItemStatus, is: ItemStatus) {
        if was != is {
            self.item(job, was, -1);
            self.item(job, is, 1);
        }
    }

    pub(super) fn version(&mut self, version: i64, change: i64) {
        *self.versions.entry(version).or_default() += change;
    }
}

/// An item's row, without its data.
#[derive(Clone, Copy)]
pub(super) struct ItemMasks {
    pub(super) job: JobId,
    pub(super) masks: Masks,
    pub(super) priority: i64,
    pub(super) cancelled: bool,
}

impl ItemMasks {
    /// Columns: `job_id, done, skipped, dead, live, stale, priority, cancelled_at IS NOT NULL`.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mask = |column| row.get::<_, i64>(column).map(|bits| bits as u64);
        Ok(Self {
            job: JobId(row.get(0)?),
            masks: Masks { done: mask(1)?, skipped: mask(2)?, dead: mask(3)?, live: mask(4)?, stale: mask(5)? },
            priority: row.get(6)?,
            cancelled: row.get(7)?,
        })
    }
}

/// What a stage was settled as; none if it never was. One that is being redone is that as well.
pub(super) fn settled_state(masks: Masks, bit: StageBit) -> Option<State> {
    [(masks.dead, State::Dead), (masks.done, State::Done), (masks.skipped, State::Skipped)]
        .into_iter()
        .find_map(|(mask, state)| (mask & bit.mask() != 0).then_some(state))
}

impl<'c> Session<'c> {
    pub(super) fn new(connection: &'c Connection, blobs: Blobs, beside: bool) -> Result<Self, Error> {
        Ok(Self {
            connection,
            blobs,
            hot: Hot::prepare(connection)?,
            tally: Tally::default(),
            beside,
            dags: HashMap::new(),
            specs: HashMap::new(),
            new_specs: Vec::new(),
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            rollback: connection.prepare("ROLLBACK")?,
        })
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        if self.beside {
            self.dags.clear();
        }
        self.begin.execute([])?;
        Ok(())
    }

    /// Writes the counters and commits.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        self.write_tally()?;
        self.commit.execute([])?;
        self.specs.extend(self.new_specs.drain(..));
        Ok(())
    }

    /// Writes the counters, so that the statements that follow see them.
    pub(super) fn write_tally(&mut self) -> Result<(), Error> {
        let Tally { stages, items, versions } = std::mem::take(&mut self.tally);
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO stage_counts (stage_id, state, n) VALUES (?1, ?2, ?3)
             ON CONFLICT (stage_id, state) DO UPDATE SET n = n + excluded.n",
        )?;
        for ((stage, state), change) in stages.into_iter().filter(|(_, change)| *change != 0) {
            statement.execute((stage.0, state.code(), change))?;
        }
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO item_counts (job_id, status, n) VALUES (?1, ?2, ?3)
             ON CONFLICT (job_id, status) DO UPDATE SET n = n + excluded.n",
        )?;
        for ((job, status), change) in items.into_iter().filter(|(_, change)| *change != 0) {
            statement.execute((job.0, status_code(status), change))?;
        }
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO version_counts (version_id, n) VALUES (?1, ?2)
             ON CONFLICT (version_id) DO UPDATE SET n = n + excluded.n",
        )?;
        for (version, change) in versions.into_iter().filter(|(_, change)| *change != 0) {
            statement.execute((version, change))?;
        }
        Ok(())
    }

    pub(super) fn rollback(&mut self) {
        self.tally = Tally::default();
        self.new_specs.clear();
        // One of them may be of a registration that is undone.
        self.dags.clear();
        // SQLite may have rolled back by itself, on a full disk for one. Then there is nothing left to undo.
        let _ = self.rollback.execute([]);
    }

    /// Notes what was registered.
    pub(super) fn know(&mut self, job: JobId, dag: Dag, spec: i64) {
        self.dags.insert(job, Rc::new(dag));
        self.new_specs.push((job, spec));
    }

    /// The number of the spec that this session registered for a job.
    pub(super) fn spec(&self, job: JobId) -> Option<i64> {
        let new = self.new_specs.iter().rev().find(|(other, _)| *other == job).map(|(_, number)| *number);
        new.or_else(|| self.specs.get(&job).copied())
    }

    /// A job's DAG: as it was registered, or as the database has it.
    pub(super) fn dag(&mut self, job: JobId) -> Result<Rc<Dag>, Error> {
        if let Some(dag) = self.dags.get(&job) {
            return Ok(Rc::clone(dag));
        }
        let dag = Rc::new(load_dag(self.connection, job)?.ok_or(Error::UnknownJob(job.0))?);
        self.dags.insert(job, Rc::clone(&dag));
        Ok(dag)
    }

    /// Whether an item is in its job's counters: an edited DAG has them counted anew, page by page.
    pub(super) fn is_counted(&self, job: JobId, item: ItemId) -> Result<bool, Error> {
        let reconciled: Option<i64> = self
            .connection
            .prepare_cached("SELECT reconciled FROM jobs WHERE id = ?1")?
            .query_row([job.0], |row| row.get(0))?;
        Ok(reconciled.is_none_or(|last| item.0 <= last))
    }

    /// Reads an item's masks; none if there is no such item.
    pub(super) fn masks(&mut self, item: i64) -> Result<Option<ItemMasks>, Error> {
        Ok(self.hot.masks.query_row([item], ItemMasks::read).optional()?)
    }

    /// Writes an item's masks.
    pub(super) fn set_masks(&mut self, item: ItemId, masks: Masks) -> Result<(), Error> {
        let Masks { done, skipped, dead, live, stale } = masks;
        self.hot.set_masks.execute((item.0, done as i64, skipped as i64, dead as i64, live as i64, stale as i64))?;
        Ok(())
    }

    /// Puts stages into the queue, ready since `now`. Those that were settled before stay in line with their history.
    /// `masks`: the item's, with these stages live or not.
    pub(super) fn enqueue(
        &mut self,
        item: ItemId,
        of: ItemMasks,
        masks: Masks,
        stages: u64,
        now: Timestamp,
    ) -> Result<(), Error> {
        for bit in Bits(stages) {
            let stage = StageId::new(of.job, bit);
            let key = StageKey::new(item, bit);
            let place = claim_key(now.0, of.priority);
            if settled_state(masks, bit).is_some() {
                self.connection.prepare_cached(super::hot::ENQUEUE_AGAIN)?.execute((key.0, stage.0, place, now.0))?;
            } else {
                self.hot.enqueue.execute((key.0, stage.0, place, now.0))?;
            }
            self.tally.stage(stage, State::Ready, 1);
        }
        Ok(())
    }

    /// Notes an event.
    pub(super) fn event(&self, event: &Noted<'_>) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO events (at, kind, job_id, item_id, operation_id, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                event.at.0,
                event.kind,
                event.job.map(|job| job.0),
                event.item.map(|item| item.0),
                event.operation.map(|operation| operation.0),
                event.data.to_string(),
            ))?;
        Ok(())
    }
}

/// An event to be noted.
pub(super) struct Noted<'a> {
    pub(super) at: Timestamp,
    pub(super) kind: &'a str,
    pub(super) job: Option<JobId>,
    pub(super) item: Option<ItemId>,
    pub(super) operation: Option<OperationId>,
    pub(super) data: serde_json::Value,
}

impl<'a> Noted<'a> {
    pub(super) fn new(at: Timestamp, kind: &'a str, data: serde_json::Value) -> Self {
        Self { at, kind, job: None, item: None, operation: None, data }
    }

    pub(super) fn job(self, job: JobId) -> Self {
        Self { job: Some(job), ..self }
    }

    pub(super) fn item(self, item: ItemId) -> Self {
        Self { item: Some(item), ..self }
    }

    pub(super) fn operation(self, operation: OperationId) -> Self {
        Self { operation: Some(operation), ..self }
    }
}

/// The DAG of a job as the database has it; none if there is no such job.
pub(super) fn load_dag(connection: &Connection, job: JobId) -> Result<Option<Dag>, Error> {
    let known = connection.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1")?.exists([job.0])?;
    if !known {
        return Ok(None);
    }
    let mut dag = Dag::default();
    let mut statement = connection
        .prepare_cached("SELECT id, needs, outputs FROM stages WHERE job_id = ?1 AND retired_at IS NULL ORDER BY id")?;
    let mut rows = statement.query([job.0])?;
    while let Some(row) = rows.next()? {
        dag.add(StageId(row.get(0)?).bit(), row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64);
    }
    Ok(Some(dag))
}

/// Where a ready stage stands in line.
pub(crate) fn claim_key(due_at: i64, priority: i64) -> i64 {
    due_at.saturating_sub(priority.saturating_mul(PRIORITY_STEP_MICROS))
}

/// The number that `item_counts` stores for a status. Part of the schema: never changed.
pub(crate) fn status_code(status: ItemStatus) -> i64 {
    match status {
        ItemStatus::Done => 1,
        ItemStatus::Active => 2,
        ItemStatus::Failed => 3,
        ItemStatus::Pending => 4,
        ItemStatus::Cancelled => 5,
    }
}
