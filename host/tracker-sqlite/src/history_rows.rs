//! Writes a long history, for `gristmill bench`.
//!
//! Owns the rows of finished items as a host leaves them, written by bare statements. Never used by a host.

use std::path::Path;

use gristmill_model::{Clock, ItemStatus, State, Timestamp};
use rusqlite::Connection;

use super::SqliteOptions;
use super::open::open_for_writing;
use crate::fail::Fail;
use gristmill_tracker::Error;
use gristmill_tracker::records::RegisteredJob;

/// How many items each transaction writes, which bounds the size of the log.
const BATCH: u32 = 50_000;

/// Finished items, each with a result and an attempt of every stage of a job.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// How many items.
    pub items: u32,
    /// How many bytes each output has.
    pub output_bytes: usize,
}

impl History {
    /// Writes it into a tracker in which the job is registered and has no items.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, data: &Path, job: &RegisteredJob, clock: &dyn Clock) -> Result<(), Error> {
        Ok(self.try_write(data, job, clock)?)
    }

    fn try_write(&self, data: &Path, job: &RegisteredJob, clock: &dyn Clock) -> Result<(), Fail> {
        let options = SqliteOptions { synchronous: super::Synchronous::Normal, ..SqliteOptions::default() };
        let connection = open_for_writing(data, options, clock.now())?;
        let mut first = 1;
        while first <= self.items {
            let last = self.items.min(first + BATCH - 1);
            connection.execute_batch("BEGIN IMMEDIATE")?;
            self.batch(&connection, job, (first, last), clock.now())?;
            connection.execute_batch("COMMIT")?;
            first = last + 1;
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for stage in &job.stages {
            connection.execute(
                "INSERT INTO stage_counts VALUES (?1, ?2, ?3)",
                (stage.id.0, State::Done.code(), self.items),
            )?;
            connection.execute("INSERT INTO version_counts VALUES (?1, ?2)", (stage.version.0, self.items))?;
        }
        let done = ItemStatus::Done.code();
        connection.execute("INSERT INTO item_counts VALUES (?1, ?2, ?3)", (job.id.0, done, self.items))?;
        connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(())
    }

    fn batch(
        &self,
        connection: &Connection,
        job: &RegisteredJob,
        (first, last): (u32, u32),
        now: Timestamp,
    ) -> Result<(), Fail> {
        let output = format!("\"{}\"", "x".repeat(self.output_bytes.saturating_sub(2)));
        connection
            .prepare_cached(
                "WITH RECURSIVE n (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                 INSERT INTO items (id, job_id, done) SELECT i, ?3, ?4 FROM n",
            )?
            .execute((first, last, job.id.0, job.dag.all() as i64))?;
        connection
            .prepare_cached(
                "WITH RECURSIVE n (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                 INSERT INTO item_data (id, job_id, discovered_at, changed_at, key, data_hash, data)
                 SELECT i, ?3, ?4, ?4, printf('past-%010d', i), zeroblob(32), '1' FROM n",
            )?
            .execute((first, last, job.id.0, now.0))?;
        for (place, stage) in job.stages.iter().enumerate() {
            // Attempts are numbered item by item.
            let (bit, stages) = (i64::from(stage.id.bit().0), job.stages.len() as i64);
            connection
                .prepare_cached(
                    "WITH RECURSIVE n (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                     INSERT INTO attempts (id, key, stage_id, outcome, host_id, fence, queued_at, started_at, ended_at,
                                           version_id, memory_bytes_max, input_hash)
                     SELECT i * ?3 + ?4, i << 6 | ?5, ?6, 1, 1, 1, ?7, ?7, ?7, ?8, 1114112, zeroblob(32) FROM n",
                )?
                .execute((first, last, stages, place as i64, bit, stage.id.0, now.0, stage.version.0))?;
            connection
                .prepare_cached(
                    "WITH RECURSIVE n (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                     INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, last_attempt,
                                              version_id, input_hash, output_hash, output)
                     SELECT i << 6 | ?5, 4, 1, 0, 0, ?6, i * ?3 + ?4, ?7, zeroblob(32), zeroblob(32), ?8 FROM n",
                )?
                .execute((first, last, stages, place as i64, bit, now.0, stage.version.0, &output))?;
        }
        Ok(())
    }
}
