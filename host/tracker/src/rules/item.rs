//! The facts that rules are given.
//!
//! Owns an item without its data, a queue row that was taken out, and where ready work stands in line. Never says where
//! they come from.

use gristmill_model::{
    Counters, Dag, Fence, ItemId, ItemStatus, JobId, Masks, StageBit, StageId, StageKey, State, Timestamp,
};

/// One step of priority weighs as much as a minute of waiting. With priority in the key, the oldest of any priority is
/// reached in the end, and no sweep ever changes a row.
const PRIORITY_STEP_MICROS: i64 = 60_000_000;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Where a ready stage stands in line: the lowest goes first.
pub const fn claim_key(due_at: i64, priority: i64) -> i64 {
    due_at.saturating_sub(priority.saturating_mul(PRIORITY_STEP_MICROS))
}

/// The day on which a charge is summed up, from 1970-01-01 on.
pub const fn day(at: Timestamp) -> i64 {
    at.0.div_euclid(MICROS_PER_DAY)
}

/// An item's row, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its number.
    pub id: ItemId,
    /// Whose it is: bits mean that job's stages.
    pub job: JobId,
    /// What is known of its stages.
    pub masks: Masks,
    /// Higher runs sooner.
    pub priority: i64,
    /// A person wants it left alone.
    pub cancelled: bool,
}

impl Item {
    /// Where the row of one of its stages is.
    pub const fn key(&self, bit: StageBit) -> StageKey {
        StageKey::new(self.id, bit)
    }

    /// A stage of its job.
    pub const fn stage(&self, bit: StageBit) -> StageId {
        StageId::new(self.job, bit)
    }

    /// What its masks say of it as a whole.
    pub const fn status(&self, dag: &Dag) -> ItemStatus {
        ItemStatus::of(self.masks, dag.all(), self.cancelled)
    }

    /// The stages that have an outcome, those included that are being redone.
    pub const fn settled(&self) -> u64 {
        self.masks.done | self.masks.skipped | self.masks.dead
    }

    /// What a stage was settled as, also while it is redone; none if it never was.
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

/// What the queue row of a leased stage says when it is taken out. Taking it out under its fence is the licence to
/// record the attempt.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Which row.
    pub key: StageKey,
    /// Of the lease that held it.
    pub fence: Fence,
    /// Its stage.
    pub stage: StageId,
    /// Since when it was ready, in microseconds.
    pub due_at: i64,
    /// When it was ready for the first time, before any attempt.
    pub first_due_at: i64,
    /// What was counted before this attempt.
    pub counters: Counters,
    /// The number of the attempt before this one.
    pub last_attempt: Option<i64>,
    /// The number of the operation that wants it.
    pub operation: Option<i64>,
    /// What it was given is no longer what it would be given: it runs once more.
    pub superseded: bool,
}
