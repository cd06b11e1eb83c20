//! What an act changes on one item, and the effect on counters.
//!
//! Owns the consequences that all acts share: which other stages are skipped, which may run now, and the counters,
//! which follow from the item before and after. Describes writes. Never makes one.

use gristmill_model::{Bits, Dag, Masks, StageId, StageKey, State, Timestamp};

use super::{Item, Tally, claim_key};

/// The recorded error of a stage that is skipped as a consequence.
pub const SKIPPED_ALONG: &str = "a stage whose output it needs was skipped";

/// Rows of an item in the queue: one bit for each stage, in the mask of its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Stages that may be claimed.
    pub ready: u64,
    /// Stages that a host holds under a fence.
    pub leased: u64,
    /// Stages that wait for their next attempt.
    pub waiting: u64,
}

impl Rows {
    /// All of them.
    pub const fn all(self) -> u64 {
        self.ready | self.leased | self.waiting
    }

    /// Adds rows in this state. Other states than those of the queue have no rows.
    pub const fn add(&mut self, state: Option<State>, bits: u64) {
        match state {
            Some(State::Ready) => self.ready |= bits,
            Some(State::Leased) => self.leased |= bits,
            Some(State::Waiting) => self.waiting |= bits,
            _ => {}
        }
    }

    /// Takes the rows of these stages out, and returns them.
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
    /// It was counted with its old status.
    Known,
    /// It is counted for the first time.
    New,
    /// It is counted again, while its job is reconciled.
    Anew,
    /// It is not counted any more.
    Gone,
}

/// A row that enters the queue, ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which row.
    pub key: StageKey,
    /// Its stage, by which claims find it.
    pub stage: StageId,
    /// Its position in the order of claims: see `claim_key`.
    pub claim_key: i64,
    /// Whether it has a history: its attempts then continue the chain of its last outcome.
    pub chained: bool,
}

/// What an act changes on one item.
///
/// A backend makes these writes, in this order: the plain outcome `skipped` for the stages in `skipped`; queue rows for
/// `entered.ready`; the outcomes of `renewed` stages, since the queue continues the chain of their attempts; a mark on
/// the rows of `superseded` stages that are leased; and the item's masks, if they changed and the item is not new. The
/// act itself writes all other rows.
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
    /// Stages that are skipped as a consequence, whatever their state was.
    pub skipped: u64,
    /// Those of them that lose an output: the count of its version goes down.
    pub replaced: u64,
    /// Dead stages that start anew: an older result counts again, and without one the outcome is forgotten.
    pub renewed: u64,
    /// Stages whose input is different from now on. Leased ones run once more after they are settled.
    pub superseded: u64,
}

impl Change {
    /// A change of nothing, to start from.
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

    /// Makes dead stages start anew. `results` has those with an older result, which counts again and is stale.
    pub const fn renew(&mut self, stages: u64, results: u64) {
        let masks = &mut self.after.masks;
        masks.dead &= !stages;
        masks.done |= stages & results;
        masks.stale |= stages & results;
        self.renewed |= stages;
    }

    /// Adds the consequences of the current masks: skips stages that can never run, and enqueues stages that may run,
    /// unless the item is cancelled. If nothing was ever skipped, only `candidates` can have become runnable.
    pub fn follow(&mut self, dag: &Dag, candidates: u64) {
        (self.skipped, self.replaced) = skip_along(dag, &mut self.after.masks);
        self.renewed &= !self.skipped;
        // Usually nothing is skipped, and then the candidates are enough.
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

    /// Whether the masks of an existing item changed.
    pub fn is_other(&self) -> bool {
        self.before.masks != self.after.masks && !matches!(self.census, Census::New | Census::Gone)
    }

    /// Counts the change. `is_counted` says whether its job counts this item. While a job is being reconciled, it does
    /// not count items after the point that is reached.
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

/// Skips all stages that can never run, since they cannot do without the output of a skipped stage. Returns them, and
/// those of them that had a result, which was stale: results made from it are now stale, too. A stage that is skipped
/// in this way is never stale, since it could not run again.
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
