//! The writer's side of one connection.
//!
//! Owns the transaction, the hot statements, which are prepared once and held, the DAGs of the registered jobs, and
//! the counters of the batch at hand, which are folded and written once at its end. Never runs outside the writer.

use std::collections::HashMap;

use gristmill_model::{Dag, ItemStatus, JobId, Masks, StageId, State, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Statement};

use crate::Error;

/// One step of priority weighs as much as a minute of waiting. With priority in the key, the oldest of any priority is
/// reached in the end, and no sweep ever changes a row.
const PRIORITY_STEP_MICROS: i64 = 60_000_000;

pub(super) struct Session<'c> {
    pub(super) connection: &'c Connection,
    pub(super) hot: Hot<'c>,
    pub(super) tally: Tally,
    dags: HashMap<JobId, Dag>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
}

/// The statements of the loop, held: `prepare_cached` costs a tenth.
pub(super) struct Hot<'c> {
    pub(super) claim: Statement<'c>,
    pub(super) lease: Statement<'c>,
    pub(super) item: Statement<'c>,
    pub(super) upstream: Statement<'c>,
    pub(super) leased: Statement<'c>,
    pub(super) dequeue: Statement<'c>,
    pub(super) attempt: Statement<'c>,
    pub(super) result: Statement<'c>,
    pub(super) masks: Statement<'c>,
    pub(super) set_masks: Statement<'c>,
    pub(super) enqueue: Statement<'c>,
    pub(super) known: Statement<'c>,
    pub(super) insert: Statement<'c>,
    pub(super) end_lease: Statement<'c>,
    pub(super) shrink_lease: Statement<'c>,
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

    pub(super) fn item(&mut self, job: JobId, status: ItemStatus, change: i64) {
        *self.items.entry((job, status)).or_default() += change;
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

/// What a queue row leaves behind when it is taken out.
pub(super) struct Taken {
    pub(super) stage: StageId,
    pub(super) due_at: i64,
    pub(super) attempts: u32,
    pub(super) lost: u32,
    pub(super) deferrals: u32,
    pub(super) last_attempt: Option<i64>,
}

impl<'c> Session<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self, Error> {
        Ok(Self {
            connection,
            hot: Hot::prepare(connection)?,
            tally: Tally::default(),
            dags: HashMap::new(),
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            rollback: connection.prepare("ROLLBACK")?,
        })
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        self.begin.execute([])?;
        Ok(())
    }

    /// Writes the counters and commits.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
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
        self.commit.execute([])?;
        Ok(())
    }

    pub(super) fn rollback(&mut self) {
        self.tally = Tally::default();
        // SQLite may have rolled back by itself, on a full disk for one. Then there is nothing left to undo.
        let _ = self.rollback.execute([]);
    }

    pub(super) fn know(&mut self, job: JobId, dag: Dag) {
        self.dags.insert(job, dag);
    }

    pub(super) fn dag(&self, job: JobId) -> Result<&Dag, Error> {
        self.dags.get(&job).ok_or(Error::UnknownJob(job.0))
    }

    /// Reads an item's masks; none if there is no such item.
    pub(super) fn masks(&mut self, item: i64) -> Result<Option<ItemMasks>, Error> {
        Ok(self.hot.masks.query_row([item], ItemMasks::read).optional()?)
    }

    /// Puts a stage into the queue, ready since `now`.
    pub(super) fn enqueue(&mut self, key: i64, stage: StageId, now: Timestamp, priority: i64) -> Result<(), Error> {
        self.hot.enqueue.execute((key, stage.0, claim_key(now.0, priority), now.0))?;
        self.tally.stage(stage, State::Ready, 1);
        Ok(())
    }

    /// Notes an event.
    pub(super) fn event(&self, at: Timestamp, kind: &str, job: Option<JobId>, data: &str) -> Result<(), Error> {
        self.connection
            .prepare_cached("INSERT INTO events (at, kind, job_id, data) VALUES (?1, ?2, ?3, ?4)")?
            .execute((at.0, kind, job.map(|job| job.0), data))?;
        Ok(())
    }
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

impl<'c> Hot<'c> {
    fn prepare(connection: &'c Connection) -> Result<Self, Error> {
        let prepare = |sql| connection.prepare(sql);
        Ok(Self {
            // `state = 1` is a literal, since a partial index is not used for a bound parameter.
            claim: prepare(
                "UPDATE queue SET state = 2, fence = ?1
                 WHERE key IN (SELECT key FROM queue WHERE state = 1 AND stage_id = ?2 ORDER BY claim_key LIMIT ?3)
                 RETURNING key, claim_key, due_at, attempts, lost, deferrals",
            )?,
            lease: prepare(
                "INSERT INTO leases (host_id, claimed_at, deadline, open, members) VALUES (?1, ?2, ?3, 0, x'')",
            )?,
            item: prepare("SELECT key, data, data_hash, discovered_at FROM items WHERE id = ?1")?,
            upstream: prepare("SELECT output, output_hash FROM item_stages WHERE key = ?1 AND state = 4")?,
            // Two statements, and not DELETE RETURNING: that opens a table of its own each time, a sixth of the writer.
            leased: prepare(
                "SELECT stage_id, due_at, attempts, lost, deferrals, last_attempt
                 FROM queue WHERE key = ?1 AND state = 2 AND fence = ?2",
            )?,
            dequeue: prepare("DELETE FROM queue WHERE key = ?1")?,
            attempt: prepare(
                "INSERT INTO attempts (key, stage_id, prev, outcome, host_id, fence, queued_at, started_at, ended_at,
                                       version_id, memory_bytes_max, input_hash, error, log)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?,
            result: prepare(
                "INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, last_attempt,
                                          version_id, input_hash, output_hash, output, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                 ON CONFLICT (key) DO UPDATE SET
                    state = excluded.state, reason = NULL, attempts = excluded.attempts, lost = excluded.lost,
                    deferrals = excluded.deferrals, settled_at = excluded.settled_at,
                    last_attempt = excluded.last_attempt, version_id = excluded.version_id,
                    input_hash = excluded.input_hash, output_hash = excluded.output_hash, output = excluded.output,
                    error = excluded.error",
            )?,
            masks: prepare(
                "SELECT job_id, done, skipped, dead, live, stale, priority, cancelled_at IS NOT NULL
                 FROM items WHERE id = ?1",
            )?,
            set_masks: prepare(
                "UPDATE items SET done = ?2, skipped = ?3, dead = ?4, live = ?5, stale = ?6 WHERE id = ?1",
            )?,
            enqueue: prepare("INSERT INTO queue (key, stage_id, state, claim_key, due_at) VALUES (?1, ?2, 1, ?3, ?4)")?,
            known: prepare("SELECT id, data_hash FROM items WHERE job_id = ?1 AND key = ?2")?,
            insert: prepare(
                "INSERT INTO items (job_id, live, priority, discovered_at, changed_at, key, data_hash, data)
                 VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7)",
            )?,
            end_lease: prepare("DELETE FROM leases WHERE fence = ?1 AND open <= ?2")?,
            shrink_lease: prepare("UPDATE leases SET open = open - ?2 WHERE fence = ?1")?,
        })
    }
}
