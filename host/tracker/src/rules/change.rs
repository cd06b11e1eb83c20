//! What an act changes on one item, and what that means for the counters.
//!
//! Owns the consequences that every act has in common: what is skipped along, what may run now, and the counters, which
//! follow from the item before and after. Describes writes, and never makes one.

use gristmill_model::{Bits, Dag, Masks, StageId, StageKey, State, Timestamp};

use super::{Item, Tally, claim_key};

/// What is written to the error of a stage that is skipped along.
pub const SKIPPED_ALONG: &str = "a stage whose output it needs was skipped";

/// Rows of an item in the queue: one bit a stage, in the mask of its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// May be claimed.
    pub ready: u64,
    /// A host has them under a fence.
    pub leased: u64,
    /// Wait for their next attempt.
    pub waiting: u64,
}

impl Rows {
    /// All of them.
    pub const fn all(self) -> u64 {
        self.ready | self.leased | self.waiting
    }

    /// Adds rows in that state. What is in no state of the queue is none.
    pub const fn add(&mut self, state: Option<State>, bits: u64) {
        match state {
            Some(State::Ready) => self.ready |= bits,
            Some(State::Leased) => self.leased |= bits,
            Some(State::Waiting) => self.waiting |= bits,
            _ => {}
        }
    }

    /// Takes those of these stages out.
    pub const fn take(&mut self, bits: u64) -> Self {
        let Self { ready, leased, waiting } = *self;
        *self = Self { ready: ready & !bits, leased: leased & !bits, waiting: waiting & !bits };
        Self { ready: ready & bits, leased: leased & bits, waiting: waiting & bits }
    }

    const fn by_state(self) -> [(State, u64); 3] {
        [(State::Ready, self.ready), (State::Leased, self.leased), (State::Waiting, self.waiting)]
    }
}

/// How a change is counted among the items of its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Census {
    /// It was counted, as what it was.
    Known,
    /// It is counted for the first time.
    New,
    /// It is counted anew, by whoever brings its job in line.
    Anew,
    /// It is counted no more.
    Gone,
}

/// A row that enters the queue, ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which row.
    pub key: StageKey,
    /// Its stage: claims ask by it.
    pub stage: StageId,
    /// Where it stands in line, as `claim_key` says.
    pub claim_key: i64,
    /// It has a history: its attempts go on with the chain of its last outcome.
    pub chained: bool,
}

/// What an act makes of one item.
///
/// The writes that it stands for, in this order: the outcome `skipped`, with nothing else, for the stages in `skipped`; rows
/// of the queue for `entered.ready`; what becomes of the outcomes of `renewed` stages, since the queue goes on with the
/// chain of their attempts; a mark on the rows of `superseded` stages that are leased; and the item's masks where they
/// differ, if it is not new. Other rows are written by the act itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The item as it was read.
    pub before: Item,
    /// The item as it is now.
    pub after: Item,
    /// How its job counts it.
    pub census: Census,
    /// Rows that left the queue.
    pub left: Rows,
    /// Rows that enter the queue.
    pub entered: Rows,
    /// Stages that are skipped along, whatever they had.
    pub skipped: u64,
    /// Of those, the ones whose output is given up: the count of its version goes down.
    pub replaced: u64,
    /// Stages that were dead and start anew: an older result stands again, and without one the outcome is forgotten.
    pub renewed: u64,
    /// Stages that are given something else from now on. Those that are leased run once more when they are settled.
    pub superseded: u64,
}

impl Change {
    /// Nothing yet.
    pub const fn of(item: Item) -> Self {
        let none = Rows { ready: 0, leased: 0, waiting: 0 };
        Self {
            before: item,
            after: item,
            census: Census::Known,
            left: none,
            entered: none,
            skipped: 0,
            replaced: 0,
            renewed: 0,
            superseded: 0,
        }
    }

    /// Takes rows out of the queue.
    pub const fn leave(&mut self, rows: Rows) {
        self.left = rows;
        self.after.masks.live &= !rows.all();
    }

