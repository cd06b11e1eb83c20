//! Finds and deletes old rows.
//!
//! Owns finding old rows page by page, and deleting those that are still old enough. The newest attempt, event and item
//! stay, so that no number is used again. Never deletes a fact of unfinished work.

use gristmill_model::{Expiring, ItemId, JobId, StageKey};
use tokio_postgres::Row;

use super::changes::{Changes, items_of, lock_items};
use super::expired::contents;
use super::fail::Fail;
use super::items::leave_pages;
use super::tx::{Lock, Tx};
use gristmill_tracker::records::{Expired, ExpiredPage, Prune};
use gristmill_tracker::rules::prune as rules;

/// `$1` job, `$2` older than, `$3` after, `$4` limit, `$5` now, if age follows the order of numbers. Each returns:
/// number, whether it may be deleted, whether this is the end.
const ATTEMPTS: &str = "SELECT id, stage_id >> 6 = $1 AND ended_at < $2,
        ended_at BETWEEN $2 AND $5 OR id = (SELECT max(id) FROM attempts)
    FROM attempts WHERE id > $3 ORDER BY id LIMIT $4";
const COSTS: &str = "SELECT costs.id, stage_id >> 6 = $1 AND ended_at < $2, ended_at BETWEEN $2 AND $5
    FROM costs JOIN attempts ON attempts.id = attempt_id WHERE costs.id > $3 ORDER BY costs.id LIMIT $4";
const EVENTS: &str =
    "SELECT id, job_id IS NOT DISTINCT FROM $1 AND at < $2, at BETWEEN $2 AND $5 OR id = (SELECT max(id) FROM events)
    FROM events WHERE id > $3 ORDER BY id LIMIT $4";
const ITEMS: &str = "SELECT items.id, items.job_id = $1 AND live = 0
        AND (cancelled_at IS NOT NULL OR (done | skipped) & ~stale & $5::bigint = $5)
        AND coalesce(cancelled_at, (SELECT max(settled_at) FROM item_stages
            WHERE item_stages.key BETWEEN items.id << 6 AND items.id << 6 | 63), discovered_at) < $2
        AND items.id < (SELECT max(id) FROM items), false
    FROM items JOIN item_data ON item_data.id = items.id WHERE items.id > $3 ORDER BY items.id LIMIT $4";
const RESULTS: &str = "SELECT settled.key, job_id = $1 AND settled_at < $2
        AND EXISTS (SELECT FROM stages WHERE stages.id = (items.job_id << 6) | (settled.key & 63) AND retired_at IS NOT NULL),
        false
    FROM item_stages AS settled JOIN items ON items.id = settled.key >> 6
    WHERE settled.key > $3 ORDER BY settled.key LIMIT $4";

pub(super) async fn expired(tx: &Tx<'_>, expired: &Expired) -> Result<ExpiredPage, Fail> {
    let Expired { job, what, before, now, after, limit } = *expired;
    let limit_rows = i64::from(limit);
    if job.is_none() && what != Expiring::Events {
        return Ok(ExpiredPage::default());
    }
    let job = job.map(|job| job.0);
    let rows = match what {
        Expiring::Attempts => tx.query(ATTEMPTS, &[&job, &before.0, &after, &limit_rows, &now.0]).await?,
        Expiring::Costs => tx.query(COSTS, &[&job, &before.0, &after, &limit_rows, &now.0]).await?,
        Expiring::Events => tx.query(EVENTS, &[&job, &before.0, &after, &limit_rows, &now.0]).await?,
        Expiring::Results => tx.query(RESULTS, &[&job, &before.0, &after, &limit_rows]).await?,
        Expiring::Items => {
            let all = all(tx, job).await?;
            tx.query(ITEMS, &[&job, &before.0, &after, &limit_rows, &all]).await?
        }
    };
    let mut page = ExpiredPage::default();
    let mut reached = None;
    let mut is_end = rows.len() < limit as usize;
    for row in &rows {
        if row.get(2) {
            is_end = true;
            break;
        }
        reached = Some(row.get::<_, i64>(0));
        if row.get(1) {
            page.numbers.push(row.get(0));
        }
    }
    page.next = reached.filter(|_| !is_end);
    page.rows = contents(tx, what, &page.numbers).await?;
    Ok(page)
}

/// The mask of the stages of a job's file.
async fn all(tx: &Tx<'_>, job: Option<i64>) -> Result<i64, Fail> {
    let sql = "SELECT coalesce(bit_or(1::bigint << (id & 63)::int), 0) FROM stages
        WHERE job_id = $1 AND retired_at IS NULL";
    Ok(tx.query_one(sql, &[&job]).await?.get(0))
}

