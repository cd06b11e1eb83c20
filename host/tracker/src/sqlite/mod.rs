//! The tracker in one SQLite file.
//!
//! Owns a data folder: one host writes it, by one thread, and any number of processes read it. Never decides anything:
//! the traits say what each operation means.

mod ceiling;
mod history;
mod history_rows;
mod items;
mod jobs;
mod leases;
mod open;
mod reader;
mod round;
mod session;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;

use gristmill_model::{HostId, ItemId, JobId, OperationId, StageId, StageKey, Timestamp};

pub use self::ceiling::Ceiling;
pub use self::history_rows::History;
use self::open::{HostLock, open_for_writing};
pub use self::reader::SqliteReader;
use self::writer::Writer;
use crate::records::{
    AttemptRow, AttemptsFilter, Cancel, Cancelled, DeadFilter, DeadRow, EventRow, EventsFilter, Examination, Expired,
    ExpiredPage, HostInfo, ItemDetail, ItemRow, ItemsFilter, JobRegistration, JobRow, JobStats, KnownItem, Lost,
    NewEvent, OperationRow, OperationState, Outlook, Prune, Reap, Redrive, RegisteredJob, Release, ResultRow, Round,
    RoundDone, Upsert, Upserted,
};
use crate::tables::{Row, Sequences, Table};
use crate::{BoxFuture, Error, Reader, Tracker};

/// How safe a commit is from a power cut. `kill -9` loses nothing with either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// What was committed survives a power cut.
    #[default]
    Full,
    /// The last moments before a power cut may be lost; the file stays whole.
    Normal,
}

/// How to open a tracker.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqliteOptions {
    /// How safe a commit is.
    pub synchronous: Synchronous,
}

/// The tracker of the one host that runs a data folder.
pub struct SqliteTracker {
    reader: SqliteReader,
    // Before the lock: whatever waits is written before another host may come.
    writer: Writer,
    _lock: HostLock,
}

impl SqliteTracker {
    /// Opens a data folder for a host: makes it if it is not there, takes its lock, and migrates its database.
    ///
    /// # Errors
    /// If another host runs there, or the file is not ours, damaged, newer, or cannot be written.
    pub fn open(data: &Path, options: SqliteOptions, now: Timestamp) -> Result<Self, Error> {
        let lock = HostLock::take(data)?;
        let writer = Writer::start(open_for_writing(data, options, now)?)?;
        let reader = SqliteReader::open(data)?;
        Ok(Self { reader, writer, _lock: lock })
    }
}

impl Reader for SqliteTracker {
    fn jobs(&self) -> BoxFuture<'_, Vec<JobRow>> {
        self.reader.jobs()
    }

    fn stats(&self, job: JobId) -> BoxFuture<'_, JobStats> {
        self.reader.stats(job)
    }

    fn items(&self, filter: ItemsFilter) -> BoxFuture<'_, Vec<ItemRow>> {
        self.reader.items(filter)
    }

    fn item<'a>(&'a self, job: JobId, key: &'a str) -> BoxFuture<'a, Option<ItemDetail>> {
        self.reader.item(job, key)
    }

    fn results(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ResultRow>> {
        self.reader.results(stage, after, limit)
    }

    fn attempts(&self, filter: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>> {
        self.reader.attempts(filter)
    }

    fn outlook(&self) -> BoxFuture<'_, Outlook> {
        self.reader.outlook()
    }

    fn known(&self, job: JobId, keys: Vec<String>) -> BoxFuture<'_, Vec<KnownItem>> {
        self.reader.known(job, keys)
    }

    fn dead(&self, filter: DeadFilter, after: StageKey, limit: u32) -> BoxFuture<'_, Vec<DeadRow>> {
        self.reader.dead(filter, after, limit)
    }

    fn count_dead(&self, filter: DeadFilter) -> BoxFuture<'_, u64> {
        self.reader.count_dead(filter)
    }

    fn outdated(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ItemId>> {
        self.reader.outdated(stage, after, limit)
    }

    fn operations(&self, job: Option<JobId>, limit: u32) -> BoxFuture<'_, Vec<OperationRow>> {
        self.reader.operations(job, limit)
    }

    fn events(&self, filter: EventsFilter) -> BoxFuture<'_, Vec<EventRow>> {
        self.reader.events(filter)
    }

    fn expired(&self, expired: Expired) -> BoxFuture<'_, ExpiredPage> {
        self.reader.expired(expired)
    }

    fn examine(&self) -> BoxFuture<'_, Examination> {
        self.reader.examine()
    }

    fn export(&self, table: &'static Table, after: Option<Row>, limit: u32) -> BoxFuture<'_, Vec<Row>> {
        self.reader.export(table, after, limit)
    }

    fn sequences(&self) -> BoxFuture<'_, Sequences> {
        self.reader.sequences()
    }
}

impl Tracker for SqliteTracker {
    fn register_host(&self, host: HostInfo) -> BoxFuture<'_, HostId> {
        Box::pin(self.writer.submit(move |session| leases::register_host(session, &host)))
    }

    fn heartbeat(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, bool> {
        Box::pin(self.writer.submit(move |session| leases::heartbeat(session, host, now)))
    }

    fn retire_host(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(self.writer.submit(move |session| leases::retire_host(session, host, now)))
    }

    fn register_job(&self, job: JobRegistration) -> BoxFuture<'_, RegisteredJob> {
        Box::pin(self.writer.submit(move |session| jobs::register(session, &job)))
    }

    fn reconcile(&self, job: JobId, after: ItemId, limit: u32, now: Timestamp) -> BoxFuture<'_, Option<ItemId>> {
        Box::pin(self.writer.submit(move |session| items::reconcile(session, job, after, limit, now)))
    }

    fn upsert(&self, batch: Upsert) -> BoxFuture<'_, Upserted> {
        Box::pin(self.writer.submit(move |session| items::upsert(session, &batch)))
    }

    fn round(&self, round: Round) -> BoxFuture<'_, RoundDone> {
        Box::pin(self.writer.submit(move |session| round::round(session, &round)))
    }

    fn release(&self, releases: Vec<Release>) -> BoxFuture<'_, u64> {
        Box::pin(self.writer.submit(move |session| leases::release(session, &releases)))
    }

    fn reap(&self, reap: Reap) -> BoxFuture<'_, Lost> {
        Box::pin(self.writer.submit(move |session| leases::reap(session, &reap)))
    }

    fn promote(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, u64> {
        Box::pin(self.writer.submit(move |session| leases::promote(session, now, limit)))
    }

    fn cancel(&self, _: Cancel) -> BoxFuture<'_, Cancelled> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn begin_redrive(&self, _: Redrive) -> BoxFuture<'_, OperationRow> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn step_operation(&self, _: OperationId, _: u32, _: Timestamp) -> BoxFuture<'_, OperationRow> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn set_operation(&self, _: OperationId, _: OperationState, _: String, _: Timestamp) -> BoxFuture<'_, OperationRow> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn record_event(&self, _: NewEvent) -> BoxFuture<'_, ()> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn prune(&self, _: Prune) -> BoxFuture<'_, u64> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn rebuild(&self, _: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn import(&self, _: &'static Table, _: Vec<Row>) -> BoxFuture<'_, ()> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn set_sequences(&self, _: Sequences) -> BoxFuture<'_, ()> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn changed_elsewhere(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}
