//! The contract of a tracker: it stores everything that is known about items.
//!
//! Owns the traits of a backend, the records that they take and return, and the rules by which each act changes an
//! item. A tracker records outcomes and releases stages that become runnable. It never decides what an outcome leads
//! to, never runs a handler, and never asks the time. Backends, with their SQL, are crates of their own; the README has
//! a map.

mod archive;
mod ceiling;
mod components;
mod copy;
mod error;
pub mod filter;
pub mod records;
mod retention;
mod rounds;
pub mod rules;
pub mod sql;
pub mod stages;
pub mod tables;
mod tracker;

pub use ceiling::Ceiling;
pub use components::{COMPONENT_BYTES_MAX, COMPONENT_PART_BYTES, ComponentBytes, check_component, distinct_components};
pub use copy::{Copied, CopyProgress, copy, refuse_hosts_at_work};
pub use error::Error;
pub use records::{
    AttemptCharge, AttemptRow, AttemptsFilter, Cancel, Cancelled, Claim, ClaimRequest, Completion, DIFFERENCES_MAX,
    DeadFilter, DeadRow, Difference, EventRow, EventsFilter, Examination, Expired, ExpiredAttempt, ExpiredCharge,
    ExpiredEvent, ExpiredItem, ExpiredOutcome, ExpiredPage, ExpiredResult, ExpiredRow, ExpiredSighting, HostInfo,
    ItemDetail, ItemRow, ItemStageDetail, ItemsFilter, JobRegistration, JobRow, JobStats, KnownItem, Lease, Lost,
    Merged, NewEvent, NewItem, OperationRow, OperationState, Outlook, Output, Outputs, Prune, Reap, Redrive,
    RegisteredJob, RegisteredStage, Release, Restart, ResultRow, Round, RoundDone, Settlement, Sighting, Source,
    StageRegistration, StageStats, Swept, Upsert, Upserted, Upstream,
};
pub use retention::{HOST_EVENTS_KEPT, Pruned, Pruning, PruningPosition, count_expired, host_retention, prune};
pub use rounds::{SETTLED_BYTES_MAX, settle_and_claim};
pub use tracker::{BoxFuture, Operating, Reader, Rounds, Tracker, Upkeep};
