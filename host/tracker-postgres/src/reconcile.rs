//! Brings items in line with an edited DAG, or after the queue was rebuilt.
//!
//! Owns the pages, and how far they are. It runs alone, as registration does. Never decides what an item needs: see
//! `rules::reconcile`.

use gristmill_model::{ItemId, JobId, Timestamp};

use super::cancel::leave_queue;
use super::changes::{Changes, read_item};
use super::fail::Fail;
use super::tx::{Lock, Tx};
use gristmill_tracker::rules::{Item, reconcile};

const PAGE: &str = concat!(
    "SELECT ",
    gristmill_tracker::item_columns!(),
    " FROM items WHERE id > $1 AND job_id = $2 ORDER BY id LIMIT $3 FOR UPDATE"
);

/// Brings the queue rows of a page of items in line with the job's DAG: work of retired stages is dropped, what may run
/// is enqueued. It goes on at the position in the database, since another host may be doing the same.
pub(super) async fn reconcile(
    tx: &Tx<'_>,
    job: JobId,
    after: ItemId,
    limit: u32,
    now: Timestamp,
) -> Result<Option<ItemId>, Fail> {
    tx.begin(Lock::Alone, now).await?;
    let dag = tx.dag(job)?;
    let reached = tx.jobs().into_iter().find(|state| state.id == job).and_then(|state| state.reconciled);
    match reached {
        None => return Ok(None),
        Some(reached) if reached != after.0 => return Ok(Some(ItemId(reached))),
        Some(_) => {}
    }
    let rows = tx.query_writing(PAGE, &[&after.0, &job.0, &i64::from(limit)]).await?;
    let items: Vec<Item> = rows.iter().map(read_item).collect();
    let left = leave_queue(tx, items.iter().map(|item| (*item, reconcile::leaves(&dag, item)))).await?;
    let mut changes = Changes::default();
    for item in &items {
        let left = left.get(&item.id).copied().unwrap_or_default();
        changes.push(tx, &dag, &reconcile::reconcile(&dag, *item, left), None);
    }
    changes.write(tx).await?;
    let next = items.last().map(|item| item.id).filter(|_| items.len() == limit as usize);
    tx.execute("UPDATE jobs SET reconciled = $2 WHERE id = $1", &[&job.0, &next.map(|id| id.0)]).await?;
    Ok(next)
}
