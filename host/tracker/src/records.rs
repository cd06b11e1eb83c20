//! The records that a tracker takes and returns.
//!
//! Owns plain data, one file for each group of callers. Never does anything with it.

mod care;
mod expired;
mod items;
mod jobs;
mod operating;
mod views;
mod work;

pub use care::{DIFFERENCES_MAX, Difference, Examination, Expired, ExpiredPage, Prune, Swept};
pub use expired::{
    AttemptCharge, ExpiredAttempt, ExpiredCharge, ExpiredEvent, ExpiredItem, ExpiredOutcome, ExpiredResult, ExpiredRow,
    ExpiredSighting,
};
pub use items::{KnownItem, Merged, NewItem, Sighting, Source, Upsert, Upserted};
pub use jobs::{HostInfo, JobRegistration, RegisteredJob, RegisteredStage, StageRegistration};
pub use operating::{
    Cancel, Cancelled, DeadFilter, DeadRow, EventRow, EventsFilter, NewEvent, OperationRow, OperationState, Redrive,
    Restart,
};
pub use views::{
    AttemptRow, AttemptsFilter, ItemDetail, ItemRow, ItemStageDetail, ItemsFilter, JobRow, JobStats, Outlook, Outputs,
    ResultRow, StageStats,
};
pub use work::{
    Claim, ClaimRequest, Completion, Lease, Lost, Output, Reap, Release, Round, RoundDone, Settlement, Upstream,
};
