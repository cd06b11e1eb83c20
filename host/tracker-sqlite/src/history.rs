//! Reads attempts and events.
//!
//! Owns the two ways to find attempts: the chain of one stage of one item, and the newest of a job. Never changes one.

use std::cmp::Reverse;

use gristmill_model::{AttemptId, Digest, Fence, HostId, ItemId, JobId, OperationId, Outcome, StageKey, Timestamp};
use rusqlite::{Connection, Row, ToSql};

use crate::fail::Fail;
use gristmill_tracker::records::{AttemptRow, AttemptsFilter, EventRow, EventsFilter};

/// How far a chain is followed: more than any retry policy allows.
const CHAIN_MAX: u32 = 10_000;

/// An attempt may outlive its item: then only the item's number is known.
const COLUMNS: &str =
    "attempts.id, item_data.key, stages.name, outcome, host_id, queued_at, started_at, ended_at, digest,
    memory_bytes_max, error, log, fence, attempts.key";
const JOINS: &str = "CROSS JOIN stages ON stages.id = attempts.stage_id
    LEFT JOIN item_data ON item_data.id = attempts.key >> 6 LEFT JOIN versions ON versions.id = attempts.version_id";

fn read(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    Ok(AttemptRow {
        id: AttemptId(row.get(0)?),
        item: StageKey(row.get(13)?).item(),
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
    collect(connection, &chain_sql(), &[&head])
}

pub(super) fn chain_sql() -> String {
    format!(
        "WITH RECURSIVE chain (id, prev) AS (
            SELECT id, prev FROM attempts WHERE id = ?1
            UNION ALL SELECT attempts.id, attempts.prev FROM attempts JOIN chain ON attempts.id = chain.prev
            LIMIT {CHAIN_MAX}
         )
         SELECT {COLUMNS} FROM chain CROSS JOIN attempts ON attempts.id = chain.id {JOINS} ORDER BY attempts.id DESC"
    )
}

/// The newest attempts of a job. An index finds those with another outcome than done, stage by stage. An index of all
/// would cost the loop too much, so the others are searched from the newest on.
pub(super) fn attempts(connection: &Connection, filter: &AttemptsFilter) -> Result<Vec<AttemptRow>, Fail> {
    let Some(outcome) = filter.outcome.filter(|outcome| *outcome != Outcome::Done) else {
        let (stage, outcome) = (filter.stage.map(|stage| stage.0), filter.outcome.map(Outcome::code));
        return collect(connection, &newest(), &[&filter.job.0, &stage, &outcome, &filter.limit]);
    };
    let stages: Vec<i64> = connection
        .prepare_cached("SELECT id FROM stages WHERE job_id = ?1 AND (?2 IS NULL OR id = ?2)")?
        .query_map((filter.job.0, filter.stage.map(|stage| stage.0)), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for stage in stages {
        rows.extend(collect(connection, &newest_not_done(), &[&stage, &outcome.code(), &filter.limit])?);
    }
    rows.sort_unstable_by_key(|row| Reverse(row.id));
    rows.truncate(filter.limit as usize);
    Ok(rows)
}

/// `?1` job, `?2` stage, `?3` outcome, `?4` limit.
pub(super) fn newest() -> String {
    format!(
        "SELECT {COLUMNS} FROM attempts NOT INDEXED {JOINS}
         WHERE attempts.stage_id >> 6 = ?1 AND (?2 IS NULL OR attempts.stage_id = ?2) AND (?3 IS NULL OR outcome = ?3)
         ORDER BY attempts.id DESC LIMIT ?4"
    )
}

/// `?1` stage, `?2` outcome, `?3` limit.
pub(super) fn newest_not_done() -> String {
    format!(
        "SELECT {COLUMNS} FROM attempts INDEXED BY attempts_not_done {JOINS}
         WHERE attempts.stage_id = ?1 AND outcome = ?2 AND outcome <> 1 ORDER BY attempts.id DESC LIMIT ?3"
    )
}

pub(super) const EVENTS: &str =
    "SELECT id, at, kind, job_id, item_id, operation_id, data FROM events ORDER BY id DESC LIMIT ?1";
pub(super) const EVENTS_OF_KIND: &str =
    "SELECT id, at, kind, job_id, item_id, operation_id, data FROM events INDEXED BY events_of_kind
    WHERE kind = ?2 ORDER BY id DESC LIMIT ?1";
pub(super) const EVENTS_OF_JOB: &str =
    "SELECT id, at, kind, job_id, item_id, operation_id, data FROM events INDEXED BY events_of_job
    WHERE kind = ?2 AND job_id = ?3 ORDER BY id DESC LIMIT ?1";
/// All kinds of events, each found by one step in the index.
pub(super) const KINDS: &str = "WITH RECURSIVE kinds (kind) AS (
        SELECT min(kind) FROM events
        UNION ALL SELECT (SELECT min(kind) FROM events WHERE kind > kinds.kind) FROM kinds WHERE kinds.kind IS NOT NULL
    ) SELECT kind FROM kinds WHERE kind IS NOT NULL";
pub(super) const KINDS_OF_JOB: &str = "WITH RECURSIVE kinds (kind) AS (
        SELECT min(kind) FROM events WHERE job_id = ?1
        UNION ALL SELECT (SELECT min(kind) FROM events WHERE job_id = ?1 AND kind > kinds.kind)
            FROM kinds WHERE kinds.kind IS NOT NULL
    ) SELECT kind FROM kinds WHERE kind IS NOT NULL";

/// The newest events. A kind that ends in a dot means all kinds that begin with it. There are few kinds, so each is
/// read separately, and no other row is read.
pub(super) fn events(connection: &Connection, filter: &EventsFilter) -> Result<Vec<EventRow>, Fail> {
    let EventsFilter { job, kind, limit } = filter;
    if job.is_none() && kind.is_none() {
        return read_events(connection, EVENTS, &[limit]);
    }
    let mut rows = Vec::new();
    for kind in kinds(connection, *job, kind.as_deref())? {
        rows.extend(match job {
            Some(job) => read_events(connection, EVENTS_OF_JOB, &[limit, &kind, &job.0])?,
            None => read_events(connection, EVENTS_OF_KIND, &[limit, &kind])?,
        });
    }
    rows.sort_unstable_by_key(|row| Reverse(row.id));
    rows.truncate(*limit as usize);
    Ok(rows)
}

/// The kinds that match a filter.
fn kinds(connection: &Connection, job: Option<JobId>, kind: Option<&str>) -> Result<Vec<String>, Fail> {
    let family = match kind {
        Some(kind) if !kind.ends_with('.') => return Ok(vec![kind.to_owned()]),
        family => family.unwrap_or_default(),
    };
    let read = |row: &Row<'_>| row.get(0);
    let kinds: Vec<String> = match job {
        Some(job) => connection.prepare_cached(KINDS_OF_JOB)?.query_map([job.0], read)?.collect::<Result<_, _>>()?,
        None => connection.prepare_cached(KINDS)?.query_map([], read)?.collect::<Result<_, _>>()?,
    };
    Ok(kinds.into_iter().filter(|kind| kind.starts_with(family)).collect())
}

fn read_events(connection: &Connection, sql: &str, parameters: &[&dyn ToSql]) -> Result<Vec<EventRow>, Fail> {
    let rows = connection
        .prepare_cached(sql)?
        .query_map(parameters, |row| {
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
