//! Reading attempts and events.
//!
//! Owns the two ways to find attempts: the chain of one stage of one item, and the newest of a job. Never changes one.

use crate::fail::Fail;
use gristmill_model::{AttemptId, Digest, Fence, HostId, ItemId, JobId, OperationId, Outcome, Timestamp};
use rusqlite::{Connection, Row, ToSql};

use gristmill_tracker::records::{AttemptRow, AttemptsFilter, EventRow, EventsFilter};

/// How far a chain is followed: more than any retry policy allows.
const CHAIN_MAX: u32 = 10_000;

const COLUMNS: &str =
    "attempts.id, item_data.key, stages.name, outcome, host_id, queued_at, started_at, ended_at, digest,
    memory_bytes_max, error, log, fence";
const JOINS: &str = "JOIN item_data ON item_data.id = attempts.key >> 6 JOIN stages ON stages.id = attempts.stage_id
    LEFT JOIN versions ON versions.id = attempts.version_id";

fn read(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    Ok(AttemptRow {
        id: AttemptId(row.get(0)?),
        item_key: row.get(1)?,
        stage: row.get(2)?,
        outcome: Outcome::from_code(row.get(3)?).unwrap_or(Outcome::Lost),
        host: HostId(row.get(4)?),
        queued_at: Timestamp(row.get(5)?),
        started_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        ended_at: Timestamp(row.get(7)?),
        version: row.get::<_, Option<[u8; 32]>>(8)?.map(Digest),
        memory_bytes_max: row.get::<_, Option<i64>>(9)?.and_then(|bytes| u64::try_from(bytes).ok()),
        error: row.get(10)?,
        log: row.get(11)?,
        fence: Fence(row.get(12)?),
        charges: Vec::new(),
    })
}

fn collect(connection: &Connection, sql: &str, parameters: &[&dyn ToSql]) -> Result<Vec<AttemptRow>, Fail> {
    let mut rows: Vec<AttemptRow> =
        connection.prepare_cached(sql)?.query_map(parameters, read)?.collect::<Result<_, _>>()?;
    for row in &mut rows {
        row.charges = connection
            .prepare_cached("SELECT meter, amount FROM costs WHERE attempt_id = ?1 ORDER BY id")?
            .query_map([row.id.0], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
    }
    Ok(rows)
}

/// The attempts of one stage of one item, from its newest back.
pub(super) fn chain(connection: &Connection, head: i64) -> Result<Vec<AttemptRow>, Fail> {
    let sql = format!(
        "WITH RECURSIVE chain (id, prev) AS (
            SELECT id, prev FROM attempts WHERE id = ?1
            UNION ALL SELECT attempts.id, attempts.prev FROM attempts JOIN chain ON attempts.id = chain.prev
            LIMIT {CHAIN_MAX}
         )
         SELECT {COLUMNS} FROM chain JOIN attempts ON attempts.id = chain.id {JOINS} ORDER BY attempts.id DESC"
    );
    collect(connection, &sql, &[&head])
}

/// The newest attempts of a job.
pub(super) fn attempts(connection: &Connection, filter: &AttemptsFilter) -> Result<Vec<AttemptRow>, Fail> {
    let sql = format!(
        "SELECT {COLUMNS} FROM attempts {JOINS}
         WHERE attempts.stage_id >> 6 = ?1 AND (?2 IS NULL OR attempts.stage_id = ?2) AND (?3 IS NULL OR outcome = ?3)
         ORDER BY attempts.id DESC LIMIT ?4"
    );
    let (stage, outcome) = (filter.stage.map(|stage| stage.0), filter.outcome.map(Outcome::code));
    collect(connection, &sql, &[&filter.job.0, &stage, &outcome, &filter.limit])
}

/// The newest events. A kind that ends in a dot stands for all that begin so.
pub(super) fn events(connection: &Connection, filter: &EventsFilter) -> Result<Vec<EventRow>, Fail> {
    let is_family = filter.kind.as_deref().is_some_and(|kind| kind.ends_with('.'));
    let rows = connection
        .prepare_cached(
            "SELECT id, at, kind, job_id, item_id, operation_id, data FROM events
             WHERE (?1 IS NULL OR job_id = ?1)
                AND (?2 IS NULL OR iif(?3, substr(kind, 1, length(?2)) = ?2, kind = ?2))
             ORDER BY id DESC LIMIT ?4",
        )?
        .query_map((filter.job.map(|job| job.0), &filter.kind, is_family, filter.limit), |row| {
            Ok(EventRow {
                id: row.get(0)?,
                at: Timestamp(row.get(1)?),
                kind: row.get(2)?,
                job: row.get::<_, Option<i64>>(3)?.map(JobId),
                item: row.get::<_, Option<i64>>(4)?.map(ItemId),
                operation: row.get::<_, Option<i64>>(5)?.map(OperationId),
                data: row.get(6)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}
