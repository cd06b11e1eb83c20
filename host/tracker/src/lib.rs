//! Everything that is known about items.
//!
//! Owns the tracker: items, results, the queue, attempts, and the only SQL of the project. It records what it is told
//! and releases what becomes runnable; it never decides what an outcome leads to, never runs a handler, and never
//! asks the time.

#[cfg(test)]
mod conformance;
mod error;
mod records;
mod sqlite;
mod tracker;

pub use error::Error;
pub use records::{
    AttemptRow, AttemptsFilter, Claim, ClaimRequest, Completion, HostInfo, ItemDetail, ItemRow, ItemStageDetail,
    ItemsFilter, JobRegistration, JobRow, JobStats, Lease, Lost, NewItem, Output, Reap, RegisteredJob, RegisteredStage,
    Release, ResultRow, Round, RoundDone, Settlement, StageRegistration, StageStats, Upsert, Upserted, Upstream,
};
pub use sqlite::{Ceiling, SqliteOptions, SqliteReader, SqliteTracker, Synchronous};
pub use tracker::{BoxFuture, Reader, Tracker};
