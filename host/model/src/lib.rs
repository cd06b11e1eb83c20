//! The basic types of gristmill, and its pure functions.
//!
//! Owns the ids, the shape of a job, the stage DAG with its masks, the state machine of a stage, what an outcome leads
//! to, and the formulas of versions and inputs. It never does I/O, never asks the time itself, and knows no database,
//! no WebAssembly and no YAML.

mod clock;
mod dag;
mod digest;
mod ids;
mod json;
mod merge;
mod number;
mod outcome;
mod retry;
mod spec;
mod state;
mod version;
mod when;

pub use clock::{Clock, SystemClock, Timestamp};
pub use dag::{Bits, Dag, ItemStatus, Masks, STAGES_MAX, find_cycle};
pub use digest::Digest;
pub use ids::{AttemptId, Fence, HostId, ItemId, JobId, OperationId, StageBit, StageId, StageKey, VersionId};
pub use json::{JSON_DEPTH_MAX, NotJson, check_json};
pub use merge::{Merge, MergePolicy, MergeRule, OnUpdate, Rediscovery};
pub use outcome::{Counters, DeadReason, Disposition, Outcome, decide, decide_lost};
pub use retry::{Backoff, Jitter, RetryPolicy};
pub use spec::{
    DiscoverSpec, DiscoverTuning, Expiring, FileGrant, Grants, Job, JobSpec, JobTuning, Limits, Need, Retention,
    StageSpec, StageTuning,
};
pub use state::{Event, IllegalTransition, State, transition};
pub use version::{ComponentIdentity, idempotency_key, input_hash, stage_version};
pub use when::{Condition, When};
