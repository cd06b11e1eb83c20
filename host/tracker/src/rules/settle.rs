//! Rules: an attempt is settled.
//!
//! Owns the effect of its disposition on its stage and on the stages that need it. Never decides what an outcome leads
//! to: a completion carries its disposition.

use gristmill_model::{Counters, Dag, DeadReason, Digest, Disposition, State, Timestamp};

use super::{Change, Item, Rows, Taken, claim_key};
use crate::records::Completion;

/// The older output of a stage that runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The number of the version that made it.
    pub version: Option<i64>,
    /// The hash of that output: if the new one is equal, dependents do not become stale.
    pub output_hash: Option<Digest>,
}

/// The next state of a stage whose attempt is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes back into the queue and waits.
    Wait {
        /// When it may run again, in microseconds.
        due_at: i64,
        /// Its position in the order of claims: see `claim_key`.
        claim_key: i64,
    },
    /// None: it would wait, but its item is cancelled, or a stage that it needs has no outcome any more.
    Nothing,
    /// It has this outcome now. A dead stage keeps its older output, if any, until it has another outcome.
    Outcome {
        /// Done, skipped or dead.
        state: State,
        /// Why it is dead; none for the others.
        reason: Option<DeadReason>,
    },
}

/// The effects of a settled attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The next state of its stage.
    pub next: Next,
    /// The counts of its stage, including this attempt.
    pub counters: Counters,
    /// The change of its item.
    pub change: Change,
    /// The version whose output is replaced: its count goes down.
    pub version_gone: Option<i64>,
    /// The version whose output is new: its count goes up.
    pub version_new: Option<i64>,
}

/// Whether `settle` needs the stage's older output: it does if another outcome replaces it, or if it counts again. Most
/// stages were never settled before.
pub const fn asks(item: &Item, taken: &Taken, completion: &Completion) -> bool {
    let asks = match completion.disposition {
        Disposition::Done | Disposition::Skipped => true,
        Disposition::Dead(_) => taken.superseded,
        Disposition::Wait(_) => false,
    };
    asks && item.settled() & taken.key.bit().mask() != 0
}

/// The stages whose rows must leave the queue before this attempt is settled, unless they are leased. An older outcome
/// of this stage released them, and now it is dead, or it is skipped and they cannot do without its output.
pub fn leaves(dag: &Dag, item: &Item, taken: &Taken, completion: &Completion) -> u64 {
    let bit = taken.key.bit();
    let dependents = match completion.disposition {
        Disposition::Dead(_) => dag.dependents(bit),
        Disposition::Skipped => dag.barred(bit.mask()),
        Disposition::Done | Disposition::Wait(_) => 0,
    };
    if item.settled() & bit.mask() == 0 { 0 } else { dependents & item.masks.live }
}

/// Settles an attempt whose queue row was taken out. `standing` is the stage's older output, if it has one and `asks`
/// says so. `left` has the rows that `leaves` named and that were taken out.
///
/// If its input changed meanwhile (`Taken::superseded`), its outcome is recorded, and then it runs once more. If it
/// died, it starts anew.
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
        // A stage that is in the queue again will get the new output, unless it already runs.
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

/// Whether an outcome differs from the one that dependents used. A dead stage changes nothing, since its older result
/// stays.
fn is_change(was: Option<State>, standing: Option<Standing>, completion: &Completion, state: State) -> bool {
    match was {
        Some(State::Done | State::Skipped) if state != State::Dead => {
            let hash = completion.output.as_ref().map(|output| output.hash);
            was != Some(state) || standing.and_then(|standing| standing.output_hash) != hash
        }
        _ => false,
    }
}
