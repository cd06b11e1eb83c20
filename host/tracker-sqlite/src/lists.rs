//! Lists of items and of results.
//!
//! Owns what is read page by page. The caller bounds each list, which is read in the order of a key, after the last one
//! of the previous page. Never counts rows.

use gristmill_model::{Digest, ItemId, ItemStatus, JobId, Masks, StageId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};

use super::blobs::Blobs;
use super::stats::stages;
use crate::fail::Fail;
use gristmill_tracker::records::{ItemRow, ItemsFilter, KnownItem, ResultRow};
use gristmill_tracker::sql::{ItemsBy, PREFIX_KEYS_MAX, STATUS_CASE, asks_counter, prefix_end};

/// Reads `item_row_columns`.
pub(super) fn read_item(row: &Row<'_>, all: u64) -> rusqlite::Result<ItemRow> {
    let mask = |column| row.get::<_, i64>(column).map(|bits| bits as u64);
    let masks = Masks { done: mask(2)?, skipped: mask(3)?, dead: mask(4)?, live: mask(5)?, stale: mask(6)? };
    Ok(ItemRow {
        id: ItemId(row.get(0)?),
        key: row.get(1)?,
        status: ItemStatus::of(masks, all, row.get(7)?),
        masks,
        discovered_at: Timestamp(row.get(8)?),
        changed_at: Timestamp(row.get(9)?),
    })
}

/// `?1` job, `?2` mask of all stages, `?3` after, `?4` status, `?5` and `?6` first and last key, `?7` limit.
pub(super) fn items_sql(by: ItemsBy) -> String {
    let (from, condition, order) = match by {
        ItemsBy::Key => ("item_data INDEXED BY item_data_key CROSS JOIN items", "", "items.id"),
        ItemsBy::Dead => ("items INDEXED BY items_dead CROSS JOIN item_data", "AND dead <> 0", "items.id"),
        ItemsBy::Cancelled => {
            ("items INDEXED BY items_cancelled CROSS JOIN item_data", "AND cancelled_at IS NOT NULL", "items.id")
        }
        // By the first queue row of each item.
        ItemsBy::Queue => (
            "queue NOT INDEXED CROSS JOIN items ON items.id = queue.key >> 6 CROSS JOIN item_data",
            "AND queue.key > (?3 << 6 | 63) AND NOT EXISTS (SELECT 1 FROM queue AS other NOT INDEXED
                WHERE other.key >= queue.key >> 6 << 6 AND other.key < queue.key)",
            "queue.key",
        ),
        ItemsBy::Id => ("items NOT INDEXED CROSS JOIN item_data", "", "items.id"),
    };
    format!(
        "SELECT {} FROM {from} ON item_data.id = items.id
         WHERE items.job_id = ?1 AND item_data.job_id = ?1 AND items.id > ?3 AND (?4 IS NULL OR {STATUS_CASE} = ?4)
            AND item_data.key >= ?5 AND (?6 IS NULL OR item_data.key < ?6) {condition}
         ORDER BY {order} LIMIT ?7",
        gristmill_tracker::item_row_columns!()
    )
}

pub(super) fn items(connection: &Connection, filter: &ItemsFilter) -> Result<Vec<ItemRow>, Fail> {
    let status = filter.status.map(ItemStatus::code);
    if asks_counter(filter)
        && !connection.prepare_cached(HAS_STATUS)?.query_row((filter.job.0, status), |row| row.get(0))?
    {
        return Ok(Vec::new());
    }
    let all = stages(connection, filter.job)?.iter().fold(0, |mask, stage| mask | stage.id.bit().mask());
    let end = prefix_end(&filter.prefix);
    let is_rare = !filter.prefix.is_empty() && is_rare(connection, filter, end.as_deref())?;
    let parameters: [&dyn ToSql; 7] =
        [&filter.job.0, &(all as i64), &filter.after.0, &status, &filter.prefix, &end, &filter.limit];
    let rows = connection
        .prepare_cached(&items_sql(ItemsBy::of(filter, is_rare)))?
        .query_map(parameters, |row| read_item(row, all))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Whether a job may have items with a status. While its items are being reconciled, not all are counted.
const HAS_STATUS: &str = "SELECT EXISTS (SELECT 1 FROM jobs WHERE id = ?1 AND reconciled IS NOT NULL)
    OR EXISTS (SELECT 1 FROM item_counts WHERE job_id = ?1 AND status = ?2 AND n > 0)";
pub(super) const COUNT_PREFIX: &str = "SELECT count(*) FROM (SELECT 1 FROM item_data INDEXED BY item_data_key
    WHERE job_id = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) LIMIT ?4)";

