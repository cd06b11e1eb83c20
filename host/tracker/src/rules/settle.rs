//! An attempt is over.
//!
//! Owns what its disposition makes of its stage, and of those that depend on it. Never decides what an outcome leads to:
//! a completion carries its disposition.

use gristmill_model::{Counters, Dag, DeadReason, Digest, Disposition, State, Timestamp};

use super::{Change, Item, Rows, Taken, claim_key};
use crate::records::Completion;

/// The output that stands for a stage while it is redone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The number of the version that made it.
    pub version: Option<i64>,
    /// The hash of that output: the same again changes nothing for who needs it.
    pub output_hash: Option<Digest>,
}

/// What becomes of a stage whose attempt is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes back into the queue, and waits until then.
    Wait {
        /// When it may run again, in microseconds.
        due_at: i64,
        /// Where it stands in line then.
        claim_key: i64,
    },
    /// Nothing: it would wait, and its item is cancelled, or what it needs is not there any more.
    Nothing,
    /// It has this outcome now. One that is dead keeps the output that it had, if any: only another outcome takes
    /// its place.
    Outcome {
        /// Done, skipped or dead.
        state: State,
        /// Why it is dead; none for the others.
        reason: Option<DeadReason>,
    },
}

/// What a settled attempt means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// For its stage.
    pub next: Next,
    /// What is counted of its stage.
    pub counters: Counters,
    /// For its item.
    pub change: Change,
    /// The version whose output is given up: its count goes down.
    pub version_gone: Option<i64>,
    /// The version whose output is new: its count goes up.
    pub version_new: Option<i64>,
}

/// Whether `settle` asks for the output that stands for the stage: it does where another outcome takes its place, or it
/// stands again. Most stages were never settled before.
pub const fn asks(item: &Item, taken: &Taken, completion: &Completion) -> bool {
    let asks = match completion.disposition {
        Disposition::Done | Disposition::Skipped => true,
        Disposition::Dead(_) => taken.superseded,
        Disposition::Wait(_) => false,
    };
    asks && item.settled() & taken.key.bit().mask() != 0
}

/// The stages whose rows are to leave the queue before this attempt is settled, unless they are leased: they were released
/// by an older outcome that it takes away. Redone, the stage is dead, or is skipped and they cannot do without its output.
pub fn leaves(dag: &Dag, item: &Item, taken: &Taken, completion: &Completion) -> u64 {
    let bit = taken.key.bit();
    let dependents = match completion.disposition {
        Disposition::Dead(_) => dag.dependents(bit),
        Disposition::Skipped => dag.barred(bit.mask()),
        Disposition::Done | Disposition::Wait(_) => 0,
    };
    if item.settled() & bit.mask() == 0 { 0 } else { dependents & item.masks.live }
}

/// Settles an attempt whose queue row was taken out. `standing`: the output of the stage, if it has one, where `asks`
/// says so. `left`: the rows that `leaves` named and that were taken out.
///
/// What it was given may be no longer what it would be given now (`Taken::superseded`): its outcome is recorded, and then it
/// runs once more. One that died so starts anew.
pub fn settle(
    dag: &Dag,
    item: Item,
    taken: &Taken,
    completion: &Completion,
    standing: Option<Standing>,
    left: Rows,
    now: Timestamp,
) -> Settled {
    let bit = taken.key.bit();
    let counters = taken.counters.after(completion.outcome);
    let mut change = Change::of(item);
    change.leave(Rows { leased: bit.mask(), ..left });
    let (state, reason) = match completion.disposition {
        Disposition::Done => (State::Done, None),
        Disposition::Skipped => (State::Skipped, None),
        Disposition::Dead(reason) => (State::Dead, Some(reason)),
        Disposition::Wait(_) if item.cancelled || dag.lacks(item.masks, bit) => {
            change.follow(dag, 0);
            return Settled { next: Next::Nothing, counters, change, version_gone: None, version_new: None };
        }
        Disposition::Wait(delay) => {
            let due_at = (now + delay).0;
            let next = Next::Wait { due_at, claim_key: claim_key(due_at, item.priority) };
            change.entered.waiting = bit.mask();
            change.after.masks.live |= bit.mask();
            return Settled { next, counters, change, version_gone: None, version_new: None };
        }
    };
    let masks = &mut change.after.masks;
    for mask in [&mut masks.done, &mut masks.skipped, &mut masks.dead, &mut masks.stale] {
        *mask &= !bit.mask();
    }
    match state {
        State::Done => masks.done |= bit.mask(),
        State::Skipped => masks.skipped |= bit.mask(),
        _ => masks.dead |= bit.mask(),
    }
    if is_change(item.settled_as(bit), standing, completion, state) {
        // What is in the queue again is run on the new output, unless it runs already.
        masks.stale |= dag.dependents(bit) & (masks.done | masks.skipped);
        change.superseded = dag.dependents(bit) & masks.live;
    }
    if taken.superseded {
        match state {
            State::Dead => change.renew(bit.mask(), if standing.is_some() { bit.mask() } else { 0 }),
            _ => change.after.masks.stale |= bit.mask(),
        }
    }
    change.follow(dag, dag.dependents(bit) | if taken.superseded { bit.mask() } else { 0 });
    Settled {
        next: Next::Outcome { state, reason },
        counters,
        change,
        version_gone: standing.filter(|_| state != State::Dead).and_then(|standing| standing.version),
        version_new: (state == State::Done).then_some(completion.version.0),
    }
}

/// Whether an outcome is another one than the one that others were made from. One that dies changes nothing: its
/// older result stays.
fn is_change(was: Option<State>, standing: Option<Standing>, completion: &Completion, state: State) -> bool {
    match was {
        Some(State::Done | State::Skipped) if state != State::Dead => {
            let hash = completion.output.as_ref().map(|output| output.hash);
            was != Some(state) || standing.and_then(|standing| standing.output_hash) != hash
        }
        _ => false,
    }
}
