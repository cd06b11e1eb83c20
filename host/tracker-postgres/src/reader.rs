//! Reads jobs, their counters, and lists of items and results.
//!
//! Owns lists that are read page by page, in the order of a key, after the last one of the previous page. Never counts
//! rows: it sums the counters of all slots.

use std::collections::HashMap;

use gristmill_model::{ItemId, ItemStatus, JobId, Masks, StageId, State, Timestamp};
use tokio_postgres::Row;

use super::fail::Fail;
use super::items::digest;
use super::tx::Tx;
use gristmill_tracker::records::{ItemRow, ItemsFilter, JobRow, JobStats, KnownItem, Outlook, ResultRow, StageStats};
use gristmill_tracker::sql::{ItemsBy, PREFIX_KEYS_MAX, STATUS_CASE, asks_counter, prefix_end};
use gristmill_tracker::stages::Stage;

pub(super) async fn jobs(tx: &Tx<'_>) -> Result<Vec<JobRow>, Fail> {
    let mut jobs = Vec::new();
    for row in tx.query("SELECT id, name FROM jobs ORDER BY name", &[]).await? {
        let id = JobId(row.get(0));
        let stages = stages(tx, id).await?.into_iter().map(|stage| (stage.id, stage.name)).collect();
        jobs.push(JobRow { id, name: row.get(1), stages });
    }
    Ok(jobs)
}

pub(super) async fn stages(tx: &Tx<'_>, job: JobId) -> Result<Vec<Stage>, Fail> {
    const STAGES: &str = "SELECT stages.id, name, needs, version_id, digest FROM stages
        LEFT JOIN versions ON versions.id = stages.version_id
        WHERE job_id = $1 AND retired_at IS NULL ORDER BY place";
    let rows = tx.query(STAGES, &[&job.0]).await?;
    rows.iter()
        .map(|row| {
            Ok(Stage {
                id: StageId(row.get(0)),
                name: row.get(1),
                needs: row.get::<_, i64>(2) as u64,
                version: row.get(3),
                digest: row.get::<_, Option<&[u8]>>(4).map(digest).transpose()?,
            })
        })
        .collect()
}

/// Reads only the rows of one job, since other jobs may have many years of rows.
pub(super) const CHARGES: &str = "SELECT meter, sum(amount) FROM cost_rollups
    WHERE stage_id BETWEEN $1::bigint << 6 AND $1 << 6 | 63 GROUP BY meter ORDER BY meter";

