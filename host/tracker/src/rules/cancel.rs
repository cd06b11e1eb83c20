//! An item is left alone, or taken up again.
//!
//! Owns both, and what becomes of leased work that is given back. Never stops what runs: its attempt is paid for, and
//! its result is recorded.

use gristmill_model::{Dag, Masks, StageBit};

use super::{Change, Item, Rows};
use crate::records::Cancelled;

/// Cancels an item. `left`: the rows that were taken out of the queue, which is all but what is leased.
pub const fn cancel(item: Item, left: Rows) -> Change {
    let mut change = Change::of(item);
    change.after.cancelled = true;
    change.leave(left);
    change
}

/// Takes a cancelled item up again: whatever may run is ready.
pub fn restore(dag: &Dag, item: Item) -> Change {
    let mut change = Change::of(item);
    change.after.cancelled = false;
    change.follow(dag, dag.all());
    change
}

/// What becomes of an item when leased work of it is given back: it leaves the queue if the item is cancelled, or if what
/// it needs has no outcome any more. None: it is ready again, where it stood in line, and uncharged.
pub fn give_up(dag: &Dag, item: Item, bit: StageBit) -> Option<Change> {
    // A needed stage that was skipped meanwhile counts as an outcome here, even if this one cannot do without its output:
    // skipping along needs a time, and giving back has none.
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
