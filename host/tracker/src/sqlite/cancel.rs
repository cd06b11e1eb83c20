//! Items that a person wants left alone.
//!
//! Owns cancelling and taking up again. Never stops what runs: its attempt is paid for, and its result is recorded.

use gristmill_model::{Bits, ItemId, ItemStatus, Masks, StageId, StageKey, State};
use rusqlite::OptionalExtension;
use serde_json::json;

use super::session::{ItemMasks, Noted, Session};
use crate::Error;
use crate::records::{Cancel, Cancelled};

pub(super) fn cancel(session: &mut Session<'_>, cancel: &Cancel) -> Result<Cancelled, Error> {
    let all = session.dag(cancel.job)?.all();
    let mut done = Cancelled::default();
    for key in &cancel.keys {
        let found = session
            .connection
            .prepare_cached(
                "SELECT job_id, done, skipped, dead, live, stale, priority, cancelled_at IS NOT NULL, id
                 FROM items WHERE job_id = ?1 AND key = ?2",
            )?
            .query_row((cancel.job.0, key), |row| Ok((ItemMasks::read(row)?, ItemId(row.get(8)?))))
            .optional()?;
        let Some((item, id)) = found else {
            done.unknown.push(key.clone());
            continue;
        };
        if item.cancelled != cancel.undo {
            continue;
        }
        let masks = if cancel.undo {
            take_up(session, cancel, id, item)?
        } else {
            let masks = leave_alone(session, id, item)?;
            done.running += u64::from(masks.live.count_ones());
            masks
        };
        session.set_masks(id, masks)?;
        session
            .connection
            .prepare_cached("UPDATE items SET cancelled_at = ?2 WHERE id = ?1")?
            .execute((id.0, (!cancel.undo).then_some(cancel.now.0)))?;
        let (was, is) = (ItemStatus::of(item.masks, all, item.cancelled), ItemStatus::of(masks, all, !item.cancelled));
        if session.is_counted(cancel.job, id)? {
            session.tally.status(cancel.job, was, is);
        }
        let kind = if cancel.undo { "item.restored" } else { "item.cancelled" };
        let data = json!({ "item": key, "actor": cancel.actor, "why": cancel.why });
        session.event(&Noted::new(cancel.now, kind, data).job(cancel.job).item(id))?;
        done.changed += 1;
    }
    Ok(done)
}

/// Takes an item out of the queue, what is leased left out. Returns its masks.
fn leave_alone(session: &mut Session<'_>, id: ItemId, item: ItemMasks) -> Result<Masks, Error> {
    let mut masks = item.masks;
    for bit in Bits(item.masks.live) {
        let key = StageKey::new(id, bit);
        let state: Option<i64> = session
            .connection
            .prepare_cached("SELECT state FROM queue WHERE key = ?1")?
            .query_row([key.0], |row| row.get(0))
            .optional()?;
        let Some(state) = state.and_then(State::from_code).filter(|state| *state != State::Leased) else { continue };
        session.hot.dequeue.execute([key.0])?;
        masks.live &= !bit.mask();
        session.tally.stage(StageId::new(item.job, bit), state, -1);
    }
    Ok(masks)
}

fn take_up(session: &mut Session<'_>, cancel: &Cancel, id: ItemId, item: ItemMasks) -> Result<Masks, Error> {
    let mut masks = item.masks;
    let runnable = session.dag(cancel.job)?.runnable(masks);
    session.enqueue(id, item, masks, runnable, cancel.now)?;
    masks.live |= runnable;
    Ok(masks)
}
