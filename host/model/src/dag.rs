//! The stage DAG of a job, and the masks of an item.
//!
//! Owns two questions: which stages of an item may run now, and what is the item's status. Both answers are functions
//! of five masks; no other copy is stored that could differ. Never touches an item.

use crate::StageBit;

/// How many stages a job may have: one bit each in a signed 64-bit column.
pub const STAGES_MAX: usize = 63;

/// What is known about an item: one bit a stage in each mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Masks {
    /// The stage has a result.
    pub done: u64,
    /// The stage does not apply to this item.
    pub skipped: u64,
    /// The stage failed for good.
    pub dead: u64,
    /// The stage has a queue row: ready, leased or waiting.
    pub live: u64,
    /// The stage is done or skipped, and shall run again: its input changed, or a person asked for it.
    pub stale: u64,
}

impl Masks {
    /// The stages that need no run: done or skipped, and not stale.
    pub const fn fresh(self) -> u64 {
        (self.done | self.skipped) & !self.stale
    }
}

/// An item's status, computed from its masks and never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemStatus {
    /// A person cancelled it.
    Cancelled,
    /// Every stage is done or skipped, and fresh.
    Done,
    /// Something is ready, leased or waiting.
    Active,
    /// A stage is dead, and no other stage is ready, leased or waiting.
    Failed,
    /// None of these: nothing has begun, or an edited job added a stage.
    Pending,
}

impl ItemStatus {
    /// Every status, in the order in which people read them.
    pub const ALL: [Self; 5] = [Self::Done, Self::Active, Self::Failed, Self::Pending, Self::Cancelled];

    /// The status of an item with these masks, in a job whose stages are `all`.
    pub const fn of(masks: Masks, all: u64, cancelled: bool) -> Self {
        if cancelled {
            Self::Cancelled
        } else if masks.fresh() & all == all {
            Self::Done
        } else if masks.live & all != 0 {
            Self::Active
        } else if masks.dead & all != 0 {
            Self::Failed
        } else {
            Self::Pending
        }
    }

    /// The number that databases store. Part of the schema: never changed, never reused.
    pub const fn code(self) -> i64 {
        match self {
            Self::Done => 1,
            Self::Active => 2,
            Self::Failed => 3,
            Self::Pending => 4,
            Self::Cancelled => 5,
        }
    }

    /// The status of that number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The name that people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Done => "done",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Pending => "pending",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// Which stage needs which, by bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dag {
    all: u64,
    needs: [u64; STAGES_MAX],
    needs_output: [u64; STAGES_MAX],
    dependents: [u64; STAGES_MAX],
}

impl Default for Dag {
    fn default() -> Self {
        Self { all: 0, needs: [0; STAGES_MAX], needs_output: [0; STAGES_MAX], dependents: [0; STAGES_MAX] }
    }
}

impl Dag {
    /// Adds a stage that needs the stages in `needs`. It cannot do without the *output* of those in `needs_output`. The
    /// caller has checked that there is no cycle (`find_cycle`).
    pub fn add(&mut self, bit: StageBit, needs: u64, needs_output: u64) {
        let index = usize::from(bit.0);
        self.all |= bit.mask();
        self.needs[index] = needs | needs_output;
        self.needs_output[index] = needs_output;
        for need in Bits(needs | needs_output) {
            self.dependents[usize::from(need.0)] |= bit.mask();
        }
    }

    /// Every stage.
    pub const fn all(&self) -> u64 {
        self.all
    }

    /// The stages that this one needs.
    pub fn needs(&self, bit: StageBit) -> u64 {
        self.needs[usize::from(bit.0)]
    }

    /// The stages that need this one.
    pub fn dependents(&self, bit: StageBit) -> u64 {
        self.dependents[usize::from(bit.0)]
    }

    /// The stages that may run now. All stages that such a stage needs are settled, and none of them is stale or live.
    /// The stage itself is neither fresh nor dead nor live.
    pub fn runnable(&self, masks: Masks) -> u64 {
        self.runnable_among(masks, self.all)
    }

    /// As `runnable`, for a few candidates: when a stage is settled, only its dependents can become runnable.
    pub fn runnable_among(&self, masks: Masks, candidates: u64) -> u64 {
        let open = candidates & self.all & !(masks.fresh() | masks.dead | masks.live);
        let usable = (masks.done | masks.skipped) & !(masks.stale | masks.live);
        let mut runnable = 0;
        for bit in Bits(open) {
            let index = usize::from(bit.0);
            if self.needs[index] & !usable == 0 && self.needs_output[index] & masks.skipped == 0 {
                runnable |= bit.mask();
            }
        }
        runnable
    }

    /// Whether a stage lacks something: the outcome of a stage that it needs, or an output that it cannot do without. A
    /// stage that is not in the DAG lacks everything.
    pub fn lacks(&self, masks: Masks, bit: StageBit) -> bool {
        let index = usize::from(bit.0);
        self.all & bit.mask() == 0
            || self.needs[index] & !(masks.done | masks.skipped) != 0
            || self.needs_output[index] & masks.skipped != 0
    }

    /// The stages that cannot do without the output of one of the `skipped` stages.
    pub fn barred(&self, skipped: u64) -> u64 {
        Bits(self.all)
            .filter(|bit| self.needs_output[usize::from(bit.0)] & skipped != 0)
            .fold(0, |mask, bit| mask | bit.mask())
    }

    /// The stages that can never run: they cannot do without the output of a skipped stage, directly or through another
    /// such stage. They must be skipped too, also if they are stale, since they cannot run again.
    pub fn skipped_through(&self, masks: Masks) -> u64 {
        let mut skipped = masks.skipped;
        loop {
            let more = self.barred(skipped) & !(skipped | masks.fresh() | masks.dead | masks.live);
            if more == 0 {
                return skipped & !masks.skipped;
            }
            skipped |= more;
        }
    }
}

/// Finds a cycle among stages given by position: `needs[i]` lists what `i` needs. Returns the positions along it,
/// the first one repeated at the end; none if there is no cycle.
pub fn find_cycle(needs: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Closed,
    }
    let mut marks = vec![Mark::New; needs.len()];
    for start in 0..needs.len() {
        if marks[start] != Mark::New {
            continue;
        }
        // Depth first, with an explicit stack: (stage, how many of its needs were visited).
        marks[start] = Mark::Open;
        let mut path = vec![(start, 0)];
        while let Some((stage, next)) = path.last_mut() {
            let Some(&need) = needs[*stage].get(*next) else {
                marks[*stage] = Mark::Closed;
                path.pop();
                continue;
            };
            *next += 1;
            match marks.get(need) {
                Some(Mark::Open) => {
                    let from = path.iter().position(|&(stage, _)| stage == need).unwrap_or(0);
                    let mut cycle: Vec<usize> = path[from..].iter().map(|&(stage, _)| stage).collect();
                    cycle.push(need);
                    return Some(cycle);
                }
                Some(Mark::New) => {
                    marks[need] = Mark::Open;
                    path.push((need, 0));
                }
                Some(Mark::Closed) | None => {}
            }
        }
    }
    None
}

/// The bits that are set in a mask, lowest first.
#[derive(Clone, Debug)]
pub struct Bits(pub u64);

impl Iterator for Bits {
    type Item = StageBit;

    fn next(&mut self) -> Option<StageBit> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(StageBit(bit as u8))
    }
}

#[cfg(test)]
#[path = "dag_tests.rs"]
mod tests;
