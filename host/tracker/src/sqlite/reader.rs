//! Reading, beside the writer.
//!
//! Owns a small pool of connections that cannot write. In WAL mode they never wait for the writer, nor it for them.
//! Every list is bounded by its caller, and nothing is counted by rows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gristmill_model::{
    Bits, Counters, DeadReason, Digest, ItemId, ItemStatus, JobId, Masks, StageId, StageKey, State, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};

use super::history::{attempts, chain};
use super::open::open_for_reading;
use super::session::status_code;
use crate::records::{
    AttemptRow, AttemptsFilter, DeadFilter, DeadRow, EventRow, EventsFilter, Examination, Expired, ExpiredPage,
    ItemDetail, ItemRow, ItemStageDetail, ItemsFilter, JobRow, JobStats, KnownItem, OperationRow, Outlook, ResultRow,
    StageStats,
};
use crate::tables::{Row as TableRow, Sequences, Table};
use crate::{BoxFuture, Error, Reader};

/// How many idle connections are kept.
const POOL_MAX: usize = 4;

/// Reads a tracker that another process, or this one, may be writing.
#[derive(Debug)]
pub struct SqliteReader {
    data: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteReader {
    /// Opens the tracker of a data folder, to read alone.
    ///
    /// # Errors
    /// If there is none, or it is not ours, or it is newer than this program.
    pub fn open(data: &Path) -> Result<Self, Error> {
        let first = open_for_reading(data)?;
        Ok(Self { data: data.to_owned(), idle: Mutex::new(vec![first]) })
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = idle.map_or_else(|| open_for_reading(&self.data), Ok)?;
        let result = read(&connection);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < POOL_MAX {
            idle.push(connection);
        }
        result
    }
}

// A read is a few index look-ups: it runs where it is asked for, and the future is there at once.
impl Reader for SqliteReader {
    fn jobs(&self) -> BoxFuture<'_, Vec<JobRow>> {
        Box::pin(async { self.with(jobs) })
    }

    fn stats(&self, job: JobId) -> BoxFuture<'_, JobStats> {
        Box::pin(async move { self.with(|connection| stats(connection, job)) })
    }

    fn items(&self, filter: ItemsFilter) -> BoxFuture<'_, Vec<ItemRow>> {
        Box::pin(async move { self.with(|connection| items(connection, &filter)) })
    }

    fn item<'a>(&'a self, job: JobId, key: &'a str) -> BoxFuture<'a, Option<ItemDetail>> {
        Box::pin(async move { self.with(|connection| item(connection, job, key)) })
    }

    fn results(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ResultRow>> {
        Box::pin(async move { self.with(|connection| results(connection, stage, after, limit)) })
    }

    fn attempts(&self, filter: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>> {
        Box::pin(async move { self.with(|connection| attempts(connection, &filter)) })
    }

    fn outlook(&self) -> BoxFuture<'_, Outlook> {
        Box::pin(async {
            self.with(|connection| {
                let (due, leases): (Option<i64>, i64) = connection
                    .prepare_cached(
                        "SELECT (SELECT min(due_at) FROM queue WHERE state = 3), (SELECT count(*) FROM leases)",
                    )?
                    .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(Outlook { next_due: due.map(Timestamp), leases: leases as u64 })
            })
        })
    }

    fn known(&self, _: JobId, _: Vec<String>) -> BoxFuture<'_, Vec<KnownItem>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn dead(&self, _: DeadFilter, _: StageKey, _: u32) -> BoxFuture<'_, Vec<DeadRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn count_dead(&self, _: DeadFilter) -> BoxFuture<'_, u64> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn outdated(&self, _: StageId, _: ItemId, _: u32) -> BoxFuture<'_, Vec<ItemId>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn operations(&self, _: Option<JobId>, _: u32) -> BoxFuture<'_, Vec<OperationRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn events(&self, _: EventsFilter) -> BoxFuture<'_, Vec<EventRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn expired(&self, _: Expired) -> BoxFuture<'_, ExpiredPage> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn examine(&self) -> BoxFuture<'_, Examination> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn export(&self, _: &'static Table, _: Option<TableRow>, _: u32) -> BoxFuture<'_, Vec<TableRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn sequences(&self) -> BoxFuture<'_, Sequences> {
        Box::pin(async { Err(Error::Stopped) })
    }
}

