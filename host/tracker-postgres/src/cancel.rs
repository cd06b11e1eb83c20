//! Cancelled items.
//!
//! Owns cancelling and restoring. Never stops a running attempt: it is paid for, and its result is recorded.

use std::collections::{BTreeMap, HashMap};

use gristmill_model::{Bits, ItemId, StageKey, State};

use super::changes::{Changes, read_item};
use super::fail::Fail;
use super::tx::{Lock, Tx};
use gristmill_tracker::records::{Cancel, Cancelled};
use gristmill_tracker::rules::{self, Item, Rows, events};

const FIND: &str = concat!(
    "SELECT ",
    gristmill_tracker::item_columns!(),
    ", key FROM item_data JOIN items ON items.id = item_data.id
    WHERE item_data.job_id = $1 AND key = ANY ($2) ORDER BY items.id FOR UPDATE OF items"
);
/// Leased rows stay: they may finish.
const LEAVE: &str = "DELETE FROM queue WHERE key = ANY ($1) AND state <> 2 RETURNING key, state";
const MARK: &str = "UPDATE items SET cancelled_at = $2 WHERE id = ANY ($1)";

pub(super) async fn cancel(tx: &Tx<'_>, cancel: &Cancel) -> Result<Cancelled, Fail> {
    tx.begin(Lock::Shared, cancel.now).await?;
    let dag = tx.dag(cancel.job)?;
    let rows = tx.query_writing(FIND, &[&cancel.job.0, &cancel.keys]).await?;
    let mut known: HashMap<String, Item> = rows.iter().map(|row| (row.get(9), read_item(row))).collect();
    let live = known.values().filter(|item| !cancel.undo && !item.cancelled).map(|item| (*item, item.masks.live));
    let left = leave_queue(tx, live).await?;
    let mut done = Cancelled::default();
    let (mut changes, mut events, mut ids) = (Changes::default(), Vec::new(), Vec::new());
    for key in &cancel.keys {
        let Some(item) = known.get_mut(key) else {
            done.unknown.push(key.clone());
            continue;
        };
        if item.cancelled != cancel.undo {
            continue;
        }
        let change = if cancel.undo {
            rules::cancel::restore(&dag, *item)
        } else {
            rules::cancel::cancel(*item, left.get(&item.id).copied().unwrap_or_default())
        };
        *item = change.after;
        changes.push(tx, &dag, &change, None);
        events.push(events::cancelled(item.id, key, cancel));
        ids.push(item.id.0);
        done.count(item);
    }
    changes.write(tx).await?;
    if !ids.is_empty() {
        tx.execute(MARK, &[&ids, &(!cancel.undo).then_some(tx.now().0)]).await?;
    }
    tx.note_all(&events).await?;
    Ok(done)
}

/// Takes these stages of items out of the queue, except leased ones. Returns the rows that it took, by item.
pub(super) async fn leave_queue(
    tx: &Tx<'_>,
    stages: impl Iterator<Item = (Item, u64)>,
) -> Result<BTreeMap<ItemId, Rows>, Fail> {
    let keys: Vec<i64> = stages.flat_map(|(item, bits)| Bits(bits).map(move |bit| item.key(bit).0)).collect();
    let mut left: BTreeMap<ItemId, Rows> = BTreeMap::new();
    if keys.is_empty() {
        return Ok(left);
    }
    for row in tx.query_writing(LEAVE, &[&keys]).await? {
        let key = StageKey(row.get(0));
        left.entry(key.item()).or_default().add(State::from_code(row.get(1)), key.bit().mask());
    }
    Ok(left)
}
