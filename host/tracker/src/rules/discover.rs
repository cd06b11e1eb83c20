//! Rules: an item is found, for the first time or again.
//!
//! Owns the first state of a new item, the data after a sighting, and the effect of new data on results. Never merges
//! fields itself: the model does, or a component.

use std::borrow::Cow;

use gristmill_model::{Bits, Dag, Digest, ItemId, JobId, Masks, Merge};

use super::change::Census;
use super::{Change, Item, claim_key};
use crate::Error;
use crate::records::NewItem;

/// A new item, before it has a number: the stages that need nothing are ready. Its row is inserted with these masks.
pub fn discover(dag: &Dag, job: JobId) -> Change {
    let none = Item { id: ItemId(0), job, masks: Masks::default(), priority: 0, cancelled: false };
    let mut change = Change::of(none);
    change.census = Census::New;
    change.follow(dag, dag.all());
    change
}

impl Change {
    /// The same for an item with this number and priority.
    pub const fn numbered(mut self, id: ItemId, priority: i64) -> Self {
        (self.after.id, self.after.priority) = (id, priority);
        self.before = Item { masks: self.before.masks, ..self.after };
        self
    }
}

/// The known data of an item that is found with other data than the last time.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The hash of its data.
    pub data_hash: Digest,
    /// Its data, and whether this very sighting was merged before. Only present if `asks` says so.
    pub data: Option<(&'a str, bool)>,
}

/// Whether `merge` needs the known data.
pub const fn asks(merge: &Merge) -> bool {
    matches!(merge, Merge::Fields(_))
}

/// The data after a sighting, with its hash; none if it did not change.
///
/// # Errors
/// `Overtaken` if the data that a component merged is not the known data any more.
pub fn merge<'a>(merge: &Merge, found: &'a NewItem, known: Known<'_>) -> Result<Option<(Cow<'a, str>, Digest)>, Error> {
    let (data, hash) = match merge {
        Merge::Replace => (Cow::Borrowed(found.data.as_str()), found.data_hash),
        Merge::Fields(policy) => {
            let merged = known.data.and_then(|(data, again)| policy.merge(data, &found.data, again));
            let Some(data) = merged else { return Ok(None) };
            let hash = Digest::of(data.as_bytes());
            (Cow::Owned(data), hash)
        }
        Merge::Handler => match &found.merged {
            Some(merged) if merged.replaces == known.data_hash => {
                (Cow::Borrowed(merged.data.as_str()), Digest::of(merged.data.as_bytes()))
            }
            _ => return Err(Error::Overtaken(found.key.clone())),
        },
    };
    Ok(Some((data, hash)).filter(|_| hash != known.data_hash))
}

/// The dead stages for which `reprocess` must know whether they have an older result.
pub fn reprocess_asks(dag: &Dag, item: &Item) -> u64 {
    roots(dag) & item.masks.dead
}

/// Makes the stages run again that need only the item's data: those that have an outcome (also dead ones), and leased
/// ones after they are settled. Those of a cancelled item run once it is restored. `results` has the stages that
/// `reprocess_asks` named and that have an older result.
pub fn reprocess(dag: &Dag, item: Item, results: u64) -> Change {
    let roots = roots(dag);
    let mut change = Change::of(item);
    change.superseded = roots & item.masks.live;
    let again = roots & (item.masks.done | item.masks.skipped) & !item.masks.live;
    change.after.masks.stale |= again;
    let dead = roots & item.masks.dead;
    change.renew(dead, results);
    change.follow(dag, again | dead);
    change
}

fn roots(dag: &Dag) -> u64 {
    Bits(dag.all()).filter(|bit| dag.needs(*bit) == 0).fold(0, |roots, bit| roots | bit.mask())
}

/// The number to add to the claim keys of an item's queue rows when its priority changes.
pub const fn moved_in_line(before: i64, after: i64) -> i64 {
    claim_key(0, after) - claim_key(0, before)
}
