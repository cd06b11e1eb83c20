//! Finds dead stages.
//!
//! Owns the two ways to find them: by the small index of items with a dead stage, or by the named items. Never changes
//! one.

use gristmill_model::{Counters, DeadReason, StageKey, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::fail::Fail;
use super::tx::Tx;
use gristmill_tracker::records::{DeadFilter, DeadRow};

macro_rules! dead {
    ($columns:expr, $order:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM items JOIN item_data ON item_data.id = items.id
              JOIN item_stages AS settled ON settled.key BETWEEN items.id << 6 AND items.id << 6 | 63
              JOIN stages ON stages.id = ($1::bigint << 6) | (settled.key & 63)
             WHERE items.job_id = $1 AND items.dead <> 0 AND items.id >= $2::bigint >> 6 AND settled.key > $2
                AND settled.state = 6
                AND ($3::bigint IS NULL OR stages.id = $3) AND ($4::bigint IS NULL OR settled.reason = $4)
                AND ($5::text IS NULL OR strpos(settled.error, $5) > 0)
                AND ($6::bigint IS NULL OR settled.settled_at < $6)
                AND ($7::text[] IS NULL OR item_data.key = ANY ($7)) AND ($8 OR items.cancelled_at IS NULL) ",
            $order
        )
    };
}

const COUNT: &str = dead!("count(*)", "");
const LAST: &str = dead!("coalesce(max(settled.key), $2)", "");
/// In the order of the index.
pub(super) const DEAD: &str = dead!(gristmill_tracker::dead_columns!(), "ORDER BY items.id, settled.key LIMIT $9");

fn read(row: &Row) -> DeadRow {
    let count = |column: usize| row.get::<_, i64>(column) as u32;
    DeadRow {
        key: StageKey(row.get(0)),
        item_key: row.get(1),
        stage: row.get(2),
        reason: row.get::<_, Option<i64>>(3).and_then(DeadReason::from_code).unwrap_or(DeadReason::Permanent),
        counters: Counters { attempts: count(4), lost: count(5), deferrals: count(6) },
        settled_at: Timestamp(row.get(7)),
        error: row.get(8),
    }
}

/// The parameters of a filter.
struct Bound<'a> {
    filter: &'a DeadFilter,
    after: StageKey,
    stage: Option<i64>,
    reason: Option<i64>,
    before: Option<i64>,
    cancelled: bool,
}

impl<'a> Bound<'a> {
    /// `cancelled` includes stages of cancelled items.
    fn of(filter: &'a DeadFilter, after: StageKey, cancelled: bool) -> Self {
        let (stage, reason) = (filter.stage.map(|stage| stage.0), filter.reason.map(DeadReason::code));
        Self { filter, after, stage, reason, before: filter.before.map(|before| before.0), cancelled }
    }

    fn columns(&self) -> [&(dyn ToSql + Sync); 8] {
        let DeadFilter { job, error, keys, .. } = self.filter;
        [&job.0, &self.after.0, &self.stage, &self.reason, error, &self.before, keys, &self.cancelled]
    }
}

/// Dead stages of a job, by key. `cancelled` includes those of cancelled items.
pub(super) async fn dead(
    tx: &Tx<'_>,
    filter: &DeadFilter,
    after: StageKey,
    limit: u32,
    cancelled: bool,
) -> Result<Vec<DeadRow>, Fail> {
    let bound = Bound::of(filter, after, cancelled);
    let [job, after, stage, reason, error, before, keys, cancelled] = bound.columns();
    let limit = i64::from(limit);
    let rows = tx.query(DEAD, &[job, after, stage, reason, error, before, keys, cancelled, &limit]).await?;
    Ok(rows.iter().map(read).collect())
}

/// How many dead stages there are.
pub(super) async fn count(tx: &Tx<'_>, filter: &DeadFilter) -> Result<u64, Fail> {
    let n: i64 = tx.query_one(COUNT, &Bound::of(filter, StageKey(-1), true).columns()).await?.get(0);
    Ok(n as u64)
}

/// The key of the last dead stage after `after`, even of a cancelled item; `after` itself if there is none.
pub(super) async fn last(tx: &Tx<'_>, filter: &DeadFilter, after: StageKey) -> Result<StageKey, Fail> {
    Ok(StageKey(tx.query_one(LAST, &Bound::of(filter, after, true).columns()).await?.get(0)))
}
