//! What a settled stage means for its item, and a vanished host for an attempt.
//!
//! Owns the arithmetic that both backends do between reading an item's masks and writing them: which dependents are
//! released, which are skipped along, which are stale now. Pure. Never touches a row.

use gristmill_model::{
    Bits, Counters, Dag, Digest, ItemStatus, Masks, Outcome, RetryPolicy, StageBit, StageId, StageKey, State,
    Timestamp, VersionId, decide_lost,
};

use crate::records::{Completion, Reap};

/// What is known of an attempt whose host has vanished: next to nothing. Of a stage that this host does not run the
/// loss is charged, and whoever runs it decides on its death.
pub(crate) fn vanished(key: StageKey, stage: StageId, before: Counters, reap: &Reap, now: Timestamp) -> Completion {
    let unknown = RetryPolicy { max_lost: u32::MAX, ..RetryPolicy::default() };
    let policy = reap.policies.get(&stage).unwrap_or(&unknown);
    Completion {
        key,
        version: VersionId(0),
        outcome: Outcome::Lost,
        disposition: decide_lost(before, policy, key),
        output: None,
        input_hash: Digest([0; 32]),
        error: Some("its host vanished".to_owned()),
        log: None,
        ready_at: now,
        started_at: now,
        ended_at: now,
        memory_bytes_max: 0,
        charges: Vec::new(),
    }
}

/// What follows from a settled stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advance {
    /// The item's masks after it.
    pub(crate) masks: Masks,
    /// The stages that became ready.
    pub(crate) released: u64,
    /// The stages that were skipped along.
    pub(crate) skipped: u64,
    /// Of those, the ones that had a result: it is replaced.
    pub(crate) replaced: u64,
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
    let (skipped, replaced) = skip_along(dag, &mut masks);
    // Without anything skipped, which is the hot path, only its dependents can have become runnable.
    let candidates = if masks.skipped == 0 { dag.dependents(bit) } else { dag.all() };
    let released = if cancelled { 0 } else { dag.runnable_among(masks, candidates) };
    masks.live |= released;
    Advance {
        masks,
        released,
        skipped,
        replaced,
        was: ItemStatus::of(before, dag.all(), cancelled),
        is: ItemStatus::of(masks, dag.all(), cancelled),
    }
}

/// Skips along whatever can never run, since it cannot do without the output of a stage that is skipped. Returns those
/// stages, and of those the ones that had a result, which was stale: what was made from them is stale now, too. What is
/// skipped so and stays so is never stale: it could not be redone.
pub(crate) fn skip_along(dag: &Dag, masks: &mut Masks) -> (u64, u64) {
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
        masks.stale |= dependents(dag, had) & (masks.done | masks.skipped) & !more;
        skipped |= more;
        replaced |= had;
    }
}

fn dependents(dag: &Dag, bits: u64) -> u64 {
    Bits(bits).fold(0, |mask, bit| mask | dag.dependents(bit))
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
