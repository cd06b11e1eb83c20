//! Everything that is known about items.
//!
//! Owns the tracker: items, results, the queue, attempts, and the only SQL of the project. It records what it is told
//! and releases what becomes runnable; it never decides what an outcome leads to, never runs a handler, and never
//! asks the time.

mod archive;
mod ceiling;
#[cfg(test)]
mod conformance;
mod copy;
mod error;
mod filter;
#[cfg(test)]
mod memory;
mod postgres;
mod records;
mod retention;
mod rules;
#[cfg(test)]
mod sequences;
mod sql;
mod sqlite;
mod stages;
pub mod tables;
mod tracker;

pub use ceiling::Ceiling;
pub use copy::{Copied, CopyProgress, copy, refuse_hosts_at_work};
pub use error::Error;
pub use postgres::{Access, PostgresOptions, PostgresTracker, Scratch, Time, with_password};
pub use records::{
    AttemptCharge, AttemptRow, AttemptsFilter, Cancel, Cancelled, Claim, ClaimRequest, Completion, DIFFERENCES_MAX,
    DeadFilter, DeadRow, Difference, EventRow, EventsFilter, Examination, Expired, ExpiredAttempt, ExpiredCharge,
    ExpiredEvent, ExpiredItem, ExpiredOutcome, ExpiredPage, ExpiredResult, ExpiredRow, ExpiredSighting, HostInfo,
    ItemDetail, ItemRow, ItemStageDetail, ItemsFilter, JobRegistration, JobRow, JobStats, KnownItem, Lease, Lost,
    Merged, NewEvent, NewItem, OperationRow, OperationState, Outlook, Output, Outputs, Prune, Reap, Redrive,
    RegisteredJob, RegisteredStage, Release, ResultRow, Round, RoundDone, Settlement, Sighting, Source,
    StageRegistration, StageStats, Upsert, Upserted, Upstream,
};
pub use retention::{HOST_EVENTS_KEPT, Pruned, Pruning, PruningPosition, count_expired, host_retention, prune};
pub use sqlite::{History, SqliteOptions, SqliteReader, SqliteTracker, Swept, Synchronous, backup, restore};
pub use tracker::{BoxFuture, Operating, Reader, Rounds, Tracker, Upkeep};