fn jobs(connection: &Connection) -> Result<Vec<JobRow>, Error> {
    let names: Vec<(i64, String)> = connection
        .prepare_cached("SELECT id, name FROM jobs ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut jobs = Vec::with_capacity(names.len());
    for (id, name) in names {
        let stages = stages(connection, JobId(id))?.into_iter().map(|stage| (stage.id, stage.name)).collect();
        jobs.push(JobRow { id: JobId(id), name, stages });
    }
    Ok(jobs)
}

struct Stage {
    id: StageId,
    name: String,
    needs: u64,
    version: Option<i64>,
    digest: Option<Digest>,
}

fn stages(connection: &Connection, job: JobId) -> Result<Vec<Stage>, Error> {
    let stages = connection
        .prepare_cached(
            "SELECT stages.id, name, needs, version_id, digest FROM stages
             LEFT JOIN versions ON versions.id = stages.version_id
             WHERE job_id = ?1 AND retired_at IS NULL ORDER BY place",
        )?
        .query_map([job.0], |row| {
            Ok(Stage {
                id: StageId(row.get(0)?),
                name: row.get(1)?,
                needs: row.get::<_, i64>(2)? as u64,
                version: row.get(3)?,
                digest: row.get::<_, Option<[u8; 32]>>(4)?.map(Digest),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(stages)
}

fn stats(connection: &Connection, job: JobId) -> Result<JobStats, Error> {
    let mut stats = JobStats::default();
    let by_status: HashMap<i64, i64> = connection
        .prepare_cached("SELECT status, n FROM item_counts WHERE job_id = ?1")?
        .query_map([job.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for status in ItemStatus::ALL {
        let n = by_status.get(&status_code(status)).copied().unwrap_or(0);
        stats.items.insert(status, u64::try_from(n).unwrap_or(0));
    }
    for stage in stages(connection, job)? {
        let states = connection
            .prepare_cached("SELECT state, n FROM stage_counts WHERE stage_id = ?1 AND n > 0")?
            .query_map([stage.id.0], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)? as u64)))?
            .filter_map(|row| row.map(|(code, n)| State::from_code(code).map(|state| (state, n))).transpose())
            .collect::<Result<_, _>>()?;
        let other_versions: i64 = connection
            .prepare_cached(
                "SELECT coalesce(sum(n), 0) FROM versions JOIN version_counts ON version_id = versions.id
                 WHERE stage_id = ?1 AND versions.id IS NOT ?2",
            )?
            .query_row((stage.id.0, stage.version), |row| row.get(0))?;
        stats.stages.push(StageStats {
            id: stage.id,
            name: stage.name,
            version: stage.digest,
            other_versions: u64::try_from(other_versions).unwrap_or(0),
            states,
        });
    }
    stats.charges = connection
        .prepare_cached(
            "SELECT meter, sum(amount) FROM cost_rollups WHERE stage_id >> 6 = ?1 GROUP BY meter ORDER BY meter",
        )?
        .query_map([job.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(stats)
}

const ITEM_COLUMNS: &str =
    "id, key, done, skipped, dead, live, stale, cancelled_at IS NOT NULL, discovered_at, changed_at";

fn read_item(row: &Row<'_>, all: u64) -> rusqlite::Result<ItemRow> {
    let mask = |column| row.get::<_, i64>(column).map(|bits| bits as u64);
    let masks = Masks { done: mask(2)?, skipped: mask(3)?, dead: mask(4)?, live: mask(5)?, stale: mask(6)? };
    Ok(ItemRow {
        id: ItemId(row.get(0)?),
        key: row.get(1)?,
        status: ItemStatus::of(masks, all, row.get(7)?),
        masks,
        discovered_at: Timestamp(row.get(8)?),
        changed_at: Timestamp(row.get(9)?),
    })
}

/// The status of an item, as SQL. `?2` is the mask of all stages. It says the same as `ItemStatus::of`, and a test
/// compares the two over all small masks.
pub(crate) const STATUS_CASE: &str = "CASE
    WHEN cancelled_at IS NOT NULL THEN 5
    WHEN (done | skipped) & ~stale & ?2 = ?2 THEN 1
    WHEN live & ?2 <> 0 THEN 2
    WHEN dead & ?2 <> 0 THEN 3
    ELSE 4 END";

fn items(connection: &Connection, filter: &ItemsFilter) -> Result<Vec<ItemRow>, Error> {
    let all = stages(connection, filter.job)?.iter().fold(0, |mask, stage| mask | stage.id.bit().mask());
    // A failed item is found by the small index of dead stages, whatever the number of items.
    let hint = if filter.status == Some(ItemStatus::Failed) { "AND dead <> 0" } else { "" };
    let sql = format!(
        "SELECT {ITEM_COLUMNS} FROM items
         WHERE job_id = ?1 AND id > ?3 AND (?4 IS NULL OR {STATUS_CASE} = ?4) AND substr(key, 1, length(?5)) = ?5 {hint}
         ORDER BY id LIMIT ?6"
    );
    let status = filter.status.map(status_code);
    let parameters: [&dyn ToSql; 6] =
        [&filter.job.0, &(all as i64), &filter.after.0, &status, &filter.prefix, &filter.limit];
    let rows =
        connection.prepare_cached(&sql)?.query_map(parameters, |row| read_item(row, all))?.collect::<Result<_, _>>()?;
    Ok(rows)
}

fn results(connection: &Connection, stage: StageId, after: ItemId, limit: u32) -> Result<Vec<ResultRow>, Error> {
    let rows = connection
        .prepare_cached(
            "SELECT items.id, items.key, output FROM items
             JOIN item_stages ON item_stages.key = items.id << 6 | ?2
             WHERE job_id = ?1 AND items.id > ?3 AND state = 4 ORDER BY items.id LIMIT ?4",
        )?
        .query_map((stage.job().0, stage.bit().0, after.0, limit), |row| {
            Ok(ResultRow { item: ItemId(row.get(0)?), item_key: row.get(1)?, output: row.get(2)? })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn item(connection: &Connection, job: JobId, key: &str) -> Result<Option<ItemDetail>, Error> {
    let stages = stages(connection, job)?;
    let all = stages.iter().fold(0, |mask, stage| mask | stage.id.bit().mask());
    let found = connection
        .prepare_cached(&format!("SELECT {ITEM_COLUMNS}, data, priority FROM items WHERE job_id = ?1 AND key = ?2"))?
        .query_row((job.0, key), |row| Ok((read_item(row, all)?, row.get(10)?, row.get(11)?)))
        .optional()?;
    let Some((row, data, priority)) = found else { return Ok(None) };
    let details =
        stages.iter().map(|stage| stage_detail(connection, stage, &row, &stages)).collect::<Result<_, _>>()?;
    Ok(Some(ItemDetail { row, data, priority, sightings: Vec::new(), stages: details }))
}

fn stage_detail(
    connection: &Connection,
    stage: &Stage,
    item: &ItemRow,
    stages: &[Stage],
) -> Result<ItemStageDetail, Error> {
    let key = StageKey::new(item.id, stage.id.bit());
    let settled_needs = item.masks.fresh() & !item.masks.live;
    let mut detail = ItemStageDetail {
        name: stage.name.clone(),
        state: if item.status == ItemStatus::Cancelled { State::Cancelled } else { State::Blocked },
        reason: None,
        due_at: None,
        settled_at: None,
        counters: Counters::default(),
        version: None,
        current: false,
        output: None,
        error: None,
        blocked_by: Vec::new(),
        attempts: Vec::new(),
    };
    let mut last_attempt = settled(connection, key, stage, &mut detail)?;
    last_attempt = queued(connection, key, &mut detail)?.or(last_attempt);
    if detail.state == State::Blocked {
        let name_of = |bit| stages.iter().find(|other| other.id.bit() == bit).map(|other| other.name.clone());
        detail.blocked_by = Bits(stage.needs & !settled_needs).filter_map(name_of).collect();
    }
    if let Some(head) = last_attempt {
        detail.attempts = chain(connection, head)?;
    }
    Ok(detail)
}

/// Fills in the latest settled outcome; returns its last attempt.
fn settled(
    connection: &Connection,
    key: StageKey,
    stage: &Stage,
    detail: &mut ItemStageDetail,
) -> Result<Option<i64>, Error> {
    let row = connection
        .prepare_cached(
            "SELECT state, reason, attempts, lost, deferrals, settled_at, last_attempt, version_id, digest, output, error
             FROM item_stages LEFT JOIN versions ON versions.id = version_id WHERE key = ?1",
        )?
        .query_row([key.0], |row| {
            detail.state = State::from_code(row.get(0)?).unwrap_or(State::Done);
            detail.reason = row.get::<_, Option<i64>>(1)?.and_then(DeadReason::from_code);
            detail.counters = Counters { attempts: row.get(2)?, lost: row.get(3)?, deferrals: row.get(4)? };
            detail.settled_at = Some(Timestamp(row.get(5)?));
            detail.current = row.get::<_, Option<i64>>(7)? == stage.version;
            detail.version = row.get::<_, Option<[u8; 32]>>(8)?.map(Digest);
            detail.output = row.get(9)?;
            detail.error = row.get(10)?;
            row.get(6)
        })
        .optional()?;
    Ok(row.flatten())
}

/// Fills in the queue's side; returns the last attempt of a row that is there and has one.
fn queued(connection: &Connection, key: StageKey, detail: &mut ItemStageDetail) -> Result<Option<i64>, Error> {
    let row = connection
        .prepare_cached("SELECT state, due_at, attempts, lost, deferrals, last_attempt FROM queue WHERE key = ?1")?
        .query_row([key.0], |row| {
            detail.state = State::from_code(row.get(0)?).unwrap_or(State::Ready);
            detail.due_at = Some(Timestamp(row.get(1)?));
            detail.counters = Counters { attempts: row.get(2)?, lost: row.get(3)?, deferrals: row.get(4)? };
            row.get(5)
        })
        .optional()?;
    Ok(row.flatten())
}
