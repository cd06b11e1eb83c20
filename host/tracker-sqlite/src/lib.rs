//! The tracker in one SQLite file.
//!
//! Owns a data folder. One thread of one host writes it, and any number of processes read it. Never decides what an
//! operation means: the traits do.

mod backup;
mod blobs;
mod cancel;
mod ceiling;
mod claim;
mod components;
mod dead;
mod detail;
mod examine;
mod expired;
mod fail;
mod folder;
mod history;
mod history_rows;
mod hot;
mod items;
mod jobs;
mod leases;
mod lists;
mod moving;
mod open;
mod operations;
mod prune;
mod reader;
mod readers;
mod rebuild;
mod reconcile;
mod round;
mod schema;
mod session;
mod stats;
#[cfg(test)]
mod tests;
mod wait;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use gristmill_model::{Digest, HostId, ItemId, JobId, OperationId, StageId, StageKey, Timestamp};
use rusqlite::Connection;

pub use self::backup::{backup, restore};
use self::blobs::Blobs;
pub use self::ceiling::ceiling;
use self::fail::Fail;
pub use self::history_rows::History;
use self::open::HostLock;
pub use self::reader::SqliteReader;
use self::writer::Writer;
use gristmill_tracker::records::{
    AttemptRow, AttemptsFilter, Cancel, Cancelled, DeadFilter, DeadRow, EventRow, EventsFilter, Examination, Expired,
    ExpiredPage, HostInfo, ItemDetail, ItemRow, ItemsFilter, JobRegistration, JobRow, JobStats, KnownItem, Lost,
    NewEvent, OperationRow, OperationState, Outlook, Outputs, Prune, Reap, Redrive, RegisteredJob, Release, Restart,
    ResultRow, Round, RoundDone, Swept, Upsert, Upserted,
};
use gristmill_tracker::rules::events::Event;
use gristmill_tracker::tables::{Row, Sequences, Table};
use gristmill_tracker::{BoxFuture, ComponentBytes, Error, Operating, Reader, Rounds, Upkeep};

/// How durable a commit is in a power cut. `kill -9` loses nothing in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Everything committed survives a power cut.
    #[default]
    Full,
    /// Commits of the last moments before a power cut may be lost; the file stays undamaged.
    Normal,
}

/// How to open a tracker.
#[derive(Clone, Copy, Debug)]
pub struct SqliteOptions {
    /// How durable a commit is.
    pub synchronous: Synchronous,
    /// How long a write waits for another process that holds the database.
    pub patience: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { synchronous: Synchronous::default(), patience: Duration::from_secs(300) }
    }
}

/// How often to check whether another process wrote.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The tracker of the one host that runs a data folder, or of a person's command beside it.
pub struct SqliteTracker {
    data: PathBuf,
    reader: SqliteReader,
    // Before the lock, so that it is dropped first: everything waiting is written before another host may start.
    writer: Writer,
    /// None if the tracker was opened beside a host.
    lock: Option<HostLock>,
    /// The data version at the last check, to notice writes of other processes.
    seen_version: AtomicI64,
    /// Device and inode of the opened file, to notice that it was removed or replaced.
    opened: Option<(u64, u64)>,
}

impl SqliteTracker {
    /// Opens a data folder for a host: creates it if needed, takes its lock, and migrates its database.
    ///
    /// # Errors
    /// If another host runs there, or the file is not ours, damaged, newer, or cannot be written.
    pub fn open(data: &Path, options: SqliteOptions, now: Timestamp) -> Result<Self, Error> {
        let lock = HostLock::take(data)?;
        Self::start(data, open::open_for_writing(data, options, now)?, options, Some(lock))
    }

    /// Opens a data folder for a person's command, while a host may be writing it. Takes no lock, and migrates only if
    /// no host runs.
    ///
    /// # Errors
    /// As `open`, and `Older` if a host runs that is older than this program.
    pub fn open_beside(data: &Path, options: SqliteOptions, now: Timestamp) -> Result<Self, Error> {
        Self::start(data, open::open_beside(data, options, now)?, options, None)
    }

    fn start(
        data: &Path,
        connection: Connection,
        options: SqliteOptions,
        lock: Option<HostLock>,
    ) -> Result<Self, Error> {
        let version = connection.pragma_query_value(None, "data_version", |row| row.get(0)).map_err(Fail::from)?;
        let seen_version = AtomicI64::new(version);
        let writer = Writer::start(connection, Blobs::of(data), lock.is_none(), options.patience)?;
        let reader = SqliteReader::open(data)?;
        let opened = open::identity(&open::database(data))?;
        Ok(Self { data: data.to_owned(), reader, writer, lock, seen_version, opened })
    }

    /// Fails if the opened database was removed or replaced: SQLite would go on writing into a file without a name.
    fn expect_file(&self) -> Result<(), Error> {
        let path = open::database(&self.data);
        if open::identity(&path)? == self.opened { Ok(()) } else { Err(Error::Gone(path)) }
    }

