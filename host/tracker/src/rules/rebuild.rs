//! Everything is computed anew.
//!
//! Owns which rows of the queue are kept, and as what: what a row counts and waits for stands nowhere else. Never says
//! what enters the queue beside them: see `reconcile`.

use gristmill_model::{Dag, StageBit, StageId, State};

use super::Item;

/// What becomes of a row of the queue; none: it contradicts the facts, and goes. `item` has the masks that its outcomes
/// say, and nothing live. A row is kept for a stage of the job's file that may run and has no outcome, or one that is
/// to be redone. What was leased is ready again, uncharged: no host is at work.
pub fn kept(dag: &Dag, item: &Item, bit: StageBit, stage: StageId, state: State) -> Option<State> {
    let has_outcome = (item.masks.fresh() | item.masks.dead) & bit.mask() != 0;
    if item.cancelled || has_outcome || stage != item.stage(bit) || dag.lacks(item.masks, bit) {
        return None;
    }
    match state {
        State::Ready | State::Leased => Some(State::Ready),
        State::Waiting => Some(State::Waiting),
        _ => None,
    }
}
