//! A dead stage is tried again.
//!
//! Owns what it is then: what it was before it ran. Never says which stages: an operation's filter does.

use gristmill_model::{Dag, StageBit};

use super::{Change, Item};

/// Redrives a dead stage: nothing is counted of it any more, and if it has an older result, that one stands again, and
/// is stale. Otherwise its outcome is forgotten. What cannot run, since a stage whose output it needs was skipped
/// meanwhile, is skipped along. None: its item is cancelled, and stays as it is.
pub fn redrive(dag: &Dag, item: Item, bit: StageBit, has_result: bool) -> Option<Change> {
    if item.cancelled {
        return None;
    }
    let mut change = Change::of(item);
    change.renew(bit.mask(), if has_result { bit.mask() } else { 0 });
    change.follow(dag, bit.mask());
    Some(change)
}
