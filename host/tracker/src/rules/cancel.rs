//! Rules: an item is cancelled or restored.
//!
//! Owns both, and what happens to leased work that is given back. Never stops a running attempt: it is paid for, and
//! its result is recorded.

use gristmill_model::{Dag, Masks, StageBit};

use super::{Change, Item, Rows};
use crate::records::Cancelled;

/// Cancels an item. `left` has the rows that were taken out of the queue: all but the leased ones.
pub const fn cancel(item: Item, left: Rows) -> Change {
    let mut change = Change::of(item);
    change.after.cancelled = true;
    change.leave(left);
    change
}

/// Restores a cancelled item: stages that may run are ready.
pub fn restore(dag: &Dag, item: Item) -> Change {
    let mut change = Change::of(item);
    change.after.cancelled = false;
    change.follow(dag, dag.all());
    change
}

/// The change when leased work of an item is given back. The row leaves the queue if the item is cancelled, or if a
/// stage that it needs has no outcome any more. None if it is ready again, with its old claim key and uncharged.
pub fn give_up(dag: &Dag, item: Item, bit: StageBit) -> Option<Change> {
    // A needed stage that was skipped meanwhile counts as an outcome here, even if this stage cannot do without its
    // output. Skipping this stage too would need a time, and giving back has none.
    let masks = Masks { done: item.masks.done | item.masks.skipped, skipped: 0, ..item.masks };
    if !item.cancelled && !dag.lacks(masks, bit) {
        return None;
    }
    let mut change = Change::of(item);
    change.leave(Rows { leased: bit.mask(), ..Rows::default() });
    Some(change)
}

impl Cancelled {
    /// Counts an item that was changed.
    pub fn count(&mut self, item: &Item) {
        self.changed += 1;
        if item.cancelled {
            self.running += u64::from(item.masks.live.count_ones());
        }
    }
}
