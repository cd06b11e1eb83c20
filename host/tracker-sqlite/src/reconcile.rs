//! Brings items in line with an edited DAG, or after the queue was rebuilt.
//!
//! Owns the pages, and how far they are. Never decides what an item needs: see `rules::reconcile`.

use gristmill_model::{ItemId, JobId, Timestamp};

use super::session::{Session, read_item};
use crate::fail::Fail;
use gristmill_tracker::rules::{Item, reconcile};

const PAGE: &str = concat!(
    "SELECT ",
    gristmill_tracker::item_columns!(),
    " FROM items WHERE id > ?1 AND job_id = ?2 ORDER BY id LIMIT ?3"
);

/// Brings a page of items in line.
pub(super) fn reconcile(
    session: &mut Session<'_>,
    id: JobId,
    after: ItemId,
    limit: u32,
    now: Timestamp,
) -> Result<Option<ItemId>, Fail> {
    let job = session.job(id)?;
    let page: Vec<Item> = session
        .connection
        .prepare_cached(PAGE)?
        .query_map((after.0, id.0, limit), read_item)?
        .collect::<Result<_, _>>()?;
    for item in &page {
        let left = session.leave_queue(item, reconcile::leaves(&job.dag, item))?;
        session.apply(&job, &reconcile::reconcile(&job.dag, *item, left), now, None)?;
    }
    let next = page.last().map(|item| item.id).filter(|_| page.len() == limit as usize);
    session
        .connection
        .prepare_cached("UPDATE jobs SET reconciled = ?2 WHERE id = ?1")?
        .execute((id.0, next.map(|id| id.0)))?;
    session.forget();
    Ok(next)
}