fn is_rare(connection: &Connection, filter: &ItemsFilter, end: Option<&str>) -> Result<bool, Fail> {
    let found: u32 = connection
        .prepare_cached(COUNT_PREFIX)?
        .query_row((filter.job.0, &filter.prefix, end, PREFIX_KEYS_MAX + 1), |row| row.get(0))?;
    Ok(found <= PREFIX_KEYS_MAX)
}

/// The known items among some keys.
pub(super) fn known(connection: &Connection, job: JobId, keys: &[String]) -> Result<Vec<KnownItem>, Fail> {
    let mut statement = connection.prepare_cached(
        "SELECT key, data, data_hash, coalesce(seen_hash, data_hash) FROM item_data WHERE job_id = ?1 AND key = ?2",
    )?;
    let mut known = Vec::new();
    for key in keys {
        let item = statement.query_row((job.0, key), |row| {
            Ok(KnownItem {
                key: row.get(0)?,
                data: row.get(1)?,
                data_hash: Digest(row.get(2)?),
                seen_hash: Digest(row.get(3)?),
            })
        });
        known.extend(item.optional()?);
    }
    Ok(known)
}

/// Whether any result of a stage was made by another version than the current one, by the counters.
const IS_OUTDATED: &str = "SELECT coalesce(sum(n), 0) > 0 FROM versions JOIN version_counts ON version_id = versions.id
    WHERE stage_id = ?1 AND versions.id IS NOT (SELECT version_id FROM stages WHERE id = ?1)";
/// Both tables by their primary keys.
pub(super) const OUTDATED: &str = "SELECT items.id FROM items NOT INDEXED
    CROSS JOIN item_stages ON item_stages.key = items.id << 6 | (?1 & 63)
    WHERE items.id > ?2 AND job_id = ?1 >> 6 AND output IS NOT NULL
        AND item_stages.version_id IS NOT (SELECT version_id FROM stages WHERE id = ?1)
    ORDER BY items.id LIMIT ?3";

/// The items whose result of a stage was made by another version than the current one.
pub(super) fn outdated(
    connection: &Connection,
    stage: StageId,
    after: ItemId,
    limit: u32,
) -> Result<Vec<ItemId>, Fail> {
    if !connection.prepare_cached(IS_OUTDATED)?.query_row([stage.0], |row| row.get(0))? {
        return Ok(Vec::new());
    }
    let items = connection
        .prepare_cached(OUTDATED)?
        .query_map((stage.0, after.0, limit), |row| row.get(0).map(ItemId))?
        .collect::<Result<_, _>>()?;
    Ok(items)
}

pub(super) const RESULTS: &str = "SELECT items.id, item_data.key, output, output_hash FROM items NOT INDEXED
    CROSS JOIN item_stages ON item_stages.key = items.id << 6 | ?2
    CROSS JOIN item_data ON item_data.id = items.id
    WHERE items.job_id = ?1 AND items.id > ?3 AND state = 4 ORDER BY items.id LIMIT ?4";

pub(super) fn results(
    connection: &Connection,
    blobs: &Blobs,
    stage: StageId,
    after: ItemId,
    limit: u32,
) -> Result<Vec<ResultRow>, Fail> {
    let mut rows: Vec<(ResultRow, Option<[u8; 32]>)> = connection
        .prepare_cached(RESULTS)?
        .query_map((stage.job().0, stage.bit().0, after.0, limit), |row| {
            Ok((ResultRow { item: ItemId(row.get(0)?), item_key: row.get(1)?, output: row.get(2)? }, row.get(3)?))
        })?
        .collect::<Result<_, _>>()?;
    for (row, hash) in &mut rows {
        row.output = blobs.full(std::mem::take(&mut row.output), hash.map(Digest).as_ref())?;
    }
    Ok(rows.into_iter().map(|(row, _)| row).collect())
}
