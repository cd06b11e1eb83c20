//! Rules: the queue is rebuilt.
//!
//! Owns which rows of the queue are kept, and in which state: only the rows have their counts and times. Never decides
//! what else enters the queue: see `reconcile`.

use gristmill_model::{Dag, StageBit, StageId, State};

use super::Item;

/// The new state of a queue row; none if it contradicts the facts and is deleted. `item` has the masks that follow from
/// its outcomes, and no live stage. A row is kept if its stage is in the job's file, may run, and has no outcome or
/// shall run again. A leased row becomes ready, uncharged: no host is at work.
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
