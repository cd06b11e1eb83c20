//! The ceiling that a host on SQLite is compared with.
//!
//! Owns the writes of settle and claim as bare statements, on the real schema, in batches, by one thread. No fence is
//! checked, no row is read, nothing is run. No host on SQLite can be faster than this. Never used by a host.

use std::path::Path;
use std::time::Duration;

use gristmill_model::{Clock, ItemId, StageBit, StageId, StageKey, Timestamp};
use rusqlite::{Connection, Statement};

use super::open::open_for_writing;
use super::{SqliteOptions, folder};
use crate::fail::Fail;
use gristmill_tracker::{Ceiling, Error};

const JOB: i64 = 1;

/// Writes everything into a new database in an empty folder. Returns the time of the stage executions, without
/// discovery.
///
/// # Errors
/// If the folder cannot be written.
pub fn ceiling(size: &Ceiling, data: &Path, options: SqliteOptions, clock: &dyn Clock) -> Result<Duration, Error> {
    Ok(write(size, data, options, clock)?)
}

fn write(size: &Ceiling, data: &Path, options: SqliteOptions, clock: &dyn Clock) -> Result<Duration, Fail> {
    folder::make(data)?;
    let connection = open_for_writing(data, options, clock.now())?;
    discover(size, &connection, clock.now())?;
    let started = clock.now();
    let mut writes = Writes::prepare(&connection, "x".repeat(size.output_bytes))?;
    let works: Vec<(i64, u8)> =
        (0..size.stages).flat_map(|bit| (1..=i64::from(size.items)).map(move |item| (item, bit))).collect();
    for batch in works.chunks(size.batch.max(1) as usize) {
        let now = clock.now();
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for (item, bit) in batch {
            writes.execute(ItemId(*item), StageBit(*bit), size.stages, now)?;
        }
        writes.count(batch.len(), now)?;
        connection.execute_batch("COMMIT")?;
    }
    Ok(clock.now().since(started))
}

fn discover(size: &Ceiling, connection: &Connection, now: Timestamp) -> Result<(), Fail> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut insert = connection.prepare("INSERT INTO items (id, job_id, live) VALUES (?1, ?2, 1)")?;
    let mut insert_data = connection.prepare(
        "INSERT INTO item_data (id, job_id, discovered_at, changed_at, key, data_hash, data)
         VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6)",
    )?;
    let mut enqueue = connection.prepare(Writes::ENQUEUE)?;
    let data = "x".repeat(size.data_bytes);
    for item in 1..=i64::from(size.items) {
        insert.execute((item, JOB))?;
        insert_data.execute((item, JOB, now.0, format!("item-{item:06}"), [0u8; 32], &data))?;
        let key = StageKey::new(ItemId(item), StageBit(0));
        enqueue.execute((key.0, stage(StageBit(0)).0, now.0))?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}
const fn stage(bit: StageBit) -> StageId {
    StageId::new(gristmill_model::JobId(JOB), bit)
}

struct Writes<'c> {
    lease: Statement<'c>,
    end_lease: Statement<'c>,
    claim: Statement<'c>,
    take: Statement<'c>,
    attempt: Statement<'c>,
    result: Statement<'c>,
    masks: Statement<'c>,
    enqueue: Statement<'c>,
    count: Statement<'c>,
    output: String,
}

impl<'c> Writes<'c> {
    const ENQUEUE: &'static str =
        "INSERT INTO queue (key, stage_id, state, claim_key, due_at) VALUES (?1, ?2, 1, ?3, ?3)";

    fn prepare(connection: &'c Connection, output: String) -> Result<Self, Fail> {
        let prepare = |sql| connection.prepare(sql);
        Ok(Self {
            lease: prepare("INSERT INTO leases (host_id, claimed_at, open, members) VALUES (1, ?1, 64, ?2)")?,
            end_lease: prepare("DELETE FROM leases WHERE open = 64")?,
            claim: prepare("UPDATE queue SET state = 2, fence = 1 WHERE key = ?1")?,
            take: prepare("DELETE FROM queue WHERE key = ?1")?,
            attempt: prepare(
                "INSERT INTO attempts (key, stage_id, outcome, host_id, fence, queued_at, started_at, ended_at,
                                       version_id, memory_bytes_max, input_hash)
                 VALUES (?1, ?2, 1, 1, 1, ?3, ?3, ?3, 1, 1114112, ?4)",
            )?,
            result: prepare(
                "INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, last_attempt, version_id,
                                          input_hash, output_hash, output)
                 VALUES (?1, 4, 1, 0, 0, ?2, last_insert_rowid(), 1, ?3, ?3, ?4)",
            )?,
            masks: prepare("UPDATE items SET done = done | ?2, live = ?3 WHERE id = ?1")?,
            enqueue: prepare(Self::ENQUEUE)?,
            count: prepare(
                "INSERT INTO stage_counts (stage_id, state, n) VALUES (?1, ?2, ?3)
                 ON CONFLICT (stage_id, state) DO UPDATE SET n = n + excluded.n",
            )?,
            output,
        })
    }

    /// The writes of one stage execution: claimed, settled, and its dependent released.
    fn execute(&mut self, item: ItemId, bit: StageBit, stages: u8, now: Timestamp) -> Result<(), Fail> {
        let key = StageKey::new(item, bit).0;
        let hash = [7u8; 32];
        self.claim.execute([key])?;
        self.take.execute([key])?;
        self.attempt.execute((key, stage(bit).0, now.0, hash))?;
        self.result.execute((key, now.0, hash, &self.output))?;
        let next = StageBit(bit.0 + 1);
        let live = if next.0 < stages { next.mask() } else { 0 };
        self.masks.execute((item.0, bit.mask() as i64, live as i64))?;
        if live != 0 {
            self.enqueue.execute((StageKey::new(item, next).0, stage(next).0, now.0))?;
        }
        Ok(())
    }

    /// The writes of a whole batch: its leases and its counters.
    fn count(&mut self, executions: usize, now: Timestamp) -> Result<(), Fail> {
        const CHUNK: usize = 64;
        for _ in 0..executions.div_ceil(CHUNK) {
            self.lease.execute((now.0, [0u8; CHUNK * 8]))?;
        }
        self.end_lease.execute([])?;
        for state in [1, 2, 4] {
            self.count.execute((stage(StageBit(0)).0, state, 1))?;
        }
        Ok(())
    }
}
