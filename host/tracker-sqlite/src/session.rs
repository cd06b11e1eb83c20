//! The writer's side of one connection.
//!
//! Owns the transaction, the DAGs, the numbers of the registered specs, and the counters of the current batch, which
//! are folded and written once at its end. Never runs outside the writer.

use std::collections::HashMap;
use std::rc::Rc;

use gristmill_model::{Bits, Dag, ItemId, JobId, Masks, OperationId, StageBit, StageId, StageKey, State, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Statement};

use super::blobs::Blobs;
use super::hot::Hot;
use super::wait::Wait;
use crate::fail::Fail;
use gristmill_tracker::Error;
use gristmill_tracker::rules::change::{Ready, SKIPPED_ALONG};
use gristmill_tracker::rules::events::{self, Event};
use gristmill_tracker::rules::{Change, Item, Rows, Tally};

pub(super) struct Session<'c> {
    pub(super) connection: &'c Connection,
    pub(super) blobs: Blobs,
    pub(super) hot: Hot<'c>,
    pub(super) tally: Tally,
    /// Whether others write too: then jobs are read again in each transaction.
    beside: bool,
    /// Waits for other processes that hold the database.
    wait: Wait,
    jobs: HashMap<JobId, Rc<Job>>,
    /// The numbers of the specs that this session registered, which attempts refer to.
    specs: HashMap<JobId, i64>,
    /// Those of the current batch, kept only if it commits.
    new_specs: Vec<(JobId, i64)>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
}

/// A job, as the session knows it.
pub(super) struct Job {
    pub(super) dag: Dag,
    /// While items are being reconciled: the last one that was. Items after it are not counted.
    reconciled: Option<ItemId>,
}

/// Reads `item_columns`.
pub(super) fn read_item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let mask = |column| row.get::<_, i64>(column).map(|bits| bits as u64);
    Ok(Item {
        id: ItemId(row.get(0)?),
        job: JobId(row.get(1)?),
        masks: Masks { done: mask(2)?, skipped: mask(3)?, dead: mask(4)?, live: mask(5)?, stale: mask(6)? },
        priority: row.get(7)?,
        cancelled: row.get(8)?,
    })
}

impl<'c> Session<'c> {
    pub(super) fn new(connection: &'c Connection, blobs: Blobs, beside: bool, wait: Wait) -> Result<Self, Fail> {
        Ok(Self {
            connection,
            blobs,
            hot: Hot::prepare(connection)?,
            tally: Tally::default(),
            beside,
            wait,
            jobs: HashMap::new(),
            specs: HashMap::new(),
            new_specs: Vec::new(),
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            rollback: connection.prepare("ROLLBACK")?,
        })
    }

    pub(super) fn begin(&mut self) -> Result<(), Fail> {
        if self.beside {
            self.jobs.clear();
        }
        self.wait.begin(&mut self.begin)
    }

    /// Records that the database was held by another process, if it was.
    pub(super) fn note_wait(&mut self, now: Timestamp) -> Result<(), Fail> {
        match self.wait.take() {
            Some(waited) => self.note(now, &events::tracker_waited(waited)),
            None => Ok(()),
        }
    }

    /// Writes the counters and commits.
    pub(super) fn commit(&mut self) -> Result<(), Fail> {
        self.write_tally()?;
        self.commit.execute([])?;
        self.specs.extend(self.new_specs.drain(..));
        Ok(())
    }