pub(super) async fn stats(tx: &Tx<'_>, job: JobId) -> Result<JobStats, Fail> {
    const ITEMS: &str = "SELECT status, sum(n)::bigint FROM item_counts WHERE job_id = $1 GROUP BY status";
    const STATES: &str = "SELECT stage_id, state, sum(n)::bigint FROM stage_counts
        WHERE stage_id BETWEEN $1::bigint << 6 AND $1 << 6 | 63 GROUP BY stage_id, state HAVING sum(n) > 0";
    const VERSIONS: &str =
        "SELECT stage_id, sum(n)::bigint FROM versions JOIN version_counts ON version_id = versions.id
        WHERE stage_id BETWEEN $1::bigint << 6 AND $1 << 6 | 63
            AND versions.id IS DISTINCT FROM (SELECT version_id FROM stages WHERE stages.id = stage_id)
        GROUP BY stage_id";
    let mut stats = JobStats::default();
    let by_status: HashMap<i64, i64> =
        tx.query(ITEMS, &[&job.0]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    for status in ItemStatus::ALL {
        let n = by_status.get(&status.code()).copied().unwrap_or(0);
        stats.items.insert(status, u64::try_from(n).unwrap_or(0));
    }
    let mut states: HashMap<i64, HashMap<State, u64>> = HashMap::new();
    for row in tx.query(STATES, &[&job.0]).await? {
        if let Some(state) = State::from_code(row.get(1)) {
            states.entry(row.get(0)).or_default().insert(state, row.get::<_, i64>(2) as u64);
        }
    }
    let others: HashMap<i64, i64> =
        tx.query(VERSIONS, &[&job.0]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    for stage in stages(tx, job).await? {
        let other_versions = others.get(&stage.id.0).copied().unwrap_or(0);
        stats.stages.push(StageStats {
            id: stage.id,
            name: stage.name,
            version: stage.digest,
            other_versions: u64::try_from(other_versions).unwrap_or(0),
            states: states.remove(&stage.id.0).unwrap_or_default(),
        });
    }
    stats.charges = tx.query(CHARGES, &[&job.0]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(stats)
}

/// Reads `item_row_columns`.
pub(super) fn read_item(row: &Row, all: u64) -> ItemRow {
    let mask = |column: usize| row.get::<_, i64>(column) as u64;
    let masks = Masks { done: mask(2), skipped: mask(3), dead: mask(4), live: mask(5), stale: mask(6) };
    ItemRow {
        id: ItemId(row.get(0)),
        key: row.get(1),
        status: ItemStatus::of(masks, all, row.get(7)),
        masks,
        discovered_at: Timestamp(row.get(8)),
        changed_at: Timestamp(row.get(9)),
    }
}

/// The status of an item, as SQL: `$2` is the mask of all stages.
pub(super) fn status_case() -> String {
    STATUS_CASE.replace("?2", "$2::bigint")
}

/// `$1` job, `$2` mask of all stages, `$3` after, `$4` status, `$5` and `$6` first and last key, `$7` limit.
pub(super) fn items_sql(by: ItemsBy) -> String {
    // Found first and sorted then. Otherwise Postgres might read all items in their order.
    const KEYS: &str = "WITH found AS MATERIALIZED (SELECT id AS found_id FROM item_data
            WHERE job_id = $1 AND key >= $5 AND ($6::text IS NULL OR key < $6))";
    let (with, from, condition, order) = match by {
        ItemsBy::Key => (KEYS, "found JOIN items ON items.id = found_id", "", "items.id"),
        ItemsBy::Dead => ("", "items", "AND dead <> 0", "items.id"),
        ItemsBy::Cancelled => ("", "items", "AND cancelled_at IS NOT NULL", "items.id"),
        // By the first queue row of each item. `OFFSET` makes Postgres look up the item for each row, and never read
        // all items.
        ItemsBy::Queue => (
            "",
            "queue CROSS JOIN LATERAL (SELECT * FROM items WHERE id = queue.key >> 6 OFFSET 0) AS items",
            "AND queue.key > ($3::bigint << 6 | 63) AND NOT EXISTS (SELECT FROM queue AS other
                WHERE other.key >= (queue.key >> 6) << 6 AND other.key < queue.key)",
            "queue.key",
        ),
        ItemsBy::Id => ("", "items", "", "items.id"),
    };
    format!(
        "{with} SELECT {} FROM {from} JOIN item_data ON item_data.id = items.id
         WHERE items.job_id = $1 AND items.id > $3 AND ($4::bigint IS NULL OR {} = $4)
            AND item_data.key >= $5::text AND ($6::text IS NULL OR item_data.key < $6) {condition}
         ORDER BY {order} LIMIT $7",
        gristmill_tracker::item_row_columns!(),
        status_case()
    )
}

pub(super) async fn items(tx: &Tx<'_>, filter: &ItemsFilter) -> Result<Vec<ItemRow>, Fail> {
    let status = filter.status.map(ItemStatus::code);
    if asks_counter(filter) && !tx.query_one(HAS_STATUS, &[&filter.job.0, &status]).await?.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    let all = stages(tx, filter.job).await?.iter().fold(0, |mask, stage| mask | stage.id.bit().mask());
    let end = prefix_end(&filter.prefix);
    let is_rare = !filter.prefix.is_empty() && is_rare(tx, filter, end.as_deref()).await?;
    let (all, limit) = (all as i64, i64::from(filter.limit));
    let parameters: super::tx::Parameters<'_> =
        &[&filter.job.0, &all, &filter.after.0, &status, &filter.prefix, &end, &limit];
    let rows = tx.query(&items_sql(ItemsBy::of(filter, is_rare)), parameters).await?;
    Ok(rows.iter().map(|row| read_item(row, all as u64)).collect())
}

/// Whether a job may have items with a status. While its items are being reconciled, not all are counted.
const HAS_STATUS: &str = "SELECT EXISTS (SELECT FROM jobs WHERE id = $1 AND reconciled IS NOT NULL)
    OR (SELECT coalesce(sum(n), 0) > 0 FROM item_counts WHERE job_id = $1 AND status = $2)";
pub(super) const COUNT_PREFIX: &str = "SELECT count(*) FROM (SELECT FROM item_data
    WHERE job_id = $1 AND key >= $2 AND ($3::text IS NULL OR key < $3) LIMIT $4) AS first";

