//! The tracker in a Postgres database.
//!
//! Owns the schema `gristmill` of one database. Any number of hosts write it at once, each through a few connections
//! that one thread drives. Never decides what an operation means: the traits do.

mod cancel;
mod ceiling;
mod changes;
mod claim;
mod components;
mod connect;
mod core;
mod dead;
mod engine;
mod examine;
mod expired;
mod fail;
mod history;
mod items;
mod jobs;
mod leases;
mod migrate;
mod moving;
mod operations;
mod passwords;
mod prune;
mod reader;
mod rebuild;
mod reconcile;
mod record;
mod round;
mod scratch;
mod shapes;
mod tally;
#[cfg(test)]
mod tests;
mod tx;
mod wake;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{Digest, HostId, ItemId, JobId, OperationId, StageId, StageKey, Timestamp};

pub use self::ceiling::ceiling;
use self::core::Length;
use self::engine::Engine;
use self::fail::Fail;
pub use self::passwords::with_password;
pub use self::scratch::Scratch;
use self::tx::Tx;
use self::wake::Wake;
use gristmill_tracker::records::{
    AttemptRow, AttemptsFilter, Cancel, Cancelled, DeadFilter, DeadRow, EventRow, EventsFilter, Examination, Expired,
    ExpiredPage, HostInfo, ItemDetail, ItemRow, ItemsFilter, JobRegistration, JobRow, JobStats, KnownItem, Lost,
    NewEvent, OperationRow, OperationState, Outlook, Outputs, Prune, Reap, Redrive, RegisteredJob, Release, Restart,
    ResultRow, Round, RoundDone, Swept, Upsert, Upserted,
};
use gristmill_tracker::rules::events::Event;
use gristmill_tracker::tables::{Row, Sequences, Table};
use gristmill_tracker::{
    BoxFuture, ComponentBytes, Error, Operating, Reader, Rounds, Upkeep, check_component, distinct_components,
};

/// The number of rows over which a counter is spread.
const SLOTS: u32 = 16;

/// Whose clock decides about leases and waiting work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Time {
    /// The database's, so that hosts with different clocks agree.
    #[default]
    Database,
    /// The caller's, for tests that set it.
    Caller,
}

/// What a tracker is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// To run jobs: the schema is created or migrated.
    #[default]
    Host,
    /// To read and operate: an older schema is refused (`Error::Older`), since a host may be running on it.
    Operator,
}

/// How to open a tracker.
#[derive(Clone, Copy, Debug)]
pub struct PostgresOptions {
    /// Whose clock decides about leases and waiting work.
    pub time: Time,
    /// What the tracker is opened for.
    pub access: Access,
    /// How long an operation tries again if the server is gone.
    pub patience: Duration,
    /// After how long without an answer a connection is given up. Operations on whole tables have hours.
    pub answer_within: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            time: Time::default(),
            access: Access::default(),
            patience: Duration::from_secs(300),
            answer_within: Duration::from_secs(30),
        }
    }
}

/// A tracker in Postgres.
pub struct PostgresTracker {
    engine: Engine,
    wake: Wake,
}

impl PostgresTracker {
    /// Opens the tracker in a database (`postgres://user:password@host:port/database?sslmode=require`): creates its
    /// schema if needed, and migrates it. `sslmode` is `disable`, `prefer` (TLS if possible; the default for this
    /// machine), `require` (the default elsewhere) or `verify-full`. The last two verify the certificate against the
    /// roots of the system. Blocks until that is done.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses, or the schema is not ours, newer, or cannot be written.
    pub fn connect(url: &str, options: PostgresOptions, now: Timestamp) -> Result<Self, Error> {
        let wake = Wake::default();
        Ok(Self { engine: Engine::start(url, options, wake.clone(), now)?, wake })
    }

    fn write<T: Send + 'static>(
        &self,
        length: Length,
        run: impl AsyncFn(&Tx<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        Box::pin(self.engine.submit(move |core| async move { core.write(length, run).await }))
    }

    fn read<T: Send + 'static>(
        &self,
        length: Length,
        run: impl AsyncFn(&Tx<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> BoxFuture<'_, T> {
        Box::pin(self.engine.submit(move |core| async move { core.read(length, run).await }))
    }
}

