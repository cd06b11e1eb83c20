//! The facts that rules get.
//!
//! Owns an item without its data, a queue row that was taken out, and the order of claims. Never reads them from a
//! database.

use gristmill_model::{
    Counters, Dag, Fence, ItemId, ItemStatus, JobId, Masks, StageBit, StageId, StageKey, State, Timestamp,
};

/// One step of priority counts as much as a minute of waiting, in microseconds. Since the key contains the priority,
/// work of every priority is claimed in the end, and rows never need an update to age.
const PRIORITY_STEP_MICROS: i64 = 60_000_000;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The position of a ready stage in the order of claims: the lowest is claimed first.
pub const fn claim_key(due_at: i64, priority: i64) -> i64 {
    due_at.saturating_sub(priority.saturating_mul(PRIORITY_STEP_MICROS))
}

/// The day to which a charge is added, counted from 1970-01-01.
pub const fn day(at: Timestamp) -> i64 {
    at.0.div_euclid(MICROS_PER_DAY)
}

/// An item's row, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its number.
    pub id: ItemId,
    /// Its job, which gives its bits a meaning.
    pub job: JobId,
    /// The states of its stages.
    pub masks: Masks,
    /// Higher runs sooner.
    pub priority: i64,
    /// Whether a person cancelled it.
    pub cancelled: bool,
}

impl Item {
    /// The key of one of its stages.
    pub const fn key(&self, bit: StageBit) -> StageKey {
        StageKey::new(self.id, bit)
    }

    /// A stage of its job.
    pub const fn stage(&self, bit: StageBit) -> StageId {
        StageId::new(self.job, bit)
    }

    /// Its status, from its masks.
    pub const fn status(&self, dag: &Dag) -> ItemStatus {
        ItemStatus::of(self.masks, dag.all(), self.cancelled)
    }

    /// The stages that have an outcome, including those that run again.
    pub const fn settled(&self) -> u64 {
        self.masks.done | self.masks.skipped | self.masks.dead
    }

    /// The state in which a stage was settled, even while it runs again; none if it never was.
    pub const fn settled_as(&self, bit: StageBit) -> Option<State> {
        let Masks { done, skipped, dead, .. } = self.masks;
        if dead & bit.mask() != 0 {
            Some(State::Dead)
        } else if done & bit.mask() != 0 {
            Some(State::Done)
        } else if skipped & bit.mask() != 0 {
            Some(State::Skipped)
        } else {
            None
        }
    }
}

/// The queue row of a leased stage, when it is taken out. Only the transaction that takes it out, under its fence, may
/// record the attempt.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Which row.
    pub key: StageKey,
    /// The fence of the lease that held it.
    pub fence: Fence,
    /// Its stage.
    pub stage: StageId,
    /// When it became ready, in microseconds.
    pub due_at: i64,
    /// When it first became ready, before any attempt, in microseconds.
    pub first_due_at: i64,
    /// How often it was tried without success before this attempt.
    pub counters: Counters,
    /// The number of the attempt before this one.
    pub last_attempt: Option<i64>,
    /// The number of the operation that redrove it.
    pub operation: Option<i64>,
    /// Whether its input changed while it was leased: then it runs once more.
    pub superseded: bool,
}