pub(super) async fn prune(tx: &Tx<'_>, prune: &Prune) -> Result<u64, Fail> {
    const PRUNE_ATTEMPTS: &str = "DELETE FROM attempts WHERE id = ANY ($1) AND stage_id >> 6 = $2 AND ended_at < $3
        AND id < (SELECT max(id) FROM attempts) RETURNING id";
    const PRUNE_COSTS: &str = "DELETE FROM costs USING attempts WHERE attempts.id = attempt_id AND costs.id = ANY ($1)
        AND stage_id >> 6 = $2 AND ended_at < $3 RETURNING costs.id";
    const PRUNE_EVENTS: &str = "DELETE FROM events WHERE id = ANY ($1) AND job_id IS NOT DISTINCT FROM $2 AND at < $3
        AND id < (SELECT max(id) FROM events) RETURNING id";
    tx.begin(Lock::Shared, None).await?;
    let sql = match (prune.what, prune.job) {
        (Expiring::Events, _) => PRUNE_EVENTS,
        (_, None) => return Ok(0),
        (Expiring::Items, Some(job)) => return prune_items(tx, job, prune).await,
        (Expiring::Results, Some(job)) => return prune_results(tx, job, prune).await,
        (Expiring::Attempts, _) => PRUNE_ATTEMPTS,
        (Expiring::Costs, _) => PRUNE_COSTS,
    };
    let job = prune.job.map(|job| job.0);
    let gone = tx.query_writing(sql, &[&prune.numbers, &job, &prune.before.0]).await?;
    if prune.what == Expiring::Attempts {
        let gone: Vec<i64> = gone.iter().map(|row| row.get(0)).collect();
        tx.execute("DELETE FROM costs WHERE attempt_id = ANY ($1)", &[&gone]).await?;
    }
    Ok(gone.len() as u64)
}

/// Subtracts deleted outputs from the counts of their versions.
fn forget_versions(tx: &Tx<'_>, gone: &[Row]) {
    gone.iter().filter_map(|row| row.get::<_, Option<i64>>(1)).for_each(|version| tx.count_version(version, -1));
}

async fn prune_items(tx: &Tx<'_>, job: JobId, prune: &Prune) -> Result<u64, Fail> {
    const STILL: &str = "SELECT items.id FROM items JOIN item_data ON item_data.id = items.id
        WHERE items.id = ANY ($1) AND items.job_id = $2 AND live = 0
        AND (cancelled_at IS NOT NULL OR (done | skipped) & ~stale & $4::bigint = $4)
        AND coalesce(cancelled_at, (SELECT max(settled_at) FROM item_stages
            WHERE item_stages.key BETWEEN items.id << 6 AND items.id << 6 | 63), discovered_at) < $3
        AND items.id < (SELECT max(id) FROM items)";
    const FORGET: &str = "DELETE FROM item_stages USING unnest($1::bigint[]) AS u (n)
        WHERE item_stages.key BETWEEN n << 6 AND n << 6 | 63
        RETURNING item_stages.key, CASE WHEN output IS NOT NULL THEN version_id END";
    // The job is unknown, so nothing of it is old.
    let Ok(dag) = tx.dag(job) else { return Ok(0) };
    let items = lock_items(tx, &prune.numbers).await?;
    let parameters: super::tx::Parameters<'_> = &[&prune.numbers, &job.0, &prune.before.0, &(dag.all() as i64)];
    let gone: Vec<i64> = tx.query(STILL, parameters).await?.iter().map(|row| row.get(0)).collect();
    if gone.is_empty() {
        return Ok(0);
    }
    forget_versions(tx, &tx.query_writing(FORGET, &[&gone]).await?);
    for item in gone.iter().filter_map(|id| items.get(&ItemId(*id))) {
        tx.count(&dag, &rules::delete(*item));
    }
    let seen = tx.query_writing("DELETE FROM sightings WHERE item_id = ANY ($1) RETURNING page_id", &[&gone]).await?;
    leave_pages(tx, seen.iter().map(|row| row.get(0))).await?;
    tx.execute("DELETE FROM item_data WHERE id = ANY ($1)", &[&gone]).await?;
    tx.execute("DELETE FROM items WHERE id = ANY ($1)", &[&gone]).await?;
    Ok(gone.len() as u64)
}

async fn prune_results(tx: &Tx<'_>, job: JobId, prune: &Prune) -> Result<u64, Fail> {
    const FORGET: &str = "DELETE FROM item_stages USING items WHERE items.id = item_stages.key >> 6
        AND item_stages.key = ANY ($1) AND job_id = $2 AND settled_at < $3
        AND EXISTS (SELECT FROM stages
            WHERE stages.id = (items.job_id << 6) | (item_stages.key & 63) AND retired_at IS NOT NULL)
        RETURNING item_stages.key, CASE WHEN output IS NOT NULL THEN version_id END";
    let Ok(dag) = tx.dag(job) else { return Ok(0) };
    let mut items = lock_items(tx, &items_of(prune.numbers.iter().copied().map(StageKey))).await?;
    let gone = tx.query_writing(FORGET, &[&prune.numbers, &job.0, &prune.before.0]).await?;
    forget_versions(tx, &gone);
    let mut changes = Changes::default();
    for key in gone.iter().map(|row| StageKey(row.get(0))) {
        if let Some(item) = items.get_mut(&key.item()) {
            let change = rules::forget(*item, key.bit());
            *item = change.after;
            changes.push(tx, &dag, &change, None);
        }
    }
    changes.write(tx).await?;
    Ok(gone.len() as u64)
}
