//! Items that a person wants left alone.
//!
//! Owns cancelling and taking up again. Never stops what runs: its attempt is paid for, and its result is recorded.

use std::collections::HashMap;

use gristmill_model::{Bits, ItemStatus, StageId, StageKey, State};
use serde_json::json;

use super::events::Noted;
use super::fail::Fail;
use super::record::{ItemState, set_masks_alone};
use super::tx::{Lock, Tx};
use super::write::Enqueued;
use crate::records::{Cancel, Cancelled};

const FIND: &str = "SELECT id, job_id, done, skipped, dead, live, stale, priority, cancelled_at IS NOT NULL, key
    FROM items WHERE job_id = $1 AND key = ANY ($2) ORDER BY id FOR UPDATE";
/// What is leased is let finish.
const LEAVE: &str = "DELETE FROM queue WHERE key = ANY ($1) AND state <> 2 RETURNING key, stage_id, state";
const MARK: &str = "UPDATE items SET cancelled_at = $2 WHERE id = ANY ($1)";

pub(super) async fn cancel(tx: &Tx<'_>, cancel: &Cancel) -> Result<Cancelled, Fail> {
    tx.begin(Lock::Shared, cancel.now).await?;
    let dag = tx.dag(cancel.job)?;
    let rows = tx.query_writing(FIND, &[&cancel.job.0, &cancel.keys]).await?;
    let known: HashMap<String, ItemState> = rows.iter().map(|row| (row.get(9), ItemState::read(row))).collect();
    let mut done = Cancelled::default();
    let mut found: Vec<(&str, ItemState)> = Vec::new();
    for key in &cancel.keys {
        match known.get(key) {
            None => done.unknown.push(key.clone()),
            Some(item) if item.cancelled == cancel.undo && !found.iter().any(|(_, other)| other.id == item.id) => {
                found.push((key, *item));
            }
            Some(_) => {}
        }
    }
    let left = if cancel.undo { HashMap::new() } else { leave(tx, &found).await? };
    let mut enqueued = Enqueued::default();
    let mut events = Noted::default();
    for (key, item) in &mut found {
        let was = ItemStatus::of(item.masks, dag.all(), item.cancelled);
        item.cancelled = !cancel.undo;
        if cancel.undo {
            let runnable = dag.runnable(item.masks);
            for bit in Bits(runnable) {
                enqueued.push(tx, item, bit, None);
            }
            item.masks.live |= runnable;
        } else {
            item.masks.live &= !left.get(&item.id.0).copied().unwrap_or(0);
            done.running += u64::from(item.masks.live.count_ones());
        }
        tx.count_item(cancel.job, item.id, Some(was), Some(ItemStatus::of(item.masks, dag.all(), item.cancelled)));
        events.push(item.id, &json!({ "item": key, "actor": cancel.actor, "why": cancel.why }));
    }
    done.changed = found.len() as u64;
    if found.is_empty() {
        return Ok(done);
    }
    enqueued.write_alone(tx).await?;
    let items: Vec<&ItemState> = found.iter().map(|(_, item)| item).collect();
    set_masks_alone(tx, &items).await?;
    let ids: Vec<i64> = items.iter().map(|item| item.id.0).collect();
    tx.execute(MARK, &[&ids, &(!cancel.undo).then_some(tx.now().0)]).await?;
    let kind = if cancel.undo { "item.restored" } else { "item.cancelled" };
    events.write(tx, kind, cancel.job, None).await?;
    Ok(done)
}

/// Takes items out of the queue, what is leased left out. Returns the stages that went, by item.
async fn leave(tx: &Tx<'_>, items: &[(&str, ItemState)]) -> Result<HashMap<i64, u64>, Fail> {
    let keys: Vec<i64> =
        items.iter().flat_map(|(_, item)| Bits(item.masks.live).map(|bit| StageKey::new(item.id, bit).0)).collect();
    let mut left: HashMap<i64, u64> = HashMap::new();
    if keys.is_empty() {
        return Ok(left);
    }
    for row in tx.query_writing(LEAVE, &[&keys]).await? {
        let key = StageKey(row.get(0));
        *left.entry(key.item().0).or_default() |= key.bit().mask();
        if let Some(state) = State::from_code(row.get(2)) {
            tx.count_stage(StageId(row.get(1)), state, -1);
        }
    }
    Ok(left)
}
