//! What a tracker does.
//!
//! Owns the traits that every backend implements, by who asks, and that one conformance suite checks. Each write is a
//! batch in one transaction, all of it or nothing.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use gristmill_model::{Digest, HostId, ItemId, JobId, OperationId, StageId, StageKey, Timestamp};

use crate::records::{
    AttemptRow, AttemptsFilter, Cancel, Cancelled, DeadFilter, DeadRow, EventRow, EventsFilter, Examination, Expired,
    ExpiredPage, HostInfo, ItemDetail, ItemRow, ItemsFilter, JobRegistration, JobRow, JobStats, KnownItem, Lost,
    NewEvent, OperationRow, OperationState, Outlook, Outputs, Prune, Reap, Redrive, RegisteredJob, Release, ResultRow,
    Round, RoundDone, Swept, Upsert, Upserted,
};
use crate::tables::{Row, Sequences, Table};
use crate::{ComponentBytes, Error};

/// What a tracker's methods return. Boxed, so that a backend can be chosen at run time; the box is per batch.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Reads what is known. Sees only what was committed.
pub trait Reader: Send + Sync {
    /// Every job that was ever registered, by name.
    fn jobs(&self) -> BoxFuture<'_, Vec<JobRow>>;

    /// The counters of a job. Never counts rows.
    fn stats(&self, job: JobId) -> BoxFuture<'_, JobStats>;

    /// Items of a job, by id.
    fn items(&self, filter: ItemsFilter) -> BoxFuture<'_, Vec<ItemRow>>;

    /// One item with its stages, their attempts, and these of their outputs; none if the job has no such item.
    fn item_with<'a>(&'a self, job: JobId, key: &'a str, outputs: Outputs) -> BoxFuture<'a, Option<ItemDetail>>;

    /// One item with all outputs.
    fn item<'a>(&'a self, job: JobId, key: &'a str) -> BoxFuture<'a, Option<ItemDetail>> {
        self.item_with(job, key, Outputs::All)
    }

