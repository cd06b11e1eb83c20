//! Reads one item with everything that is known about it, attempts, and events.
//!
//! Owns the state of a stage of an item: its settled outcome, combined with its queue row. Never changes anything.

use std::collections::HashMap;

use gristmill_model::{
    AttemptId, Counters, DeadReason, Digest, Fence, HostId, ItemId, JobId, OperationId, Outcome, StageKey, State,
    Timestamp,
};
use tokio_postgres::Row;

use super::fail::Fail;
use super::items::digest;
use super::reader::{read_item, stages};
use super::tx::Tx;
use gristmill_tracker::records::{
    AttemptRow, AttemptsFilter, EventRow, EventsFilter, ItemDetail, ItemRow, ItemStageDetail, Sighting,
};
use gristmill_tracker::stages::Stage;

/// How far a chain is followed: more than any retry policy allows.
const CHAIN_MAX: i64 = 10_000;

const ITEM: &str = concat!(
    "SELECT ",
    gristmill_tracker::item_row_columns!(),
    ", data, priority FROM item_data JOIN items ON items.id = item_data.id WHERE item_data.job_id = $1 AND key = $2"
);
const SETTLED: &str = "SELECT state, reason, attempts, lost, deferrals, settled_at, last_attempt, version_id, digest,
        CASE WHEN octet_length(output) <= $2::bigint OR key = $3::bigint THEN output END, error, key, octet_length(output)::bigint
    FROM item_stages LEFT JOIN versions ON versions.id = version_id WHERE key = ANY ($1)";
const QUEUED: &str =
    "SELECT state, due_at, attempts, lost, deferrals, last_attempt, key FROM queue WHERE key = ANY ($1)";
pub(super) const SIGHTINGS: &str =
    "SELECT source, cursor, at, data_hash FROM sightings JOIN pages ON pages.id = page_id
    WHERE item_id = $1 ORDER BY page_id DESC, data_hash DESC";

/// An attempt may outlive its item: then only the item's number is known.
macro_rules! attempts {
    ($before:literal, $from:literal, $rest:literal) => {
        concat!(
            $before,
            " SELECT attempts.id, item_data.key, stages.name, outcome, host_id, queued_at, started_at, ended_at,
                digest, memory_bytes_max, error, log, attempts.key, fence
              FROM ",
            $from,
            " JOIN stages ON stages.id = attempts.stage_id LEFT JOIN item_data ON item_data.id = attempts.key >> 6
              LEFT JOIN versions ON versions.id = attempts.version_id ",
            $rest
        )
    };
}

/// The attempts of stages of one item, from the newest back. An attempt's id may be used again after the newest
/// attempts were deleted, but not for this key.
const CHAINS: &str = attempts!(
    "WITH RECURSIVE chain (id, prev, key) AS (
        SELECT id, prev, key FROM attempts JOIN unnest($1::bigint[], $2::bigint[]) AS u (head, k) ON id = head AND key = k
        UNION ALL SELECT attempts.id, attempts.prev, attempts.key FROM chain
            JOIN attempts ON attempts.id = chain.prev AND attempts.key = chain.key
     ), bounded AS MATERIALIZED (SELECT id FROM chain LIMIT $3)",
    "bounded JOIN attempts ON attempts.id = bounded.id",
    "ORDER BY attempts.id DESC"
);
pub(super) const NEWEST: &str = attempts!(
    "",
    "attempts",
    "WHERE attempts.stage_id >> 6 = $1 AND ($2::bigint IS NULL OR attempts.stage_id = $2)
        AND ($3::bigint IS NULL OR outcome = $3)
     ORDER BY attempts.id DESC LIMIT $4"
);
/// Read stage by stage.
pub(super) const NEWEST_NOT_DONE: &str = attempts!(
    "WITH found AS MATERIALIZED (
        SELECT newest.id FROM stages CROSS JOIN LATERAL (
            SELECT attempts.id FROM attempts
            WHERE attempts.stage_id = stages.id AND outcome = $3::bigint AND outcome <> 1
            ORDER BY attempts.id DESC LIMIT $4
        ) AS newest
        WHERE job_id = $1 AND ($2::bigint IS NULL OR stages.id = $2) ORDER BY newest.id DESC LIMIT $4
     )",
    "found JOIN attempts ON attempts.id = found.id",
    "ORDER BY attempts.id DESC"
);
const CHARGES: &str = "SELECT attempt_id, meter, amount FROM costs WHERE attempt_id = ANY ($1) ORDER BY attempt_id, id";
pub(super) const EVENTS: &str =
    "SELECT id, at, kind, job_id, item_id, operation_id, data FROM events ORDER BY id DESC LIMIT $1";