    /// Has dead stages start anew. `results`: those of them that have an older result, which stands again and is stale.
    pub const fn renew(&mut self, stages: u64, results: u64) {
        let masks = &mut self.after.masks;
        masks.dead &= !stages;
        masks.done |= stages & results;
        masks.stale |= stages & results;
        self.renewed |= stages;
    }

    /// Does what follows from the masks as they are: skips along what can never run, and puts what may run into the
    /// queue, but for a cancelled item. `candidates`: where nothing was ever skipped, no other stage can have become
    /// runnable.
    pub fn follow(&mut self, dag: &Dag, candidates: u64) {
        (self.skipped, self.replaced) = skip_along(dag, &mut self.after.masks);
        self.renewed &= !self.skipped;
        // Without anything skipped, which is the hot path, there is no more to look at.
        let candidates = if self.after.masks.skipped == 0 { candidates } else { dag.all() };
        if !self.after.cancelled {
            self.enter(dag.runnable_among(self.after.masks, candidates));
        }
    }

    /// Puts stages into the queue, ready.
    pub const fn enter(&mut self, ready: u64) {
        self.entered.ready |= ready;
        self.after.masks.live |= ready;
    }

    /// The rows that enter the queue, ready since `now`.
    pub fn ready(&self, now: Timestamp) -> impl Iterator<Item = Ready> {
        let Self { before, after, entered, renewed, .. } = *self;
        let chained = before.settled() | after.settled() | renewed;
        Bits(entered.ready).map(move |bit| Ready {
            key: after.key(bit),
            stage: after.stage(bit),
            claim_key: claim_key(now.0, after.priority),
            chained: chained & bit.mask() != 0,
        })
    }

    /// Whether the masks of an item that is there are other ones now.
    pub fn is_other(&self) -> bool {
        self.before.masks != self.after.masks && !matches!(self.census, Census::New | Census::Gone)
    }

    /// Counts it. `is_counted`: whether its job counts this item; while a job is being brought in line, it does not
    /// count the items behind the point that was reached.
    pub fn count(&self, dag: &Dag, is_counted: bool, tally: &mut Tally) {
        let stage = |bit| self.after.stage(bit);
        for (rows, change) in [(self.left, -1), (self.entered, 1)] {
            for (state, bits) in rows.by_state() {
                Bits(bits).for_each(|bit| tally.stage(stage(bit), state, change));
            }
        }
        let (was, is) = (self.before.masks, self.after.masks);
        let settled = [
            (State::Done, was.done, is.done),
            (State::Skipped, was.skipped, is.skipped),
            (State::Dead, was.dead, is.dead),
        ];
        for (state, was, is) in settled {
            Bits(was & !is).for_each(|bit| tally.stage(stage(bit), state, -1));
            Bits(is & !was).for_each(|bit| tally.stage(stage(bit), state, 1));
        }
        let (was, is) = (self.before.status(dag), self.after.status(dag));
        let (goes, comes) = match self.census {
            Census::Known => (is_counted && was != is, is_counted && was != is),
            Census::New => (false, is_counted),
            Census::Anew => (false, true),
            Census::Gone => (is_counted, false),
        };
        if goes {
            tally.item(self.after.job, was, -1);
        }
        if comes {
            tally.item(self.after.job, is, 1);
        }
    }
}

/// Skips along whatever can never run, since it cannot do without the output of a stage that is skipped. Returns those
/// stages, and of those the ones that had a result, which was stale: what was made from them is stale now, too. What is
/// skipped so and stays so is never stale: it could not be redone.
fn skip_along(dag: &Dag, masks: &mut Masks) -> (u64, u64) {
    let (mut skipped, mut replaced) = (0, 0);
    if masks.skipped == 0 {
        return (skipped, replaced);
    }
    loop {
        let more = dag.skipped_through(*masks);
        if more == 0 {
            masks.stale &= !(masks.skipped & !masks.live & dag.barred(masks.skipped));
            return (skipped, replaced);
        }
        let had = more & masks.done;
        masks.done &= !more;
        masks.stale &= !more;
        masks.skipped |= more;
        let dependents = Bits(had).fold(0, |mask, bit| mask | dag.dependents(bit));
        masks.stale |= dependents & (masks.done | masks.skipped) & !more;
        skipped |= more;
        replaced |= had;
    }
}