impl Reader for PostgresTracker {
    fn jobs(&self) -> BoxFuture<'_, Vec<JobRow>> {
        self.read(Length::Short, async |tx| reader::jobs(tx).await)
    }

    fn stats(&self, job: JobId) -> BoxFuture<'_, JobStats> {
        self.read(Length::Short, async move |tx| reader::stats(tx, job).await)
    }

    fn items(&self, filter: ItemsFilter) -> BoxFuture<'_, Vec<ItemRow>> {
        self.read(Length::Short, async move |tx| reader::items(tx, &filter).await)
    }

    fn item_with<'a>(&'a self, job: JobId, key: &'a str, outputs: Outputs) -> BoxFuture<'a, Option<ItemDetail>> {
        let key = key.to_owned();
        let (bytes_max, stage) = match outputs {
            Outputs::All => (i64::MAX, None),
            Outputs::Of(stage) => (-1, Some(stage)),
            Outputs::UpTo(bytes_max) => (bytes_max as i64, None),
        };
        self.read(Length::Short, async move |tx| history::item(tx, job, &key, bytes_max, stage.as_deref()).await)
    }

    fn results(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ResultRow>> {
        self.read(Length::Short, async move |tx| reader::results(tx, stage, after, limit).await)
    }

    fn attempts(&self, filter: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>> {
        self.read(Length::Short, async move |tx| history::attempts(tx, &filter).await)
    }

    fn outlook(&self) -> BoxFuture<'_, Outlook> {
        self.read(Length::Short, async |tx| reader::outlook(tx).await)
    }

    fn known(&self, job: JobId, keys: Vec<String>) -> BoxFuture<'_, Vec<KnownItem>> {
        self.read(Length::Short, async move |tx| reader::known(tx, job, &keys).await)
    }

    fn dead(&self, filter: DeadFilter, after: StageKey, limit: u32) -> BoxFuture<'_, Vec<DeadRow>> {
        self.read(Length::Short, async move |tx| dead::dead(tx, &filter, after, limit, true).await)
    }

    fn count_dead(&self, filter: DeadFilter) -> BoxFuture<'_, u64> {
        self.read(Length::Long, async move |tx| dead::count(tx, &filter).await)
    }

    fn outdated(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ItemId>> {
        self.read(Length::Long, async move |tx| reader::outdated(tx, stage, after, limit).await)
    }

    fn operations(&self, job: Option<JobId>, limit: u32) -> BoxFuture<'_, Vec<OperationRow>> {
        self.read(Length::Short, async move |tx| operations::operations(tx, job, limit).await)
    }

    fn operation(&self, id: OperationId) -> BoxFuture<'_, Option<OperationRow>> {
        self.read(Length::Short, async move |tx| operations::one(tx, id).await)
    }

    fn component(&self, hash: Digest) -> BoxFuture<'_, Option<Vec<u8>>> {
        self.read(Length::Long, async move |tx| components::read(tx, hash).await)
    }

    fn events(&self, filter: EventsFilter) -> BoxFuture<'_, Vec<EventRow>> {
        self.read(Length::Short, async move |tx| history::events(tx, &filter).await)
    }

    fn expired(&self, expired: Expired) -> BoxFuture<'_, ExpiredPage> {
        self.read(Length::Short, async move |tx| prune::expired(tx, &expired).await)
    }

    fn examine(&self) -> BoxFuture<'_, Examination> {
        self.read(Length::Long, async |tx| examine::examine(tx).await)
    }

    fn export(&self, table: &'static Table, after: Option<Row>, limit: u32) -> BoxFuture<'_, Vec<Row>> {
        self.read(Length::Long, async move |tx| moving::export(tx, table, after.as_ref(), limit).await)
    }

    fn sequences(&self) -> BoxFuture<'_, Sequences> {
        self.read(Length::Short, async |tx| moving::sequences(tx).await)
    }
}