/// Read kind by kind, each found by one step in the index: there are few kinds.
macro_rules! events_by_kind {
    ($of:literal) => {
        concat!(
            "WITH RECURSIVE kinds (kind) AS (
                (SELECT kind FROM events WHERE ",
            $of,
            " ORDER BY kind LIMIT 1)
                UNION ALL SELECT (SELECT events.kind FROM events WHERE ",
            $of,
            " AND events.kind > kinds.kind ORDER BY events.kind LIMIT 1) FROM kinds WHERE kinds.kind IS NOT NULL
             )
             SELECT newest.* FROM kinds CROSS JOIN LATERAL (
                SELECT id, at, events.kind, job_id, item_id, operation_id, data FROM events
                WHERE ",
            $of,
            " AND events.kind = kinds.kind ORDER BY id DESC LIMIT $1
             ) AS newest
             WHERE CASE WHEN $3 THEN starts_with(kinds.kind, $2) ELSE kinds.kind = $2 END ORDER BY id DESC LIMIT $1"
        )
    };
}
pub(super) const EVENTS_OF_KIND: &str = events_by_kind!("true");
pub(super) const EVENTS_OF_JOB: &str = events_by_kind!("job_id = $4");

/// An item with its stages. It has the outputs of at most `bytes_max` bytes, and the output of the stage named `stage`.
pub(super) async fn item(
    tx: &Tx<'_>,
    job: JobId,
    key: &str,
    bytes_max: i64,
    stage: Option<&str>,
) -> Result<Option<ItemDetail>, Fail> {
    let stages = stages(tx, job).await?;
    let all = stages.iter().fold(0, |mask, stage| mask | stage.id.bit().mask());
    let Some(found) = tx.query_opt(ITEM, &[&job.0, &key]).await? else { return Ok(None) };
    let row = read_item(&found, all);
    let keys: Vec<i64> = stages.iter().map(|stage| StageKey::new(row.id, stage.id.bit()).0).collect();
    let named = stages.iter().position(|known| Some(known.name.as_str()) == stage).map(|place| keys[place]);
    let settled = tx.query(SETTLED, &[&keys, &bytes_max, &named]).await?;
    let queued = tx.query(QUEUED, &[&keys]).await?;
    let mut details = Vec::with_capacity(stages.len());
    let mut heads = Vec::new();
    for (stage, key) in stages.iter().zip(&keys) {
        let settled = settled.iter().find(|row| row.get::<_, i64>(11) == *key);
        let queued = queued.iter().find(|row| row.get::<_, i64>(6) == *key);
        let (detail, head) = stage_detail(stage, &row, &stages, settled, queued)?;
        details.push(detail);
        heads.extend(head.map(|head| (head, *key)));
    }
    let mut attempts = chains(tx, heads).await?;
    for (detail, key) in details.iter_mut().zip(&keys) {
        detail.attempts = attempts.remove(key).unwrap_or_default();
    }
    let sightings = tx.query(SIGHTINGS, &[&row.id.0]).await?.iter().map(sighting).collect::<Result<_, Fail>>()?;
    let priority: i64 = found.get(11);
    Ok(Some(ItemDetail { row, data: found.get(10), priority: priority as i32, sightings, stages: details }))
}

fn sighting(row: &Row) -> Result<Sighting, Fail> {
    Ok(Sighting { source: row.get(0), cursor: row.get(1), at: Timestamp(row.get(2)), data_hash: digest(row.get(3))? })
}

/// The state of a stage, and its newest attempt.
fn stage_detail(
    stage: &Stage,
    item: &ItemRow,
    stages: &[Stage],
    settled: Option<&Row>,
    queued: Option<&Row>,
) -> Result<(ItemStageDetail, Option<i64>), Fail> {
    let mut detail = stage.untouched(item);
    let counters = |row: &Row| {
        let count = |column: usize| row.get::<_, i64>(column) as u32;
        Counters { attempts: count(2), lost: count(3), deferrals: count(4) }
    };
    let mut head = None;
    if let Some(row) = settled {
        detail.state = State::from_code(row.get(0)).unwrap_or(State::Done);
        detail.reason = row.get::<_, Option<i64>>(1).and_then(DeadReason::from_code);
        detail.counters = counters(row);
        detail.settled_at = Some(Timestamp(row.get(5)));
        head = row.get::<_, Option<i64>>(6);
        detail.current = row.get::<_, Option<i64>>(7) == stage.version;
        detail.version = row.get::<_, Option<&[u8]>>(8).map(digest).transpose()?;
        detail.output = row.get(9);
        detail.output_bytes = row.get::<_, Option<i64>>(12).map(|bytes| bytes as u64);
        detail.error = row.get(10);
    }
    if let Some(row) = queued {
        detail.state = State::from_code(row.get(0)).unwrap_or(State::Ready);
        detail.due_at = Some(Timestamp(row.get(1)));
        detail.counters = counters(row);
        head = row.get::<_, Option<i64>>(5).or(head);
    }
    if detail.state == State::Blocked {
        detail.blocked_by = stage.blocked_by(item, stages);
    }
    Ok((detail, head))
}

fn read(row: &Row) -> Result<(i64, AttemptRow), Fail> {
    let attempt = AttemptRow {
        id: AttemptId(row.get(0)),
        item: StageKey(row.get(12)).item(),
        item_key: row.get(1),
        stage: row.get(2),
        outcome: Outcome::from_code(row.get(3)).unwrap_or(Outcome::Lost),
        host: HostId(row.get(4)),
        queued_at: Timestamp(row.get(5)),
        started_at: row.get::<_, Option<i64>>(6).map(Timestamp),
        ended_at: Timestamp(row.get(7)),
        version: row.get::<_, Option<&[u8]>>(8).map(digest).transpose()?.map(|version: Digest| version),
        memory_bytes_max: row.get::<_, Option<i64>>(9).and_then(|bytes| u64::try_from(bytes).ok()),
        error: row.get(10),
        log: row.get(11),
        fence: Fence(row.get(13)),
        charges: Vec::new(),
    };
    Ok((row.get(12), attempt))
}

async fn with_charges(tx: &Tx<'_>, rows: &[Row]) -> Result<Vec<(i64, AttemptRow)>, Fail> {
    let mut attempts = rows.iter().map(read).collect::<Result<Vec<_>, Fail>>()?;
    let ids: Vec<i64> = attempts.iter().map(|(_, attempt)| attempt.id.0).collect();
    let mut charges: HashMap<i64, Vec<(String, f64)>> = HashMap::new();
    for row in tx.query(CHARGES, &[&ids]).await? {
        charges.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    for (_, attempt) in &mut attempts {
        attempt.charges = charges.remove(&attempt.id.0).unwrap_or_default();
    }
    Ok(attempts)
}

async fn chains(tx: &Tx<'_>, heads: Vec<(i64, i64)>) -> Result<HashMap<i64, Vec<AttemptRow>>, Fail> {
    let mut chains: HashMap<i64, Vec<AttemptRow>> = HashMap::new();
    if heads.is_empty() {
        return Ok(chains);
    }
    let (heads, keys): (Vec<i64>, Vec<i64>) = heads.into_iter().unzip();
    let rows = tx.query(CHAINS, &[&heads, &keys, &CHAIN_MAX]).await?;
    for (key, attempt) in with_charges(tx, &rows).await? {
        chains.entry(key).or_default().push(attempt);
    }
    Ok(chains)
}

/// The newest attempts of a job. An index finds those with another outcome than done. An index of all would cost the
/// loop too much, so the others are searched from the newest on.
pub(super) async fn attempts(tx: &Tx<'_>, filter: &AttemptsFilter) -> Result<Vec<AttemptRow>, Fail> {
    let is_done = filter.outcome.is_none_or(|outcome| outcome == Outcome::Done);
    let newest = if is_done { NEWEST } else { NEWEST_NOT_DONE };
    let (stage, outcome) = (filter.stage.map(|stage| stage.0), filter.outcome.map(Outcome::code));
    let rows = tx.query(newest, &[&filter.job.0, &stage, &outcome, &i64::from(filter.limit)]).await?;
    Ok(with_charges(tx, &rows).await?.into_iter().map(|(_, attempt)| attempt).collect())
}

/// The newest events. A kind that ends in a dot means all kinds that begin with it.
pub(super) async fn events(tx: &Tx<'_>, filter: &EventsFilter) -> Result<Vec<EventRow>, Fail> {
    let EventsFilter { job, kind, limit } = filter;
    let limit = i64::from(*limit);
    let (family, kind) = (kind.as_deref().is_none_or(|kind| kind.ends_with('.')), kind.as_deref().unwrap_or_default());
    let rows = match job {
        None if filter.kind.is_none() => tx.query(EVENTS, &[&limit]).await?,
        None => tx.query(EVENTS_OF_KIND, &[&limit, &kind, &family]).await?,
        Some(job) => tx.query(EVENTS_OF_JOB, &[&limit, &kind, &family, &job.0]).await?,
    };
    let read = |row: &Row| EventRow {
        id: row.get(0),
        at: Timestamp(row.get(1)),
        kind: row.get(2),
        job: row.get::<_, Option<i64>>(3).map(JobId),
        item: row.get::<_, Option<i64>>(4).map(ItemId),
        operation: row.get::<_, Option<i64>>(5).map(OperationId),
        data: row.get(6),
    };
    Ok(rows.iter().map(read).collect())
}