    /// The results of a stage, by item, behind `after`, `limit` at most.
    fn results(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ResultRow>>;

    /// Attempts, the newest first.
    fn attempts(&self, filter: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>>;

    /// What waits, and what is under way.
    fn outlook(&self) -> BoxFuture<'_, Outlook>;

    /// What is known of those of these keys that are known.
    fn known(&self, job: JobId, keys: Vec<String>) -> BoxFuture<'_, Vec<KnownItem>>;

    /// Dead stages, by key, behind `after`, `limit` at most.
    fn dead(&self, filter: DeadFilter, after: StageKey, limit: u32) -> BoxFuture<'_, Vec<DeadRow>>;

    /// How many dead stages there are.
    fn count_dead(&self, filter: DeadFilter) -> BoxFuture<'_, u64>;

    /// The items whose output of a stage is of another version than the current one, by id, behind `after`, `limit`
    /// at most. `StageStats::other_versions` counts them.
    fn outdated(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ItemId>>;

    /// The operations of a job, or of all, the newest first, `limit` at most.
    fn operations(&self, job: Option<JobId>, limit: u32) -> BoxFuture<'_, Vec<OperationRow>>;

    /// One operation; none: there is no such operation.
    fn operation(&self, id: OperationId) -> BoxFuture<'_, Option<OperationRow>>;

    /// The bytes of a component, by its canonical hash, as they were registered; none: it is not known, or not kept.
    /// `Error::Component` if they are missing or damaged though they should be there.
    fn component(&self, hash: Digest) -> BoxFuture<'_, Option<Vec<u8>>>;

    /// Events, the newest first.
    fn events(&self, filter: EventsFilter) -> BoxFuture<'_, Vec<EventRow>>;

    /// A page of data that is old enough to go.
    fn expired(&self, expired: Expired) -> BoxFuture<'_, ExpiredPage>;

    /// Compares everything that can be computed from the facts with the facts, in one look. Reads every row.
    fn examine(&self) -> BoxFuture<'_, Examination>;

    /// A page of a table as it is, by its key, behind `after`, `limit` rows at most.
    fn export(&self, table: &'static Table, after: Option<Row>, limit: u32) -> BoxFuture<'_, Vec<Row>>;

    /// The numbers that were given out last.
    fn sequences(&self) -> BoxFuture<'_, Sequences>;
}

/// What a host does, as it finds items and works on them.
pub trait Rounds: Reader {
    /// Whether a lock proves that no other host can be alive: whoever began before has vanished, whatever a clock says.
    fn is_sole(&self) -> bool {
        false
    }

    /// The folder whose disk it fills; none if that is somebody else's to look after.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Makes a host known, and gives it an id that no host had before.
    fn register_host(&self, host: HostInfo) -> BoxFuture<'_, HostId>;

    /// Says that the host is alive. False: another host had given it up, and has its work.
    fn heartbeat(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, bool>;

    /// Says that the host has ended by itself, and holds nothing.
    fn retire_host(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, ()>;

    /// Makes a job known as its file declares it now, with the versions of its stages. From here on this tracker
    /// releases the job's stages by that DAG. The bytes of its components are kept before this returns, if they came
    /// along: so they are there before an attempt is made with them. Bytes that are kept and whole are not written
    /// again.
    fn register_job(&self, job: JobRegistration) -> BoxFuture<'_, RegisteredJob>;

    /// Brings the queue of the next `limit` items after `after` in line with the job's DAG, as is needed when the
    /// DAG was edited: work of retired stages, and of stages that now lack something they need, leaves the queue, but
    /// for what is leased; what can never run is skipped along, what may run is enqueued. Returns where to go on; none: that was all. It comes before the job's first round and upsert,
    /// since it counts the job's items anew.
    fn reconcile(&self, job: JobId, after: ItemId, limit: u32, now: Timestamp) -> BoxFuture<'_, Option<ItemId>>;

    /// Records items that were found, a page of discovery together with the cursor behind it. An item that is known
    /// and was last seen with the same data costs no write. Other data of a known item is merged, and is a sighting.
    fn upsert(&self, batch: Upsert) -> BoxFuture<'_, Upserted>;

    /// Settles attempts, releases what they make runnable, and claims new work, in this order and in one transaction.
    /// A completion whose fence does not match is a late one: dropped and counted. Work is claimed by its place in line
    /// (due, less a minute a step of priority), and by key where that is equal. What is enqueued again goes on with
    /// the history of its last result.
    fn round(&self, round: Arc<Round>) -> BoxFuture<'_, RoundDone>;

    /// Gives leased work back, uncharged. Returns how many were still held under their fence.
    fn release(&self, releases: Vec<Release>) -> BoxFuture<'_, u64>;

    /// Takes the work of vanished hosts away from them, and charges it. Bounded by `reap.leases_max`.
    fn reap(&self, reap: Reap) -> BoxFuture<'_, Lost>;

    /// Makes waiting work ready whose time has come, `limit` at most: by when it is due, and by key where that is equal.
    /// Returns how many.
    fn promote(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, u64>;

    /// Resolves when somebody else may have written: another process, another host. It may do so for no reason.
    fn changed_elsewhere(&self) -> BoxFuture<'_, ()>;
}

/// What a person asks for, and what is recorded of it.
pub trait Operating: Reader {
    /// Cancels items, or takes cancelled ones up again. What is leased is let finish; its result is recorded, and
    /// nothing follows from it.
    fn cancel(&self, cancel: Cancel) -> BoxFuture<'_, Cancelled>;

    /// Begins an operation that redrives dead stages, and counts what it means. It redrives nothing yet.
    fn begin_redrive(&self, redrive: Redrive) -> BoxFuture<'_, OperationRow>;

    /// Goes on with an operation that is running: redrives the next `limit` dead stages at most, as far as its rate
    /// allows, with an event each. An operation that is not running is left as it is. It is done as soon as it has done
    /// all that it may, or as a step finds less than it might take.
    fn step_operation(&self, id: OperationId, limit: u32, now: Timestamp) -> BoxFuture<'_, OperationRow>;

    /// Moves an operation to another state.
    fn set_operation(
        &self,
        id: OperationId,
        to: OperationState,
        actor: String,
        now: Timestamp,
    ) -> BoxFuture<'_, OperationRow>;

    /// Records an event.
    fn record_event(&self, event: NewEvent) -> BoxFuture<'_, ()>;
}

/// What keeps a tracker well over the years, and moves it. See `retention` and `copy` for the loops.
pub trait Upkeep: Reader {
    /// Removes files of large outputs that no result names any more and that were written before a time: those in
    /// folder `from` of the 256 and behind it, until `limit` files were looked at. A tracker without files has none.
    fn sweep(&self, from: u8, limit: u32, before: Timestamp) -> BoxFuture<'_, Swept> {
        let _ = (from, limit, before);
        Box::pin(async { Ok(Swept::default()) })
    }

    /// Drops the bytes of components that nothing needs: those whose versions are neither current in a stage of a job's
    /// file, nor have results, nor are of a stage of which something is leased, which may still run an earlier one. Their
    /// rows stay, since history names them; whoever registers such a component again has it kept again.
    fn sweep_components(&self) -> BoxFuture<'_, Swept>;

    /// Deletes what `expired` found. Returns how many of these rows went; what goes along with them is not counted.
    fn prune(&self, prune: Prune) -> BoxFuture<'_, u64>;

    /// Makes everything anew that can be computed from the facts: masks and counters. Of the queue, what agrees with the
    /// facts stays with all that it counts and waits for, what was leased as ready. Every job is then to be reconciled,
    /// from its first item on: that enqueues what is missing. No host may be at work.
    fn rebuild(&self, now: Timestamp) -> BoxFuture<'_, ()>;

    /// Writes rows of a table as they are. For a tracker that is empty.
    fn import(&self, table: &'static Table, rows: Vec<Row>) -> BoxFuture<'_, ()>;

    /// Keeps the bytes of a component whose row was imported. `Error::Component` if they are not those that the row
    /// names.
    fn import_component(&self, hash: Digest, bytes: ComponentBytes) -> BoxFuture<'_, ()>;

    /// Sets the numbers that were given out last. For a tracker that was filled by `import`.
    fn set_sequences(&self, sequences: Sequences) -> BoxFuture<'_, ()>;
}

/// All that a tracker does. Whoever needs less asks for less.
pub trait Tracker: Rounds + Operating + Upkeep {}

impl<T: Rounds + Operating + Upkeep> Tracker for T {}
