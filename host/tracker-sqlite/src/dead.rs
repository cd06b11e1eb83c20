//! Finds dead stages.
//!
//! Owns the two ways to find them: by the small index of items with a dead stage, or by the named items. Never changes
//! one.

use crate::fail::Fail;
use gristmill_model::{Counters, DeadReason, StageKey, Timestamp};
use rusqlite::{Connection, Row, ToSql};

use gristmill_tracker::records::{DeadFilter, DeadRow};

macro_rules! dead {
    ($columns:expr, $items:expr, $data:literal, $named:expr, $order:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ",
            $items,
            " CROSS JOIN item_stages AS settled ON settled.key BETWEEN items.id << 6 AND items.id << 6 | 63
              CROSS JOIN stages ON stages.id = ?1 << 6 | (settled.key & 63) ",
            $data,
            " WHERE items.job_id = ?1 AND items.dead <> 0 AND items.id >= ?2 >> 6 AND settled.key > ?2
                AND settled.state = 6 AND (?3 IS NULL OR stages.id = ?3) AND (?4 IS NULL OR settled.reason = ?4)
                AND (?5 IS NULL OR instr(settled.error, ?5) > 0) AND (?6 IS NULL OR settled.settled_at < ?6)
                AND ",
            $named,
            " ",
            $order
        )
    };
}

/// By the small index. A count needs no key.
macro_rules! all {
    () => {
        "items INDEXED BY items_dead"
    };
}
/// By their keys.
macro_rules! named {
    () => {
        "item_data INDEXED BY item_data_key CROSS JOIN items ON items.id = item_data.id"
    };
}
macro_rules! by_key {
    () => {
        "item_data.job_id = ?1 AND item_data.key IN (SELECT value FROM json_each(?7))"
    };
}

const COUNT: &str = dead!("count(*)", all!(), "", "?7 IS NULL", "");
const COUNT_NAMED: &str = dead!("count(*)", named!(), "", by_key!(), "");
/// In the order of the index, without a sort.
pub(super) const DEAD: &str = dead!(
    gristmill_tracker::dead_columns!(),
    all!(),
    "CROSS JOIN item_data ON item_data.id = items.id",
    "?7 IS NULL",
    "ORDER BY items.id, settled.key LIMIT ?8"
);
/// For a few named items, which are sorted.
const DEAD_NAMED: &str =
    dead!(gristmill_tracker::dead_columns!(), named!(), "", by_key!(), "ORDER BY settled.key LIMIT ?8");

fn read(row: &Row<'_>) -> rusqlite::Result<DeadRow> {
    Ok(DeadRow {
        key: StageKey(row.get(0)?),
        item_key: row.get(1)?,
        stage: row.get(2)?,
        reason: row.get::<_, Option<i64>>(3)?.and_then(DeadReason::from_code).unwrap_or(DeadReason::Permanent),
        counters: Counters { attempts: row.get(4)?, lost: row.get(5)?, deferrals: row.get(6)? },
        settled_at: Timestamp(row.get(7)?),
        error: row.get(8)?,
    })
}

/// The parameters of a filter, from the third on.
struct Bound {
    stage: Option<i64>,
    reason: Option<i64>,
    before: Option<i64>,
    keys: Option<String>,
}

impl Bound {
    fn of(filter: &DeadFilter) -> Self {
        Self {
            stage: filter.stage.map(|stage| stage.0),
            reason: filter.reason.map(DeadReason::code),
            before: filter.before.map(|before| before.0),
            keys: filter.keys.as_ref().map(|keys| serde_json::json!(keys).to_string()),
        }
    }
}

/// Dead stages of a job, by key.
pub(super) fn dead(
    connection: &Connection,
    filter: &DeadFilter,
    after: StageKey,
    limit: u32,
) -> Result<Vec<DeadRow>, Fail> {
    let bound = Bound::of(filter);
    let sql = if bound.keys.is_some() { DEAD_NAMED } else { DEAD };
    let parameters: [&dyn ToSql; 8] =
        [&filter.job.0, &after.0, &bound.stage, &bound.reason, &filter.error, &bound.before, &bound.keys, &limit];
    let rows = connection.prepare_cached(sql)?.query_map(&parameters[..], read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// How many dead stages there are.
pub(super) fn count(connection: &Connection, filter: &DeadFilter) -> Result<u64, Fail> {
    let bound = Bound::of(filter);
    let sql = if bound.keys.is_some() { COUNT_NAMED } else { COUNT };
    let parameters: [&dyn ToSql; 7] =
        [&filter.job.0, &-1, &bound.stage, &bound.reason, &filter.error, &bound.before, &bound.keys];
    let n: i64 = connection.prepare_cached(sql)?.query_row(&parameters[..], |row| row.get(0))?;
    Ok(n as u64)
}
