//! Reading, beside the writer.
//!
//! Owns a small pool of connections that cannot write. In WAL mode they never wait for the writer, nor it for them.
//! Every list is bounded by its caller, and nothing is counted by rows.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gristmill_model::{ItemId, JobId, StageId, StageKey, Timestamp};
use rusqlite::Connection;

use super::blobs::Blobs;
use super::open::open_for_reading;
use super::{dead, detail, examine, history, lists, moving, operations, prune, stats};
use crate::records::{
    AttemptRow, AttemptsFilter, DeadFilter, DeadRow, EventRow, EventsFilter, Examination, Expired, ExpiredPage,
    ItemDetail, ItemRow, ItemsFilter, JobRow, JobStats, KnownItem, OperationRow, Outlook, Outputs, ResultRow,
};
use crate::tables::{Row, Sequences, Table};
use crate::{BoxFuture, Error, Reader};

/// How many idle connections are kept.
const POOL_MAX: usize = 4;

/// Reads a tracker that another process, or this one, may be writing.
#[derive(Debug)]
pub struct SqliteReader {
    data: PathBuf,
    blobs: Blobs,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteReader {
    /// Opens the tracker of a data folder, to read alone.
    ///
    /// # Errors
    /// If there is none, or it is not ours, or it is newer than this program.
    pub fn open(data: &Path) -> Result<Self, Error> {
        let first = open_for_reading(data)?;
        Ok(Self { data: data.to_owned(), blobs: Blobs::of(data), idle: Mutex::new(vec![first]) })
    }

    fn with<T>(&self, read: impl Fn(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // It was there when the first one was opened.
        let again = || {
            open_for_reading(&self.data).map_err(|error| match error {
                Error::Missing(path) => Error::Gone(path),
                other => other,
            })
        };
        let connection = idle.map_or_else(again, Ok)?;
        let result = match read(&connection) {
            // Its row may have been replaced, and its file swept, between the two looks.
            Err(Error::Blob(_)) => read(&connection),
            result => result,
        };
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
        Box::pin(async { self.with(stats::jobs) })
    }

    fn stats(&self, job: JobId) -> BoxFuture<'_, JobStats> {
        Box::pin(async move { self.with(|connection| stats::stats(connection, job)) })
    }

    fn items(&self, filter: ItemsFilter) -> BoxFuture<'_, Vec<ItemRow>> {
        Box::pin(async move { self.with(|connection| lists::items(connection, &filter)) })
    }

    fn item_with<'a>(&'a self, job: JobId, key: &'a str, outputs: Outputs<'a>) -> BoxFuture<'a, Option<ItemDetail>> {
        Box::pin(async move { self.with(|connection| detail::item(connection, (&self.blobs, outputs), job, key)) })
    }

    fn results(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ResultRow>> {
        Box::pin(async move { self.with(|connection| lists::results(connection, &self.blobs, stage, after, limit)) })
    }

    fn attempts(&self, filter: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>> {
        Box::pin(async move { self.with(|connection| history::attempts(connection, &filter)) })
    }

    fn outlook(&self) -> BoxFuture<'_, Outlook> {
        Box::pin(async {
            self.with(|connection| {
                let (due, leases): (Option<i64>, i64) =
                    connection.prepare_cached(OUTLOOK)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(Outlook { next_due: due.map(Timestamp), leases: leases as u64 })
            })
        })
    }

    fn known(&self, job: JobId, keys: Vec<String>) -> BoxFuture<'_, Vec<KnownItem>> {
        Box::pin(async move { self.with(|connection| lists::known(connection, job, &keys)) })
    }

    fn dead(&self, filter: DeadFilter, after: StageKey, limit: u32) -> BoxFuture<'_, Vec<DeadRow>> {
        Box::pin(async move { self.with(|connection| dead::dead(connection, &filter, after, limit)) })
    }

    fn count_dead(&self, filter: DeadFilter) -> BoxFuture<'_, u64> {
        Box::pin(async move { self.with(|connection| dead::count(connection, &filter)) })
    }

    fn outdated(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ItemId>> {
        Box::pin(async move { self.with(|connection| lists::outdated(connection, stage, after, limit)) })
    }

    fn operations(&self, job: Option<JobId>, limit: u32) -> BoxFuture<'_, Vec<OperationRow>> {
        Box::pin(async move { self.with(|connection| operations::operations(connection, job, limit)) })
    }

    fn events(&self, filter: EventsFilter) -> BoxFuture<'_, Vec<EventRow>> {
        Box::pin(async move { self.with(|connection| history::events(connection, &filter)) })
    }

    fn expired(&self, expired: Expired) -> BoxFuture<'_, ExpiredPage> {
        Box::pin(async move { self.with(|connection| prune::expired(connection, &self.blobs, &expired)) })
    }

    fn examine(&self) -> BoxFuture<'_, Examination> {
        Box::pin(async { self.with(|connection| examine::examine(connection, &self.blobs)) })
    }

    fn export(&self, table: &'static Table, after: Option<Row>, limit: u32) -> BoxFuture<'_, Vec<Row>> {
        Box::pin(async move {
            self.with(|connection| moving::export(connection, &self.blobs, table, after.as_ref(), limit))
        })
    }

    fn sequences(&self) -> BoxFuture<'_, Sequences> {
        Box::pin(async { self.with(moving::sequences) })
    }
}

pub(super) const OUTLOOK: &str =
    "SELECT (SELECT min(due_at) FROM queue WHERE state = 3), (SELECT count(*) FROM leases)";
