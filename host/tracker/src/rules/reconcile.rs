//! An item is brought in line with an edited DAG, or with one whose queue is empty.
//!
//! Owns the comparison of its queue rows with what may run. Idempotent: it compares facts.

use gristmill_model::{Bits, Dag, StageBit};

use super::change::Census;
use super::{Change, Item, Rows};

/// The stages whose rows are to leave the queue, unless they are leased: work of retired stages, and work that the edit
/// gave a need without any outcome, or one whose output it cannot do without and that was skipped. What is leased is let
/// finish: what it costs is spent.
pub fn leaves(dag: &Dag, item: &Item) -> u64 {
    let lacks = |bit: &StageBit| dag.lacks(item.masks, *bit);
    Bits(item.masks.live).filter(lacks).fold(0, |mask, bit| mask | bit.mask())
}

/// Brings an item in line. `left`: the rows that `leaves` named and that were taken out. Its status is counted anew,
/// since every stage of the DAG is in it: whoever edits the DAG makes the counters empty.
pub fn reconcile(dag: &Dag, item: Item, left: Rows) -> Change {
    let mut change = Change::of(item);
    change.census = Census::Anew;
    change.leave(left);
    change.follow(dag, dag.all());
    change
}