    /// Writes the counters, so that the statements that follow see them.
    pub(super) fn write_tally(&mut self) -> Result<(), Fail> {
        let Tally { stages, items, versions } = std::mem::take(&mut self.tally);
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO stage_counts (stage_id, state, n) VALUES (?1, ?2, ?3)
             ON CONFLICT (stage_id, state) DO UPDATE SET n = n + excluded.n",
        )?;
        for ((stage, state), change) in stages.into_iter().filter(|(_, change)| *change != 0) {
            statement.execute((stage, state, change))?;
        }
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO item_counts (job_id, status, n) VALUES (?1, ?2, ?3)
             ON CONFLICT (job_id, status) DO UPDATE SET n = n + excluded.n",
        )?;
        for ((job, status), change) in items.into_iter().filter(|(_, change)| *change != 0) {
            statement.execute((job, status, change))?;
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
        // One of them may belong to a registration that is rolled back.
        self.jobs.clear();
        // SQLite may have rolled back by itself, for example on a full disk. Then nothing is left to undo.
        let _ = self.rollback.execute([]);
    }

    /// Remembers a registration.
    pub(super) fn know(&mut self, job: JobId, dag: Dag, reconciled: Option<ItemId>, spec: i64) {
        self.jobs.insert(job, Rc::new(Job { dag, reconciled }));
        self.new_specs.push((job, spec));
    }

    /// Forgets all jobs, so that the next use reads them again.
    pub(super) fn forget(&mut self) {
        self.jobs.clear();
    }

    /// The number of the spec that this session registered for a job.
    pub(super) fn spec(&self, job: JobId) -> Option<i64> {
        let new = self.new_specs.iter().rev().find(|(other, _)| *other == job).map(|(_, number)| *number);
        new.or_else(|| self.specs.get(&job).copied())
    }

    /// A job, as this session registered it or as the database has it.
    pub(super) fn job(&mut self, job: JobId) -> Result<Rc<Job>, Fail> {
        if let Some(known) = self.jobs.get(&job) {
            return Ok(Rc::clone(known));
        }
        let reconciled: Option<Option<i64>> = self
            .connection
            .prepare_cached("SELECT reconciled FROM jobs WHERE id = ?1")?
            .query_row([job.0], |row| row.get(0))
            .optional()?;
        let reconciled = reconciled.ok_or(Error::UnknownJob(job.0))?.map(ItemId);
        let known = Rc::new(Job { dag: load_dag(self.connection, job)?, reconciled });
        self.jobs.insert(job, Rc::clone(&known));
        Ok(known)
    }

    /// Reads an item; none if it does not exist.
    pub(super) fn item(&mut self, item: ItemId) -> Result<Option<Item>, Fail> {
        Ok(self.hot.item.query_row([item.0], read_item).optional()?)
    }

    /// Writes and counts the change of an item. `operation` is the one for which stages enter the queue.
    pub(super) fn apply(
        &mut self,
        job: &Job,
        change: &Change,
        now: Timestamp,
        operation: Option<OperationId>,
    ) -> Result<(), Fail> {
        for bit in Bits(change.skipped) {
            self.skip_along(change, bit, now)?;
        }
        for Ready { key, stage, claim_key, chained } in change.ready(now) {
            if chained || operation.is_some() {
                let operation = operation.map(|id| id.0);
                let again = (key.0, stage.0, claim_key, now.0, operation);
                self.connection.prepare_cached(super::hot::ENQUEUE_AGAIN)?.execute(again)?;
            } else {
                self.hot.enqueue.execute((key.0, stage.0, claim_key, now.0))?;
            }
        }
        for bit in Bits(change.renewed) {
            self.renew(change.after.key(bit))?;
        }
        for bit in Bits(change.superseded) {
            let mark = "UPDATE queue SET superseded = 1 WHERE key = ?1 AND state = 2";
            self.connection.prepare_cached(mark)?.execute([change.after.key(bit).0])?;
        }
        if change.is_other() {
            let Item { id, masks: Masks { done, skipped, dead, live, stale }, .. } = change.after;
            self.hot.set_masks.execute((id.0, done as i64, skipped as i64, dead as i64, live as i64, stale as i64))?;
        }
        self.count(job, change);
        Ok(())
    }

    /// Counts the change of an item.
    pub(super) fn count(&mut self, job: &Job, change: &Change) {
        let is_counted = job.reconciled.is_none_or(|last| change.after.id <= last);
        change.count(&job.dag, is_counted, &mut self.tally);
    }

    /// Records that a stage is skipped as a consequence, in place of its result.
    fn skip_along(&mut self, change: &Change, bit: StageBit, now: Timestamp) -> Result<(), Fail> {
        let key = change.after.key(bit).0;
        if change.replaced & bit.mask() != 0 {
            let version: Option<Option<i64>> = self
                .connection
                .prepare_cached("SELECT version_id FROM item_stages WHERE key = ?1 AND output IS NOT NULL")?
                .query_row([key], |row| row.get(0))
                .optional()?;
            version.flatten().inspect(|version| self.tally.version(*version, -1));
        }
        self.connection
            .prepare_cached(
                "INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, error)
                 VALUES (?1, 5, 0, 0, 0, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET
                    state = 5, reason = NULL, attempts = 0, lost = 0, deferrals = 0, settled_at = excluded.settled_at,
                    version_id = NULL, input_hash = NULL, output_hash = NULL, output = NULL, error = excluded.error",
            )?
            .execute((key, now.0, SKIPPED_ALONG))?;
        Ok(())
    }

    /// Replaces a dead outcome by the older result, or deletes it if there is none.
    fn renew(&self, key: StageKey) -> Result<(), Fail> {
        let put_back =
            "UPDATE item_stages SET state = 4, reason = NULL, error = NULL WHERE key = ?1 AND output IS NOT NULL";
        if self.connection.prepare_cached(put_back)?.execute([key.0])? == 0 {
            self.connection.prepare_cached("DELETE FROM item_stages WHERE key = ?1")?.execute([key.0])?;
        }
        Ok(())
    }

    /// Whether a stage has a result, even an older one.
    pub(super) fn has_result(&self, key: StageKey) -> Result<bool, Fail> {
        let has = "SELECT 1 FROM item_stages WHERE key = ?1 AND output IS NOT NULL";
        Ok(self.connection.prepare_cached(has)?.exists([key.0])?)
    }

    /// Takes rows of an item out of the queue, except leased ones. Returns those that it took.
    pub(super) fn leave_queue(&mut self, item: &Item, stages: u64) -> Result<Rows, Fail> {
        let mut left = Rows::default();
        for bit in Bits(stages) {
            let state: Option<i64> = self
                .connection
                .prepare_cached("DELETE FROM queue WHERE key = ?1 AND state <> 2 RETURNING state")?
                .query_row([item.key(bit).0], |row| row.get(0))
                .optional()?;
            left.add(state.and_then(State::from_code), bit.mask());
        }
        Ok(left)
    }

    /// Records an event.
    pub(super) fn note(&self, at: Timestamp, event: &Event<'_>) -> Result<(), Fail> {
        let Event { kind, job, item, operation, data } = event;
        self.connection
            .prepare_cached(
                "INSERT INTO events (at, kind, job_id, item_id, operation_id, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((at.0, kind, job.map(|job| job.0), item.map(|item| item.0), operation.map(|id| id.0), data))?;
        Ok(())
    }
}

/// The DAG of a job as the database has it: empty if it has no stages.
pub(super) fn load_dag(connection: &Connection, job: JobId) -> Result<Dag, Fail> {
    let mut dag = Dag::default();
    let mut statement = connection
        .prepare_cached("SELECT id, needs, outputs FROM stages WHERE job_id = ?1 AND retired_at IS NULL ORDER BY id")?;
    let mut rows = statement.query([job.0])?;
    while let Some(row) = rows.next()? {
        dag.add(StageId(row.get(0)?).bit(), row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64);
    }
    Ok(dag)
}
