//! What people ask for, and what is recorded of it: cancelling, redriving, events.

use gristmill_model::{Counters, DeadReason, ItemId, JobId, OperationId, StageId, StageKey, Timestamp};

/// Items of a job that a person wants left alone, or taken up again.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// The job.
    pub job: JobId,
    /// Their keys.
    pub keys: Vec<String>,
    /// Take them up again.
    pub undo: bool,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: Timestamp,
}

/// What became of a cancellation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Items that were changed. The others were so already.
    pub changed: u64,
    /// Their stages that are running, and are let finish.
    pub running: u64,
    /// Keys of no item.
    pub unknown: Vec<String>,
}

/// Which dead stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadFilter {
    /// The job.
    pub job: JobId,
    /// Of this stage alone.
    pub stage: Option<StageId>,
    /// For this reason alone.
    pub reason: Option<DeadReason>,
    /// Whose error contains this, to the letter.
    pub error: Option<String>,
    /// Dead since before then.
    pub before: Option<Timestamp>,
    /// Of these items alone, by key; none: of any.
    pub keys: Option<Vec<String>>,
}

impl DeadFilter {
    /// All dead stages of a job.
    pub fn all(job: JobId) -> Self {
        Self { job, stage: None, reason: None, error: None, before: None, keys: None }
    }
}

/// A dead stage of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadRow {
    /// The stage of the item.
    pub key: StageKey,
    /// The item's key.
    pub item_key: String,
    /// The stage's name.
    pub stage: String,
    /// Why.
    pub reason: DeadReason,
    /// What was counted.
    pub counters: Counters,
    /// Since when.
    pub settled_at: Timestamp,
    /// What went wrong.
    pub error: Option<String>,
}

/// An operation that a person asks for: dead stages are to be tried again.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// Which.
    pub filter: DeadFilter,
    /// How many at most.
    pub limit: u64,
    /// How many a second; none: as fast as may be.
    pub rate: Option<f64>,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: Timestamp,
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationState {
    /// It goes on.
    Running,
    /// A person stopped it for now.
    Paused,
    /// It came to its end.
    Done,
    /// A person ended it.
    Cancelled,
}

impl OperationState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Done, Self::Cancelled];

    /// The number that databases store. Part of the schema: never changed, never reused.
    pub const fn code(self) -> i64 {
        match self {
            Self::Running => 1,
            Self::Paused => 2,
            Self::Done => 3,
            Self::Cancelled => 4,
        }
    }

    /// The state of that number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// The name that people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether a person may move an operation from this state to that.
    pub const fn may_become(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::Running, Self::Paused | Self::Cancelled) | (Self::Paused, Self::Running | Self::Cancelled)
        )
    }
}

/// An operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationRow {
    /// The operation.
    pub id: OperationId,
    /// What it does: `redrive`.
    pub kind: String,
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub state: OperationState,
    /// How many stages it meant when it began.
    pub planned: u64,
    /// How many of them it has taken up.
    pub done: u64,
    /// How many at most.
    pub limit: u64,
    /// How many a second at most.
    pub rate: Option<f64>,
    /// Not before then, as its rate says.
    pub next_at: Timestamp,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last went on.
    pub updated_at: Timestamp,
}

/// Something that happened, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// What, in two words: `item.cancelled`.
    pub kind: String,
    /// The job it is about.
    pub job: Option<JobId>,
    /// More of it: JSON.
    pub data: String,
    /// When.
    pub now: Timestamp,
}

/// Which events to list.
#[derive(Clone, Debug)]
pub struct EventsFilter {
    /// About this job alone, and not about none.
    pub job: Option<JobId>,
    /// Of this kind alone, or of all that begin so, where it ends in a dot.
    pub kind: Option<String>,
    /// How many at most.
    pub limit: u32,
}

/// A recorded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its number: it only ever rises.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: String,
    /// The job it is about.
    pub job: Option<JobId>,
    /// The item it is about.
    pub item: Option<ItemId>,
    /// The operation that it is part of.
    pub operation: Option<OperationId>,
    /// More of it: JSON.
    pub data: String,
}

/// Discovery of a job that is to begin again at its first page.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The job.
    pub job: JobId,
    /// Who says so.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: Timestamp,
}
