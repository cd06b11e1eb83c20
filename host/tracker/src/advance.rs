//! What a settled stage means for its item.
//!
//! Owns the arithmetic that both backends do between reading an item's masks and writing them: which dependents are
//! released, which are skipped along, which are stale now. Pure. Never touches a row.

use gristmill_model::{Bits, Dag, ItemStatus, Masks, StageBit, State};

/// What follows from a settled stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advance {
    /// The item's masks after it.
    pub(crate) masks: Masks,
    /// The stages that became ready.
    pub(crate) released: u64,
    /// The stages that were skipped along.
    pub(crate) skipped: u64,
    /// The item's status before.
    pub(crate) was: ItemStatus,
    /// The item's status after.
    pub(crate) is: ItemStatus,
}

/// Settles a stage that was leased: `state` is done, skipped or dead. `changed`: its outcome is another one than the
/// one it had, so that what was made from that is stale.
pub(crate) fn settle(dag: &Dag, masks: Masks, cancelled: bool, bit: StageBit, state: State, changed: bool) -> Advance {
    let before = masks;
    let settled_before = (masks.done | masks.skipped) & bit.mask() != 0;
    let mut masks = without(masks, bit.mask());
    match state {
        State::Done => masks.done |= bit.mask(),
        State::Skipped => masks.skipped |= bit.mask(),
        _ => masks.dead |= bit.mask(),
    }
    if settled_before && changed && state != State::Dead {
        // What is being redone already is run on the new output, or finds that out when it is settled.
        masks.stale |= dag.dependents(bit) & (masks.done | masks.skipped);
    }
    let skipped = if state == State::Skipped { dag.skipped_through(masks) } else { 0 };
    masks.skipped |= skipped;
    let candidates = Bits(skipped).fold(dag.dependents(bit), |mask, bit| mask | dag.dependents(bit));
    let released = if cancelled { 0 } else { dag.runnable_among(masks, candidates) };
    masks.live |= released;
    Advance {
        masks,
        released,
        skipped,
        was: ItemStatus::of(before, dag.all(), cancelled),
        is: ItemStatus::of(masks, dag.all(), cancelled),
    }
}

/// The masks with stages out of all of them.
pub(crate) fn without(masks: Masks, bits: u64) -> Masks {
    Masks {
        done: masks.done & !bits,
        skipped: masks.skipped & !bits,
        dead: masks.dead & !bits,
        live: masks.live & !bits,
        stale: masks.stale & !bits,
    }
}
