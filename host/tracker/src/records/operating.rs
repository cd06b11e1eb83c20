//! What people ask for, and the records of it: cancelling, redriving, events.

use gristmill_model::{Counters, DeadReason, ItemId, JobId, OperationId, StageId, StageKey, Timestamp};

/// Items of a job that a person cancels or restores.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// The job.
    pub job: JobId,
    /// Their keys.
    pub keys: Vec<String>,
    /// Whether to restore them.
    pub undo: bool,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: Timestamp,
}

/// The result of a cancellation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Items that were changed. The others already had that state.
    pub changed: u64,
    /// Their stages that are running and may finish.
    pub running: u64,
    /// Keys that no item has.
    pub unknown: Vec<String>,
}

/// A filter of dead stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadFilter {
    /// The job.
    pub job: JobId,
    /// Only of this stage.
    pub stage: Option<StageId>,
    /// Only with this reason.
    pub reason: Option<DeadReason>,
    /// Only those whose error contains exactly this text.
    pub error: Option<String>,
    /// Only those that have been dead since before this time.
    pub before: Option<Timestamp>,
    /// Only of the items with these keys; none for all items.
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
    /// How often it was tried without success.
    pub counters: Counters,
    /// Since when it is dead.
    pub settled_at: Timestamp,
    /// What went wrong.
    pub error: Option<String>,
}

/// An operation that a person asks for: it redrives dead stages.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// Which dead stages.
    pub filter: DeadFilter,
    /// How many at most.
    pub limit: u64,
    /// How many per second at most; none for no limit.
    pub rate: Option<f64>,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: Timestamp,
}

/// The state of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationState {
    /// It does its steps.
    Running,
    /// A person stopped it for now.
    Paused,
    /// It is complete.
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
    /// Its state.
    pub state: OperationState,
    /// How many stages matched its filter when it began.
    pub planned: u64,
    /// How many of them it has processed.
    pub done: u64,
    /// How many at most.
    pub limit: u64,
    /// How many per second at most; none for no limit.
    pub rate: Option<f64>,
    /// The earliest time of its next step, by its rate.
    pub next_at: Timestamp,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last did a step.
    pub updated_at: Timestamp,
}

/// An event to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// What, in two words: `item.cancelled`.
    pub kind: String,
    /// The job that it concerns.
    pub job: Option<JobId>,
    /// Its details: JSON.
    pub data: String,
    /// When.
    pub now: Timestamp,
}

/// Which events to list.
#[derive(Clone, Debug)]
pub struct EventsFilter {
    /// Only events that concern this job.
    pub job: Option<JobId>,
    /// Only events of this kind. With a dot at the end: of all kinds that begin with it.
    pub kind: Option<String>,
    /// How many at most.
    pub limit: u32,
}

/// A recorded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its number. A later event has a higher one.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: String,
    /// The job that it concerns.
    pub job: Option<JobId>,
    /// The item that it concerns.
    pub item: Option<ItemId>,
    /// The operation that it is part of.
    pub operation: Option<OperationId>,
    /// Its details: JSON.
    pub data: String,
}

/// A request that a job's discovery begins again at its first page.
#[derive(Clone, Debug)]
pub struct Restart {
    /// The job.
    pub job: JobId,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: Timestamp,
}