impl Rounds for PostgresTracker {
    fn register_host(&self, host: HostInfo) -> BoxFuture<'_, HostId> {
        self.write(Length::Short, async move |tx| leases::register_host(tx, &host).await)
    }

    fn heartbeat(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, bool> {
        self.write(Length::Short, async move |tx| leases::heartbeat(tx, host, now).await)
    }

    fn retire_host(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, ()> {
        self.write(Length::Short, async move |tx| leases::retire_host(tx, host, now).await)
    }

    fn register_job(&self, job: JobRegistration) -> BoxFuture<'_, RegisteredJob> {
        Box::pin(async move {
            for stage in distinct_components(&job.stages) {
                let Some(bytes) = &stage.component_bytes else { continue };
                check_component(stage.component, stage.component_raw, bytes)?;
                let (stage, hash, now) = (stage.clone(), stage.component, job.now);
                if !self.read(Length::Long, async move |tx| components::is_whole(tx, hash).await).await? {
                    self.write(Length::Long, async move |tx| components::prepare(tx, &stage, now).await).await?;
                }
            }
            self.write(Length::Short, async move |tx| jobs::register(tx, &job).await).await
        })
    }

    fn reconcile(&self, job: JobId, after: ItemId, limit: u32, now: Timestamp) -> BoxFuture<'_, Option<ItemId>> {
        self.write(Length::Short, async move |tx| reconcile::reconcile(tx, job, after, limit, now).await)
    }

    fn upsert(&self, batch: Upsert) -> BoxFuture<'_, Upserted> {
        self.write(Length::Short, async move |tx| items::upsert(tx, &batch).await)
    }

    fn round(&self, round: Arc<Round>) -> BoxFuture<'_, RoundDone> {
        self.write(Length::Short, async move |tx| Box::pin(round::round(tx, &round)).await)
    }

    fn release(&self, releases: Vec<Release>) -> BoxFuture<'_, u64> {
        self.write(Length::Short, async move |tx| leases::release(tx, &releases).await)
    }

    fn reap(&self, reap: Reap) -> BoxFuture<'_, Lost> {
        self.write(Length::Short, async move |tx| Box::pin(leases::reap(tx, &reap)).await)
    }

    fn promote(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, u64> {
        self.write(Length::Short, async move |tx| leases::promote(tx, now, limit).await)
    }

    fn shorten_waits(&self, longest: HashMap<StageId, Duration>, now: Timestamp) -> BoxFuture<'_, u64> {
        self.write(Length::Short, async move |tx| leases::shorten_waits(tx, &longest, now).await)
    }

    fn changed_elsewhere(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.wake.heard().await;
            Ok(())
        })
    }
}

impl Operating for PostgresTracker {
    fn cancel(&self, cancel: Cancel) -> BoxFuture<'_, Cancelled> {
        self.write(Length::Short, async move |tx| cancel::cancel(tx, &cancel).await)
    }

    fn begin_redrive(&self, redrive: Redrive) -> BoxFuture<'_, OperationRow> {
        self.write(Length::Long, async move |tx| operations::begin_redrive(tx, &redrive).await)
    }

    fn step_operation(&self, id: OperationId, limit: u32, now: Timestamp) -> BoxFuture<'_, OperationRow> {
        self.write(Length::Short, async move |tx| operations::step(tx, id, limit, now).await)
    }

    fn set_operation(
        &self,
        id: OperationId,
        to: OperationState,
        actor: String,
        now: Timestamp,
    ) -> BoxFuture<'_, OperationRow> {
        self.write(Length::Short, async move |tx| operations::set_operation(tx, id, to, &actor, now).await)
    }

    fn restart_discovery(&self, restart: Restart) -> BoxFuture<'_, Option<String>> {
        self.write(Length::Short, async move |tx| items::restart_discovery(tx, &restart).await)
    }

    fn record_event(&self, event: NewEvent) -> BoxFuture<'_, ()> {
        self.write(Length::Short, async move |tx| {
            tx.begin(tx::Lock::Shared, event.now).await?;
            tx.note(&Event::from(&event)).await
        })
    }
}

impl Upkeep for PostgresTracker {
    fn sweep_components(&self) -> BoxFuture<'_, Swept> {
        self.write(Length::Long, async |tx| components::sweep(tx).await)
    }

    fn prune(&self, prune: Prune) -> BoxFuture<'_, u64> {
        self.write(Length::Short, async move |tx| prune::prune(tx, &prune).await)
    }

    fn rebuild(&self, now: Timestamp) -> BoxFuture<'_, ()> {
        self.write(Length::Long, async move |tx| rebuild::rebuild(tx, now).await)
    }

    fn import(&self, table: &'static Table, rows: Vec<Row>) -> BoxFuture<'_, ()> {
        self.write(Length::Long, async move |tx| moving::import(tx, table, &rows).await)
    }

    fn import_component(&self, hash: Digest, bytes: ComponentBytes) -> BoxFuture<'_, ()> {
        self.write(Length::Long, async move |tx| components::import(tx, hash, &bytes).await)
    }

    fn set_sequences(&self, sequences: Sequences) -> BoxFuture<'_, ()> {
        self.write(Length::Long, async move |tx| moving::set_sequences(tx, sequences).await)
    }
}
