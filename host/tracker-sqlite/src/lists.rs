//! Lists of items and of results.
//!
//! Owns what is read by the page. Each list is bounded by its caller, and read in the order of a key, behind the last
//! one that was seen.

use gristmill_model::{Digest, ItemId, ItemStatus, JobId, Masks, StageId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};

use super::blobs::Blobs;
use super::stats::stages;
use crate::fail::Fail;
use gristmill_tracker::records::{ItemRow, ItemsFilter, KnownItem, ResultRow};
use gristmill_tracker::sql::STATUS_CASE;

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

/// How many keys of a prefix are read and sorted, at most, for a page of them.
const PREFIX_KEYS_MAX: u32 = 10_000;

/// By id, which costs what it passes over: a rare status, or a prefix that few items have among very many, is looked
/// for through the whole job. So a failed item is found by the small index of dead stages, and the few keys of a
/// prefix by the index of keys.
pub(super) fn items(connection: &Connection, filter: &ItemsFilter) -> Result<Vec<ItemRow>, Fail> {
    let all = stages(connection, filter.job)?.iter().fold(0, |mask, stage| mask | stage.id.bit().mask());
    let end = prefix_end(&filter.prefix);
    let (from, hint) = if filter.status == Some(ItemStatus::Failed) {
        ("items INDEXED BY items_dead CROSS JOIN item_data", "AND dead <> 0")
    } else if !filter.prefix.is_empty() && is_rare(connection, filter, end.as_deref())? {
        ("item_data INDEXED BY item_data_key CROSS JOIN items", "")
    } else {
        ("items NOT INDEXED CROSS JOIN item_data", "")
    };
    let sql = format!(
        "SELECT {} FROM {from} ON item_data.id = items.id
         WHERE items.job_id = ?1 AND item_data.job_id = ?1 AND items.id > ?3 AND (?4 IS NULL OR {STATUS_CASE} = ?4)
            AND key >= ?5 AND (?6 IS NULL OR key < ?6) {hint}
         ORDER BY items.id LIMIT ?7",
        gristmill_tracker::item_row_columns!()
    );
    let status = filter.status.map(ItemStatus::code);
    let parameters: [&dyn ToSql; 7] =
        [&filter.job.0, &(all as i64), &filter.after.0, &status, &filter.prefix, &end, &filter.limit];
    let rows =
        connection.prepare_cached(&sql)?.query_map(parameters, |row| read_item(row, all))?.collect::<Result<_, _>>()?;
    Ok(rows)
}

fn is_rare(connection: &Connection, filter: &ItemsFilter, end: Option<&str>) -> Result<bool, Fail> {
    let found: u32 = connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM item_data INDEXED BY item_data_key
                WHERE job_id = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) LIMIT ?4)",
        )?
        .query_row((filter.job.0, &filter.prefix, end, PREFIX_KEYS_MAX + 1), |row| row.get(0))?;
    Ok(found <= PREFIX_KEYS_MAX)
}

/// The first text behind all that start with a prefix; none if there is no such text.
fn prefix_end(prefix: &str) -> Option<String> {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        // Surrogates are no characters: the one behind them follows.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            end.push(next);
            return Some(end.into_iter().collect());
        }
    }
    None
}

/// What is known of some keys.
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

/// Whether any result of a stage is of another version than the current one, by the counters.
const IS_OUTDATED: &str = "SELECT coalesce(sum(n), 0) > 0 FROM versions JOIN version_counts ON version_id = versions.id
    WHERE stage_id = ?1 AND versions.id IS NOT (SELECT version_id FROM stages WHERE id = ?1)";
/// Both tables by their primary keys.
pub(super) const OUTDATED: &str = "SELECT items.id FROM items NOT INDEXED
    CROSS JOIN item_stages ON item_stages.key = items.id << 6 | (?1 & 63)
    WHERE items.id > ?2 AND job_id = ?1 >> 6 AND output IS NOT NULL
        AND item_stages.version_id IS NOT (SELECT version_id FROM stages WHERE id = ?1)
    ORDER BY items.id LIMIT ?3";

/// The items whose result of a stage is of another version than the current one.
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

pub(super) fn results(
    connection: &Connection,
    blobs: &Blobs,
    stage: StageId,
    after: ItemId,
    limit: u32,
) -> Result<Vec<ResultRow>, Fail> {
    let mut rows: Vec<(ResultRow, Option<[u8; 32]>)> = connection
        .prepare_cached(
            "SELECT items.id, item_data.key, output, output_hash FROM items NOT INDEXED
             CROSS JOIN item_stages ON item_stages.key = items.id << 6 | ?2
             CROSS JOIN item_data ON item_data.id = items.id
             WHERE items.job_id = ?1 AND items.id > ?3 AND state = 4 ORDER BY items.id LIMIT ?4",
        )?
        .query_map((stage.job().0, stage.bit().0, after.0, limit), |row| {
            Ok((ResultRow { item: ItemId(row.get(0)?), item_key: row.get(1)?, output: row.get(2)? }, row.get(3)?))
        })?
        .collect::<Result<_, _>>()?;
    for (row, hash) in &mut rows {
        row.output = blobs.full(std::mem::take(&mut row.output), hash.map(Digest).as_ref())?;
    }
    Ok(rows.into_iter().map(|(row, _)| row).collect())
}
