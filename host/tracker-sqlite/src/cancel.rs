//! Cancelled items.
//!
//! Owns cancelling and restoring. Never stops a running attempt: it is paid for, and its result is recorded.

use rusqlite::OptionalExtension;

use super::session::{Session, read_item};
use crate::fail::Fail;
use gristmill_tracker::records::{Cancel, Cancelled};
use gristmill_tracker::rules::{self, events};

const FIND: &str = concat!(
    "SELECT ",
    gristmill_tracker::item_columns!(),
    " FROM item_data CROSS JOIN items ON items.id = item_data.id WHERE item_data.job_id = ?1 AND item_data.key = ?2"
);

pub(super) fn cancel(session: &mut Session<'_>, cancel: &Cancel) -> Result<Cancelled, Fail> {
    let job = session.job(cancel.job)?;
    let mut done = Cancelled::default();
    for key in &cancel.keys {
        let found = session.connection.prepare_cached(FIND)?.query_row((cancel.job.0, key), read_item).optional()?;
        let Some(item) = found else {
            done.unknown.push(key.clone());
            continue;
        };
        if item.cancelled != cancel.undo {
            continue;
        }
        let change = if cancel.undo {
            rules::cancel::restore(&job.dag, item)
        } else {
            let left = session.leave_queue(&item, item.masks.live)?;
            rules::cancel::cancel(item, left)
        };
        session.apply(&job, &change, cancel.now, None)?;
        session
            .connection
            .prepare_cached("UPDATE items SET cancelled_at = ?2 WHERE id = ?1")?
            .execute((item.id.0, change.after.cancelled.then_some(cancel.now.0)))?;
        session.note(cancel.now, &events::cancelled(item.id, key, cancel))?;
        done.count(&change.after);
    }
    Ok(done)
}
