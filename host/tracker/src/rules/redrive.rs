//! Rules: a dead stage is tried again.
//!
//! Owns its new state, which is the one before it ran. Never decides which stages: an operation's filter does.

use gristmill_model::{Dag, StageBit};

use super::{Change, Item};

/// Redrives a dead stage. Its counts start at zero. If it has an older result, that counts again and is stale;
/// otherwise its outcome is forgotten. If it cannot run, since it needs the output of a stage that was skipped
/// meanwhile, it is skipped too. None if its item is cancelled: then nothing changes.
pub fn redrive(dag: &Dag, item: Item, bit: StageBit, has_result: bool) -> Option<Change> {
    if item.cancelled {
        return None;
    }
    let mut change = Change::of(item);
    change.renew(bit.mask(), if has_result { bit.mask() } else { 0 });
    change.follow(dag, bit.mask());
    Some(change)
}
