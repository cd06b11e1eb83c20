//! The statements of the loop.
//!
//! Owns their text, and keeps each one prepared: looking one up by its text costs a tenth of the writer's speed. SQLite
//! uses a partial index only if the state is a literal, not a parameter. Never reads their rows: the callers do.

use crate::fail::Fail;
use rusqlite::{Connection, Statement};

pub(super) const CLAIM: &str = "SELECT key, due_at, attempts, lost, deferrals, coalesce(first_due_at, due_at)
    FROM queue WHERE state = 1 AND stage_id = ?1 ORDER BY claim_key LIMIT ?2";
pub(super) const HOLD: &str = "UPDATE queue SET state = 2, fence = ?2 WHERE key = ?1";
pub(super) const LEASE: &str = "INSERT INTO leases (host_id, claimed_at, open, members) VALUES (?1, ?2, ?3, ?4)";
pub(super) const GIVEN: &str = "SELECT key, data, data_hash, discovered_at FROM item_data WHERE id = ?1";
pub(super) const UPSTREAM: &str = "SELECT output, output_hash FROM item_stages WHERE key = ?1 AND state = 4";
// Two statements, and not DELETE RETURNING, which makes a temporary table each time and costs a sixth of the writer's
// speed.
pub(super) const LEASED: &str =
    "SELECT stage_id, due_at, attempts, lost, deferrals, last_attempt, coalesce(first_due_at, due_at), operation_id,
            superseded IS NOT NULL
     FROM queue WHERE key = ?1 AND state = 2 AND fence = ?2";
pub(super) const DEQUEUE: &str = "DELETE FROM queue WHERE key = ?1";
pub(super) const ATTEMPT: &str =
    "INSERT INTO attempts (key, stage_id, prev, outcome, host_id, fence, queued_at, started_at, ended_at,
                           version_id, memory_bytes_max, input_hash, spec, operation_id, error, log)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
/// A dead stage keeps its older result, which stays readable. Any other outcome replaces it.
pub(super) const SETTLED: &str =
    "INSERT INTO item_stages (key, state, reason, attempts, lost, deferrals, settled_at, last_attempt,
                              version_id, input_hash, output_hash, output, error)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
     ON CONFLICT (key) DO UPDATE SET
        state = excluded.state, reason = excluded.reason, attempts = excluded.attempts, lost = excluded.lost,
        deferrals = excluded.deferrals, settled_at = excluded.settled_at, last_attempt = excluded.last_attempt,
        version_id = iif(excluded.state = 6, version_id, excluded.version_id),
        input_hash = iif(excluded.state = 6, input_hash, excluded.input_hash),
        output_hash = iif(excluded.state = 6, output_hash, excluded.output_hash),
        output = iif(excluded.state = 6, output, excluded.output), error = excluded.error";
pub(super) const ITEM: &str = concat!("SELECT ", gristmill_tracker::item_columns!(), " FROM items WHERE id = ?1");
pub(super) const SET_MASKS: &str =
    "UPDATE items SET done = ?2, skipped = ?3, dead = ?4, live = ?5, stale = ?6 WHERE id = ?1";
pub(super) const ENQUEUE: &str =
    "INSERT INTO queue (key, stage_id, state, claim_key, due_at) VALUES (?1, ?2, 1, ?3, ?4)";
/// For a stage that was settled before: it continues the chain of its attempts.
pub(super) const ENQUEUE_AGAIN: &str =
    "INSERT INTO queue (key, stage_id, state, claim_key, due_at, last_attempt, operation_id)
    VALUES (?1, ?2, 1, ?3, ?4, (SELECT last_attempt FROM item_stages WHERE item_stages.key = ?1), ?5)";
pub(super) const KNOWN: &str = "SELECT item_data.id, data_hash, coalesce(seen_hash, data_hash), priority
     FROM item_data CROSS JOIN items ON items.id = item_data.id WHERE item_data.job_id = ?1 AND key = ?2";
pub(super) const INSERT: &str = "INSERT INTO items (job_id, live, priority) VALUES (?1, ?2, ?3)";
pub(super) const INSERT_DATA: &str =
    "INSERT INTO item_data (id, job_id, discovered_at, changed_at, key, data_hash, data)
     VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6)";
pub(super) const SIGHT: &str = "INSERT INTO sightings (item_id, data_hash, page_id) VALUES (?1, ?2, ?3)
    ON CONFLICT (item_id, data_hash) DO UPDATE SET page_id = excluded.page_id";
pub(super) const END_LEASE: &str = "DELETE FROM leases WHERE fence = ?1 AND open <= ?2";
pub(super) const SHRINK_LEASE: &str = "UPDATE leases SET open = open - ?2 WHERE fence = ?1";

/// All of them, prepared.
pub(super) struct Hot<'c> {
    pub(super) claim: Statement<'c>,
    pub(super) hold: Statement<'c>,
    pub(super) lease: Statement<'c>,
    pub(super) given: Statement<'c>,
    pub(super) upstream: Statement<'c>,
    pub(super) leased: Statement<'c>,
    pub(super) dequeue: Statement<'c>,
    pub(super) attempt: Statement<'c>,
    pub(super) settled: Statement<'c>,
    pub(super) item: Statement<'c>,
    pub(super) set_masks: Statement<'c>,
    pub(super) enqueue: Statement<'c>,
    pub(super) known: Statement<'c>,
    pub(super) insert: Statement<'c>,
    pub(super) insert_data: Statement<'c>,
    pub(super) sight: Statement<'c>,
    pub(super) end_lease: Statement<'c>,
    pub(super) shrink_lease: Statement<'c>,
}

impl<'c> Hot<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self, Fail> {
        Ok(Self {
            claim: connection.prepare(CLAIM)?,
            hold: connection.prepare(HOLD)?,
            lease: connection.prepare(LEASE)?,
            given: connection.prepare(GIVEN)?,
            upstream: connection.prepare(UPSTREAM)?,
            leased: connection.prepare(LEASED)?,
            dequeue: connection.prepare(DEQUEUE)?,
            attempt: connection.prepare(ATTEMPT)?,
            settled: connection.prepare(SETTLED)?,
            item: connection.prepare(ITEM)?,
            set_masks: connection.prepare(SET_MASKS)?,
            enqueue: connection.prepare(ENQUEUE)?,
            known: connection.prepare(KNOWN)?,
            insert: connection.prepare(INSERT)?,
            insert_data: connection.prepare(INSERT_DATA)?,
            sight: connection.prepare(SIGHT)?,
            end_lease: connection.prepare(END_LEASE)?,
            shrink_lease: connection.prepare(SHRINK_LEASE)?,
        })
    }
}
