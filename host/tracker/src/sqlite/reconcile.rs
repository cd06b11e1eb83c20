//! Items are brought in line with an edited DAG, or with one whose queue is empty.
//!
//! Owns the comparison of an item's queue rows with what may run. Idempotent: it compares facts.

use gristmill_model::{Bits, Dag, ItemId, ItemStatus, JobId, StageId, StageKey, State, Timestamp};
use rusqlite::OptionalExtension;

use super::round::skip_along;
use super::session::{ItemMasks, Session};
use crate::{Error, advance};

/// Work of retired stages is dropped, what may run is enqueued, for a page of items.
pub(super) fn reconcile(
    session: &mut Session<'_>,
    job: JobId,
    after: ItemId,
    limit: u32,
    now: Timestamp,
) -> Result<Option<ItemId>, Error> {
    let dag = session.dag(job)?;
    let page: Vec<(i64, ItemMasks)> = session
        .connection
        .prepare_cached(
            "SELECT job_id, done, skipped, dead, live, stale, priority, cancelled_at IS NOT NULL, id
             FROM items WHERE id > ?1 AND job_id = ?2 ORDER BY id LIMIT ?3",
        )?
        .query_map((after.0, job.0, limit), |row| Ok((row.get(8)?, ItemMasks::read(row)?)))?
        .collect::<Result<_, _>>()?;
    for (id, item) in &page {
        reconcile_item(session, &dag, ItemId(*id), *item, now)?;
    }
    let next = page.last().map(|(id, _)| ItemId(*id)).filter(|_| page.len() == limit as usize);
    session
        .connection
        .prepare_cached("UPDATE jobs SET reconciled = ?2 WHERE id = ?1")?
        .execute((job.0, next.map(|id| id.0)))?;
    Ok(next)
}

fn reconcile_item(
    session: &mut Session<'_>,
    dag: &Dag,
    id: ItemId,
    item: ItemMasks,
    now: Timestamp,
) -> Result<(), Error> {
    let mut masks = item.masks;
    for bit in Bits(masks.live & !dag.all()) {
        // A leased one is let finish: what it costs is spent.
        let dropped: Option<i64> = session
            .connection
            .prepare_cached("DELETE FROM queue WHERE key = ?1 AND state <> 2 RETURNING state")?
            .query_row([StageKey::new(id, bit).0], |row| row.get(0))
            .optional()?;
        if let Some(state) = dropped.and_then(State::from_code) {
            session.tally.stage(StageId::new(item.job, bit), state, -1);
            masks.live &= !bit.mask();
        }
    }
    let (skipped, _) = advance::skip_along(dag, &mut masks);
    skip_along(session, now, id, item, skipped)?;
    let released = if item.cancelled { 0 } else { dag.runnable(masks) };
    session.enqueue(id, item, masks, released, now)?;
    masks.live |= released;
    if masks != item.masks {
        session.set_masks(id, masks)?;
    }
    // The status is recounted as a whole when the DAG changes, because `all` is in it: see `jobs::register`.
    let status = ItemStatus::of(masks, dag.all(), item.cancelled);
    session.tally.item(item.job, status, 1);
    Ok(())
}
