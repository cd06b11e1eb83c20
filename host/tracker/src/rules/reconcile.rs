//! Rules: an item is brought in line with an edited DAG, or after the queue was rebuilt.
//!
//! Owns the comparison of its queue rows with the stages that may run. It only compares facts, so it may be repeated.
//! Never reads a row.

use gristmill_model::{Bits, Dag, StageBit};

use super::change::Census;
use super::{Change, Item, Rows};

/// The stages whose rows must leave the queue unless they are leased: retired stages, and stages that now need a stage
/// without an outcome, or the output of a skipped stage. A leased stage may finish, since its attempt is paid for.
pub fn leaves(dag: &Dag, item: &Item) -> u64 {
    let lacks = |bit: &StageBit| dag.lacks(item.masks, *bit);
    Bits(item.masks.live).filter(lacks).fold(0, |mask, bit| mask | bit.mask())
}

/// Brings an item in line. `left` has the rows that `leaves` named and that were taken out. Its status is counted
/// again, since it depends on every stage of the DAG: an edit of the DAG resets the counters.
pub fn reconcile(dag: &Dag, item: Item, left: Rows) -> Change {
    let mut change = Change::of(item);
    change.census = Census::Anew;
    change.leave(left);
    change.follow(dag, dag.all());
    change
}