async fn is_rare(tx: &Tx<'_>, filter: &ItemsFilter, end: Option<&str>) -> Result<bool, Fail> {
    let limit = i64::from(PREFIX_KEYS_MAX) + 1;
    let found: i64 = tx.query_one(COUNT_PREFIX, &[&filter.job.0, &filter.prefix, &end, &limit]).await?.get(0);
    Ok(found < limit)
}

/// A result of each item that has one.
pub(super) const RESULTS: &str = "SELECT items.id, item_data.key, output FROM items
    JOIN item_stages ON item_stages.key = (items.id << 6) | ($1::bigint & 63)
    JOIN item_data ON item_data.id = items.id
    WHERE items.job_id = $1::bigint >> 6 AND items.id > $2 AND state = 4 ORDER BY items.id LIMIT $3";

pub(super) async fn results(tx: &Tx<'_>, stage: StageId, after: ItemId, limit: u32) -> Result<Vec<ResultRow>, Fail> {
    let rows = tx.query(RESULTS, &[&stage.0, &after.0, &i64::from(limit)]).await?;
    Ok(rows
        .iter()
        .map(|row| ResultRow { item: ItemId(row.get(0)), item_key: row.get(1), output: row.get(2) })
        .collect())
}

/// The known items among some keys, in their order.
pub(super) async fn known(tx: &Tx<'_>, job: JobId, keys: &[String]) -> Result<Vec<KnownItem>, Fail> {
    const KNOWN: &str = "SELECT key, data, data_hash, coalesce(seen_hash, data_hash)
        FROM unnest($2::text[]) WITH ORDINALITY AS u (k, place) JOIN item_data ON job_id = $1 AND key = k ORDER BY place";
    let rows = tx.query(KNOWN, &[&job.0, &keys]).await?;
    rows.iter()
        .map(|row| {
            Ok(KnownItem {
                key: row.get(0),
                data: row.get(1),
                data_hash: digest(row.get(2))?,
                seen_hash: digest(row.get(3))?,
            })
        })
        .collect()
}

/// Both tables by their primary keys.
pub(super) const OUTDATED: &str = "SELECT items.id FROM items
    JOIN item_stages ON item_stages.key = (items.id << 6) | ($1::bigint & 63)
    WHERE items.id > $2 AND job_id = $1::bigint >> 6 AND output IS NOT NULL
        AND item_stages.version_id IS DISTINCT FROM (SELECT version_id FROM stages WHERE stages.id = $1)
    ORDER BY items.id LIMIT $3";

/// The items whose result of a stage was made by another version than the current one. The counters say whether there
/// are any.
pub(super) async fn outdated(tx: &Tx<'_>, stage: StageId, after: ItemId, limit: u32) -> Result<Vec<ItemId>, Fail> {
    const ANY: &str = "SELECT coalesce(sum(n), 0) > 0 FROM versions JOIN version_counts ON version_id = versions.id
        WHERE stage_id = $1 AND versions.id IS DISTINCT FROM (SELECT version_id FROM stages WHERE id = $1)";
    if !tx.query_one(ANY, &[&stage.0]).await?.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    let rows = tx.query(OUTDATED, &[&stage.0, &after.0, &i64::from(limit)]).await?;
    Ok(rows.iter().map(|row| ItemId(row.get(0))).collect())
}

/// The time of the next waiting stage is converted to the caller's clock.
pub(super) async fn outlook(tx: &Tx<'_>) -> Result<Outlook, Fail> {
    const OUTLOOK: &str = "SELECT (SELECT due_at FROM queue WHERE state = 3 ORDER BY due_at LIMIT 1),
        (SELECT count(*) FROM leases)";
    let row = tx.query_one(OUTLOOK, &[]).await?;
    let due: Option<i64> = row.get(0);
    let skew = tx.core.skew.get();
    Ok(Outlook { next_due: due.map(|due| Timestamp(due.saturating_sub(skew))), leases: row.get::<_, i64>(1) as u64 })
}