    /// A number that changes when another connection has committed.
    async fn data_version(&self) -> Result<i64, Error> {
        let look = |session: &mut session::Session<'_>| {
            Ok(session.connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
        };
        self.writer.submit(look).await
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

    fn item_with<'a>(&'a self, job: JobId, key: &'a str, outputs: Outputs) -> BoxFuture<'a, Option<ItemDetail>> {
        self.reader.item_with(job, key, outputs)
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

    fn operation(&self, id: OperationId) -> BoxFuture<'_, Option<OperationRow>> {
        self.reader.operation(id)
    }

    fn component(&self, hash: Digest) -> BoxFuture<'_, Option<Vec<u8>>> {
        self.reader.component(hash)
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

impl Rounds for SqliteTracker {
    fn is_sole(&self) -> bool {
        self.lock.is_some()
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.data)
    }

    fn register_host(&self, host: HostInfo) -> BoxFuture<'_, HostId> {
        Box::pin(self.writer.submit(move |session| leases::register_host(session, &host)))
    }

    fn heartbeat(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, bool> {
        Box::pin(self.writer.submit(move |session| leases::heartbeat(session, host, now)))
    }

    fn retire_host(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.expect_file()?;
            self.writer.submit(move |session| leases::retire_host(session, host, now)).await
        })
    }

    fn register_job(&self, job: JobRegistration) -> BoxFuture<'_, RegisteredJob> {
        Box::pin(self.writer.submit(move |session| jobs::register(session, &job)))
    }

    fn reconcile(&self, job: JobId, after: ItemId, limit: u32, now: Timestamp) -> BoxFuture<'_, Option<ItemId>> {
        Box::pin(self.writer.submit(move |session| reconcile::reconcile(session, job, after, limit, now)))
    }

    fn upsert(&self, batch: Upsert) -> BoxFuture<'_, Upserted> {
        Box::pin(self.writer.submit(move |session| items::upsert(session, &batch)))
    }

    fn round(&self, round: Arc<Round>) -> BoxFuture<'_, RoundDone> {
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

    fn shorten_waits(&self, longest: HashMap<StageId, Duration>, now: Timestamp) -> BoxFuture<'_, u64> {
        Box::pin(self.writer.submit(move |session| leases::shorten_waits(session, &longest, now)))
    }

    fn changed_elsewhere(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                self.expect_file()?;
                match self.data_version().await {
                    Ok(version) if self.seen_version.swap(version, Ordering::Relaxed) != version => return Ok(()),
                    // Another process holds the database. Its change is seen at the next check.
                    Ok(_) | Err(Error::Busy) => {}
                    Err(error) => return Err(error),
                }
            }
        })
    }
}

impl Operating for SqliteTracker {
    fn cancel(&self, cancel: Cancel) -> BoxFuture<'_, Cancelled> {
        Box::pin(self.writer.submit(move |session| cancel::cancel(session, &cancel)))
    }

    fn begin_redrive(&self, redrive: Redrive) -> BoxFuture<'_, OperationRow> {
        Box::pin(self.writer.submit(move |session| operations::begin_redrive(session, &redrive)))
    }

    fn step_operation(&self, id: OperationId, limit: u32, now: Timestamp) -> BoxFuture<'_, OperationRow> {
        Box::pin(self.writer.submit(move |session| operations::step(session, id, limit, now)))
    }

    fn set_operation(
        &self,
        id: OperationId,
        to: OperationState,
        actor: String,
        now: Timestamp,
    ) -> BoxFuture<'_, OperationRow> {
        Box::pin(self.writer.submit(move |session| operations::set_operation(session, id, to, &actor, now)))
    }

    fn restart_discovery(&self, restart: Restart) -> BoxFuture<'_, Option<String>> {
        Box::pin(self.writer.submit(move |session| items::restart_discovery(session, &restart)))
    }

    fn record_event(&self, event: NewEvent) -> BoxFuture<'_, ()> {
        Box::pin(self.writer.submit(move |session| session.note(event.now, &Event::from(&event))))
    }
}

impl Upkeep for SqliteTracker {
    fn sweep(&self, from: u8, limit: u32, before: Timestamp) -> BoxFuture<'_, Swept> {
        Box::pin(self.writer.submit(move |session| blobs::sweep(session, from, limit, before)))
    }

    fn sweep_components(&self) -> BoxFuture<'_, Swept> {
        Box::pin(async {
            // Two transactions: a file goes only once it is certain that its row does not say any more that it is there.
            self.writer.submit(components::forget).await?;
            self.writer.submit(|session| components::sweep(session)).await
        })
    }

    fn prune(&self, prune: Prune) -> BoxFuture<'_, u64> {
        Box::pin(self.writer.submit(move |session| prune::prune(session, &prune)))
    }

    fn rebuild(&self, now: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // An operator's command takes the lock for this time, so that no host starts meanwhile.
            let _lock = if self.lock.is_some() {
                None
            } else {
                Some(HostLock::take(&self.data).map_err(|fail| in_use(fail.0))?)
            };
            self.writer.submit(move |session| rebuild::rebuild(session, now)).await
        })
    }

    fn import(&self, table: &'static Table, rows: Vec<Row>) -> BoxFuture<'_, ()> {
        Box::pin(self.writer.submit(move |session| moving::import(session, table, &rows)))
    }

    fn import_component(&self, hash: Digest, bytes: ComponentBytes) -> BoxFuture<'_, ()> {
        Box::pin(self.writer.submit(move |session| components::import(session, hash, &bytes)))
    }

    fn set_sequences(&self, sequences: Sequences) -> BoxFuture<'_, ()> {
        Box::pin(self.writer.submit(move |session| moving::set_sequences(session, sequences)))
    }
}

fn in_use(error: Error) -> Error {
    match error {
        Error::Locked { pid, .. } => Error::InUse(pid.map_or_else(String::new, |pid| format!("process {pid}"))),
        other => other,
    }
}
