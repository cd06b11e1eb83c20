//! Rules: old facts are deleted.
//!
//! Owns what is left of an item. Never decides how old a fact must be.

use gristmill_model::{Masks, StageBit};

use super::change::Census;
use super::{Change, Item};

/// Deletes the outcome of a stage that is no longer in its job's file. An attempt of it that still runs may finish.
pub fn forget(item: Item, bit: StageBit) -> Change {
    let mut change = Change::of(item);
    let masks = &mut change.after.masks;
    for mask in [&mut masks.done, &mut masks.skipped, &mut masks.dead, &mut masks.stale] {
        *mask &= !bit.mask();
    }
    change
}

/// Deletes an item with all its outcomes. It has no rows in the queue.
pub fn delete(item: Item) -> Change {
    let mut change = Change::of(item);
    change.after.masks = Masks::default();
    change.census = Census::Gone;
    change
}
