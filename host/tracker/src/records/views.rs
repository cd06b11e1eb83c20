//! What people read: jobs, items, results, attempts.

use std::collections::HashMap;

use gristmill_model::{
    AttemptId, Counters, DeadReason, Digest, Fence, HostId, ItemId, ItemStatus, JobId, Masks, Outcome, StageId, State,
    Timestamp,
};

use super::items::Sighting;

/// A job.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Its stages in the order of the file, without retired ones.
    pub stages: Vec<(StageId, String)>,
}

/// A job's counters.
#[derive(Clone, Debug, Default)]
pub struct JobStats {
    /// How many items have each status.
    pub items: HashMap<ItemStatus, u64>,
    /// In the order of the job file.
    pub stages: Vec<StageStats>,
    /// What was charged since the beginning, by meter.
    pub charges: Vec<(String, f64)>,
}

impl JobStats {
    /// All items.
    pub fn total(&self) -> u64 {
        self.items.values().sum()
    }

    /// How many stages of items are in one of these states.
    pub fn in_states(&self, states: &[State]) -> u64 {
        self.stages.iter().flat_map(|stage| states.iter().map(|state| stage.count(*state))).sum()
    }
}

/// A stage's counters.
#[derive(Clone, Debug)]
pub struct StageStats {
    /// The stage.
    pub id: StageId,
    /// Its name.
    pub name: String,
    /// Its current version.
    pub version: Option<Digest>,
    /// How many results were made by another version than the current one.
    pub other_versions: u64,
    /// How many items are in each state, without blocked ones. A stage that runs again counts twice: by its older
    /// result, and by its row in the queue.
    pub states: HashMap<State, u64>,
}

impl StageStats {
    /// How many items are in this state.
    pub fn count(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }
}

/// Which items to list.
#[derive(Clone, Debug)]
pub struct ItemsFilter {
    /// The job.
    pub job: JobId,
    /// Only with this status.
    pub status: Option<ItemStatus>,
    /// Only those whose key starts with this.
    pub prefix: String,
    /// Only those after this one.
    pub after: ItemId,
    /// How many at most.
    pub limit: u32,
}

/// An item in a list.
#[derive(Clone, Debug)]
pub struct ItemRow {
    /// The item.
    pub id: ItemId,
    /// Its key.
    pub key: String,
    /// Its status.
    pub status: ItemStatus,
    /// Its masks.
    pub masks: Masks,
    /// When it was found.
    pub discovered_at: Timestamp,
    /// When its data changed last.
    pub changed_at: Timestamp,
}

/// An item with all that is known about it.
#[derive(Clone, Debug)]
pub struct ItemDetail {
    /// The item as a list shows it.
    pub row: ItemRow,
    /// Its data.
    pub data: String,
    /// Its priority.
    pub priority: i32,
    /// Its sightings, the newest first.
    pub sightings: Vec<Sighting>,
    /// In the order of the job file.
    pub stages: Vec<ItemStageDetail>,
}

/// A stage of an item.
#[derive(Clone, Debug)]
pub struct ItemStageDetail {
    /// The stage's name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Why it is dead.
    pub reason: Option<DeadReason>,
    /// When it will be ready, if it waits.
    pub due_at: Option<Timestamp>,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// How often it was tried without success.
    pub counters: Counters,
    /// The version of its result.
    pub version: Option<Digest>,
    /// Whether that is the stage's current version.
    pub current: bool,
    /// Its output, if the caller wants it.
    pub output: Option<String>,
    /// The length of its output, in bytes.
    pub output_bytes: Option<u64>,
    /// What went wrong, or why it was skipped.
    pub error: Option<String>,
    /// The stages it needs that are not settled.
    pub blocked_by: Vec<String>,
    /// Its attempts, the newest first.
    pub attempts: Vec<AttemptRow>,
}

/// Which outputs of an item to read, since each may be very large.
#[derive(Clone, Debug)]
pub enum Outputs {
    /// All of them.
    All,
    /// The output of one stage.
    Of(String),
    /// The outputs of at most this many bytes.
    UpTo(u64),
}

impl Outputs {
    /// Whether to read an output of this stage with this length.
    pub fn want(&self, stage: &str, bytes: u64) -> bool {
        match self {
            Self::All => true,
            Self::Of(wanted) => wanted == stage,
            Self::UpTo(bytes_max) => bytes <= *bytes_max,
        }
    }
}

/// A result in a list.
#[derive(Clone, Debug)]
pub struct ResultRow {
    /// The item.
    pub item: ItemId,
    /// Its key.
    pub item_key: String,
    /// The stage's output.
    pub output: String,
}

/// Which attempts to list.
#[derive(Clone, Debug)]
pub struct AttemptsFilter {
    /// The job.
    pub job: JobId,
    /// Only of this stage.
    pub stage: Option<StageId>,
    /// Only with this outcome.
    pub outcome: Option<Outcome>,
    /// How many at most.
    pub limit: u32,
}

/// A recorded attempt.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// The attempt.
    pub id: AttemptId,
    /// The item.
    pub item: ItemId,
    /// The item's key; none if the item was deleted.
    pub item_key: Option<String>,
    /// The stage's name.
    pub stage: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The host that ran it.
    pub host: HostId,
    /// The lease that it ran under.
    pub fence: Fence,
    /// When it became ready.
    pub queued_at: Timestamp,
    /// When it began, if its host reported that.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The version that ran.
    pub version: Option<Digest>,
    /// The most linear memory it had, in bytes.
    pub memory_bytes_max: Option<u64>,
    /// What went wrong.
    pub error: Option<String>,
    /// What it logged.
    pub log: Option<String>,
    /// What it was charged, by meter.
    pub charges: Vec<(String, f64)>,
}

/// What waits, and what is leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// When the next waiting stage will be ready; none if none waits.
    pub next_due: Option<Timestamp>,
    /// How many leases all hosts have.
    pub leases: u64,
}
