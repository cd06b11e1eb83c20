//! Reads a tracker beside the writer.
//!
//! Owns what each method of `Reader` reads. The connections cannot write; in WAL mode they never wait for the writer,
//! nor it for them. The caller bounds every list. Never counts rows.

use std::path::Path;

use gristmill_model::{Digest, ItemId, JobId, OperationId, StageId, StageKey, Timestamp};
use rusqlite::Connection;

use super::blobs::Blobs;
use super::readers::Readers;
use super::{components, dead, detail, examine, history, lists, moving, operations, prune, stats};
use crate::fail::Fail;
use gristmill_tracker::records::{
    AttemptRow, AttemptsFilter, DeadFilter, DeadRow, EventRow, EventsFilter, Examination, Expired, ExpiredPage,
    ItemDetail, ItemRow, ItemsFilter, JobRow, JobStats, KnownItem, OperationRow, Outlook, Outputs, ResultRow,
};
use gristmill_tracker::tables::{Row, Sequences, Table};
use gristmill_tracker::{BoxFuture, Error, Reader};

/// A reader of a tracker that this process or another one may be writing.
pub struct SqliteReader {
    threads: Readers,
}

impl SqliteReader {
    /// Opens the tracker of a data folder, only for reading.
    ///
    /// # Errors
    /// If there is none, or it is not ours, or it is newer than this program; or if the system refuses a thread.
    pub fn open(data: &Path) -> Result<Self, Error> {
        Ok(Self { threads: Readers::start(data)? })
    }

    /// Has a thread read. It reads again if the file of an output or a component is gone: its row may have been
    /// replaced, and its file swept, between the two looks.
    fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&Connection, &Blobs) -> Result<T, Fail> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        Box::pin(self.threads.ask(move |connection, blobs| match read(connection, blobs) {
            Err(Fail(Error::Blob(_) | Error::Component(_))) => read(connection, blobs),
            result => result,
        }))
    }
}

impl Reader for SqliteReader {
    fn jobs(&self) -> BoxFuture<'_, Vec<JobRow>> {
        self.read(|connection, _| stats::jobs(connection))
    }

    fn stats(&self, job: JobId) -> BoxFuture<'_, JobStats> {
        self.read(move |connection, _| stats::stats(connection, job))
    }

    fn items(&self, filter: ItemsFilter) -> BoxFuture<'_, Vec<ItemRow>> {
        self.read(move |connection, _| lists::items(connection, &filter))
    }

    fn item_with<'a>(&'a self, job: JobId, key: &'a str, outputs: Outputs) -> BoxFuture<'a, Option<ItemDetail>> {
        let key = key.to_owned();
        self.read(move |connection, blobs| detail::item(connection, (blobs, &outputs), job, &key))
    }

    fn results(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ResultRow>> {
        self.read(move |connection, blobs| lists::results(connection, blobs, stage, after, limit))
    }

    fn attempts(&self, filter: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>> {
        self.read(move |connection, _| history::attempts(connection, &filter))
    }

    fn outlook(&self) -> BoxFuture<'_, Outlook> {
        self.read(|connection, _| {
            let (due, leases): (Option<i64>, i64) =
                connection.prepare_cached(OUTLOOK)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(Outlook { next_due: due.map(Timestamp), leases: leases as u64 })
        })
    }

    fn known(&self, job: JobId, keys: Vec<String>) -> BoxFuture<'_, Vec<KnownItem>> {
        self.read(move |connection, _| lists::known(connection, job, &keys))
    }

    fn dead(&self, filter: DeadFilter, after: StageKey, limit: u32) -> BoxFuture<'_, Vec<DeadRow>> {
        self.read(move |connection, _| dead::dead(connection, &filter, after, limit))
    }

    fn count_dead(&self, filter: DeadFilter) -> BoxFuture<'_, u64> {
        self.read(move |connection, _| dead::count(connection, &filter))
    }

    fn outdated(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ItemId>> {
        self.read(move |connection, _| lists::outdated(connection, stage, after, limit))
    }

    fn operations(&self, job: Option<JobId>, limit: u32) -> BoxFuture<'_, Vec<OperationRow>> {
        self.read(move |connection, _| operations::operations(connection, job, limit))
    }

    fn operation(&self, id: OperationId) -> BoxFuture<'_, Option<OperationRow>> {
        self.read(move |connection, _| operations::one(connection, id))
    }

    fn component(&self, hash: Digest) -> BoxFuture<'_, Option<Vec<u8>>> {
        self.read(move |connection, blobs| components::read(connection, blobs, hash))
    }

    fn events(&self, filter: EventsFilter) -> BoxFuture<'_, Vec<EventRow>> {
        self.read(move |connection, _| history::events(connection, &filter))
    }

    fn expired(&self, expired: Expired) -> BoxFuture<'_, ExpiredPage> {
        self.read(move |connection, blobs| prune::expired(connection, blobs, &expired))
    }

    fn examine(&self) -> BoxFuture<'_, Examination> {
        self.read(examine::examine)
    }

    fn export(&self, table: &'static Table, after: Option<Row>, limit: u32) -> BoxFuture<'_, Vec<Row>> {
        self.read(move |connection, blobs| moving::export(connection, blobs, table, after.as_ref(), limit))
    }

    fn sequences(&self) -> BoxFuture<'_, Sequences> {
        self.read(|connection, _| moving::sequences(connection))
    }
}

pub(super) const OUTLOOK: &str =
    "SELECT (SELECT min(due_at) FROM queue WHERE state = 3), (SELECT count(*) FROM leases)";
