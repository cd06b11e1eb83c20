//! What a tracker does.
//!
//! Owns the two traits that every backend implements, and that one conformance suite checks. Each write is a batch in
//! one transaction, all of it or nothing.

use std::future::Future;
use std::pin::Pin;

use gristmill_model::{HostId, ItemId, JobId, StageId, Timestamp};

use crate::Error;
use crate::records::{
    AttemptRow, AttemptsFilter, HostInfo, ItemDetail, ItemRow, ItemsFilter, JobRegistration, JobRow, JobStats, Lost,
    Reap, RegisteredJob, Release, ResultRow, Round, RoundDone, Upsert, Upserted,
};

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

    /// One item with its stages and their attempts; none if the job has no such item.
    fn item<'a>(&'a self, job: JobId, key: &'a str) -> BoxFuture<'a, Option<ItemDetail>>;

    /// The results of a stage, by item, behind `after`, `limit` at most.
    fn results(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ResultRow>>;

    /// Attempts, the newest first.
    fn attempts(&self, filter: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>>;

    /// When the next waiting stage will be ready; none if none waits.
    fn next_due(&self) -> BoxFuture<'_, Option<Timestamp>>;
}

/// Records what happens.
pub trait Tracker: Reader {
    /// Makes a host known, and gives it an id that no host had before.
    fn register_host(&self, host: HostInfo) -> BoxFuture<'_, HostId>;

    /// Says that the host is alive.
    fn heartbeat(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, ()>;

    /// Says that the host has ended by itself, and holds nothing.
    fn retire_host(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, ()>;

    /// Makes a job known as its file declares it now, with the versions of its stages. From here on this tracker
    /// releases the job's stages by that DAG.
    fn register_job(&self, job: JobRegistration) -> BoxFuture<'_, RegisteredJob>;

    /// Brings the queue of the next `limit` items after `after` in line with the job's DAG, as is needed when the
    /// DAG was edited. Returns where to go on; none: that was all. It comes before the job's first round and upsert,
    /// since it counts the job's items anew.
    fn reconcile(&self, job: JobId, after: ItemId, limit: u32, now: Timestamp) -> BoxFuture<'_, Option<ItemId>>;

    /// Records a page of discovered items together with the cursor behind it. An item that is known and unchanged
    /// costs no write.
    fn upsert(&self, batch: Upsert) -> BoxFuture<'_, Upserted>;

    /// Settles attempts, releases what they make runnable, and claims new work, in this order and in one transaction.
    /// A completion whose fence does not match is a late one: dropped and counted.
    fn round(&self, round: Round) -> BoxFuture<'_, RoundDone>;

    /// Gives leased work back, uncharged. Returns how many were still held under their fence.
    fn release(&self, releases: Vec<Release>) -> BoxFuture<'_, u64>;

    /// Takes the work of vanished hosts away from them, and charges it. Bounded by `reap.leases_max`.
    fn reap(&self, reap: Reap) -> BoxFuture<'_, Lost>;

    /// Makes waiting work ready whose time has come, `limit` at most. Returns how many.
    fn promote(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, u64>;
}
