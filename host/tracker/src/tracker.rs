//! The traits that every tracker implements.
//!
//! Owns the traits, one for each kind of caller, which one conformance suite checks. Each write is a batch in one
//! transaction: it is applied completely or not at all. Never contains SQL.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{Digest, HostId, ItemId, JobId, OperationId, StageId, StageKey, Timestamp};

use crate::records::{
    AttemptRow, AttemptsFilter, Cancel, Cancelled, DeadFilter, DeadRow, EventRow, EventsFilter, Examination, Expired,
    ExpiredPage, HostInfo, ItemDetail, ItemRow, ItemsFilter, JobRegistration, JobRow, JobStats, KnownItem, Lost,
    NewEvent, OperationRow, OperationState, Outlook, Outputs, Prune, Reap, Redrive, RegisteredJob, Release, Restart,
    ResultRow, Round, RoundDone, Swept, Upsert, Upserted,
};
use crate::tables::{Row, Sequences, Table};
use crate::{ComponentBytes, Error};

/// What a tracker's methods return. Boxed, so that a backend can be chosen at run time; the box is per batch.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Reads the tracker. Sees only committed data.
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

    /// At most `limit` results of a stage, by item, after `after`.
    fn results(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ResultRow>>;

    /// Attempts, the newest first.
    fn attempts(&self, filter: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>>;

    /// What waits, and what is leased.
    fn outlook(&self) -> BoxFuture<'_, Outlook>;

    /// The known data of the items among these keys.
    fn known(&self, job: JobId, keys: Vec<String>) -> BoxFuture<'_, Vec<KnownItem>>;

    /// At most `limit` dead stages, by key, after `after`.
    fn dead(&self, filter: DeadFilter, after: StageKey, limit: u32) -> BoxFuture<'_, Vec<DeadRow>>;

    /// How many dead stages there are.
    fn count_dead(&self, filter: DeadFilter) -> BoxFuture<'_, u64>;

    /// At most `limit` items whose output of a stage was made by another version than the current one, by id, after
    /// `after`. `StageStats::other_versions` counts them.
    fn outdated(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ItemId>>;

    /// At most `limit` operations of a job, or of all jobs, the newest first.
    fn operations(&self, job: Option<JobId>, limit: u32) -> BoxFuture<'_, Vec<OperationRow>>;

    /// One operation; none if there is no such operation.
    fn operation(&self, id: OperationId) -> BoxFuture<'_, Option<OperationRow>>;

    /// The bytes of a component, by its canonical hash, as they were registered; none: it is not known, or not kept.
    /// `Error::Component` if they are missing or damaged though they should be there.
    fn component(&self, hash: Digest) -> BoxFuture<'_, Option<Vec<u8>>>;

    /// Events, the newest first.
    fn events(&self, filter: EventsFilter) -> BoxFuture<'_, Vec<EventRow>>;

    /// A page of rows that are old enough to delete.
    fn expired(&self, expired: Expired) -> BoxFuture<'_, ExpiredPage>;

    /// Compares everything that can be computed from the facts with the facts, in one snapshot. Reads every row.
    fn examine(&self) -> BoxFuture<'_, Examination>;

    /// At most `limit` rows of a table as they are, by its key, after `after`.
    fn export(&self, table: &'static Table, after: Option<Row>, limit: u32) -> BoxFuture<'_, Vec<Row>>;

    /// The last numbers given out.
    fn sequences(&self) -> BoxFuture<'_, Sequences>;
}

/// What a host calls while it discovers items and works on them.
pub trait Rounds: Reader {
    /// Whether a lock proves that no other host can be alive. Then every earlier host has vanished, whatever a clock
    /// says.
    fn is_sole(&self) -> bool {
        false
    }

    /// The folder whose disk the tracker fills; none if the host need not watch a disk.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Registers a host, and gives it an id that no host had before.
    fn register_host(&self, host: HostInfo) -> BoxFuture<'_, HostId>;

    /// Records that the host is alive. False if another host has reaped it, and its work.
    fn heartbeat(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, bool>;

    /// Records that the host ended by itself, and holds nothing.
    fn retire_host(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, ()>;

    /// Makes a job known as its file declares it now, with the versions of its stages. From here on this tracker
    /// releases the job's stages by that DAG. The bytes of its components are kept before this returns, if they came
    /// along: so they are there before an attempt is made with them. Bytes that are kept and whole are not written
    /// again.
    fn register_job(&self, job: JobRegistration) -> BoxFuture<'_, RegisteredJob>;

    /// Brings the queue rows of the next `limit` items after `after` in line with the job's DAG, after an edit. Rows of
    /// retired stages, and of stages that now lack something they need, leave the queue unless they are leased. Stages
    /// that can never run are skipped, stages that may run are enqueued. Returns where to go on; none if that was all.
    /// It must come before the job's first round and upsert, since it recounts the job's items.
    fn reconcile(&self, job: JobId, after: ItemId, limit: u32, now: Timestamp) -> BoxFuture<'_, Option<ItemId>>;

    /// Records items that were found, a page of discovery together with the next cursor. A known item that was last
    /// found with the same data costs no write. Other data of a known item is merged, and adds a sighting.
    fn upsert(&self, batch: Upsert) -> BoxFuture<'_, Upserted>;

    /// Settles attempts, releases what they make runnable, and claims new work, in this order and in one transaction. A
    /// completion whose fence does not match is late: it is dropped and counted. Work is claimed in the order of its
    /// claim key (the time when it is due, less one minute for each step of priority), then by its key. A stage that is
    /// enqueued again continues the history of its last result.
    fn round(&self, round: Arc<Round>) -> BoxFuture<'_, RoundDone>;

    /// Gives leased work back, uncharged. Returns how many were still held under their fence.
    fn release(&self, releases: Vec<Release>) -> BoxFuture<'_, u64>;

    /// Takes the work of vanished hosts, and charges it as lost. Bounded by `reap.leases_max`.
    fn reap(&self, reap: Reap) -> BoxFuture<'_, Lost>;

    /// Makes at most `limit` waiting stages ready whose time has come, in the order of that time, then of their keys.
    /// Returns how many.
    fn promote(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, u64>;

    /// Shortens waits that no policy can have set, because a clock was ahead: from now on no wait of a stage is longer
    /// than `longest` says. Returns how many were shortened.
    fn shorten_waits(&self, longest: HashMap<StageId, Duration>, now: Timestamp) -> BoxFuture<'_, u64>;

    /// Resolves when another process or host may have written. It may also resolve without a reason.
    fn changed_elsewhere(&self) -> BoxFuture<'_, ()>;
}

/// What a person asks for, and the record of it.
pub trait Operating: Reader {
    /// Cancels items, or restores cancelled ones. A leased stage may finish; its result is recorded, and releases
    /// nothing.
    fn cancel(&self, cancel: Cancel) -> BoxFuture<'_, Cancelled>;

    /// Begins an operation that redrives dead stages, and counts the stages that match. It redrives nothing yet.
    fn begin_redrive(&self, redrive: Redrive) -> BoxFuture<'_, OperationRow>;

    /// Does the next step of a running operation: redrives at most `limit` dead stages, as far as its rate allows, with
    /// one event for each. An operation that is not running does not change. It is done when it reaches its own limit,
    /// or when a step finds fewer stages than it could take.
    fn step_operation(&self, id: OperationId, limit: u32, now: Timestamp) -> BoxFuture<'_, OperationRow>;

    /// Moves an operation to another state.
    fn set_operation(
        &self,
        id: OperationId,
        to: OperationState,
        actor: String,
        now: Timestamp,
    ) -> BoxFuture<'_, OperationRow>;

    /// Makes the next pass of discovery begin at the first page, and records an event. Returns the cursor where it
    /// would have gone on; none if it would have begun at the first page anyway, and then there is no event.
    fn restart_discovery(&self, restart: Restart) -> BoxFuture<'_, Option<String>>;

    /// Records an event.
    fn record_event(&self, event: NewEvent) -> BoxFuture<'_, ()>;
}

/// What keeps a tracker small and correct over years, and moves it. `retention` and `copy` have the loops.
pub trait Upkeep: Reader {
    /// Deletes files of large outputs that no result names any more, if they were written before `before`. It starts in
    /// folder `from` of the 256, and stops after `limit` files. A tracker without such files does nothing.
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

    /// Recomputes masks and counters from the facts. Queue rows that agree with the facts stay, with their counts and
    /// times; leased ones become ready. Afterwards every job must be reconciled from its first item, which enqueues
    /// what is missing. No host may be at work.
    fn rebuild(&self, now: Timestamp) -> BoxFuture<'_, ()>;

    /// Writes rows of a table as they are, into an empty tracker.
    fn import(&self, table: &'static Table, rows: Vec<Row>) -> BoxFuture<'_, ()>;

    /// Keeps the bytes of a component whose row was imported. `Error::Component` if they are not those that the row
    /// names.
    fn import_component(&self, hash: Digest, bytes: ComponentBytes) -> BoxFuture<'_, ()>;

    /// Sets the numbers that were given out last. For a tracker that was filled by `import`.
    fn set_sequences(&self, sequences: Sequences) -> BoxFuture<'_, ()>;
}

/// All that a tracker does. A caller that needs less takes one of the other traits.
pub trait Tracker: Rounds + Operating + Upkeep {}

impl<T: Rounds + Operating + Upkeep> Tracker for T {}
