//! Recomputes everything that follows from the facts.
//!
//! Owns one statement for each mask and counter. Queue rows that agree with the facts are kept; afterwards `reconcile`
//! enqueues other stages that may run, page by page, as after an edit of the DAG. Never touches a result.

use std::collections::BTreeMap;

use gristmill_model::{StageId, StageKey, State, Timestamp};
use tokio_postgres::Row;

use super::changes::read_item;
use super::fail::Fail;
use super::tx::{Lock, Tx};
use gristmill_tracker::Error;
use gristmill_tracker::rules::{events, rebuild as rules};

/// How many queue rows are checked at once.
const PAGE_ROWS: i64 = 5000;
const PAGE: &str = concat!(
    "SELECT ",
    gristmill_tracker::item_columns!(),
    ", queue.key, queue.stage_id, queue.state FROM queue LEFT JOIN items ON items.id = queue.key >> 6
     WHERE queue.key > $1 ORDER BY queue.key LIMIT $2"
);

/// A host without a heartbeat for this long is not at work, in microseconds.
const ALIVE_MICROS: i64 = 60 * 1_000_000;
const MASKS: &str = "UPDATE items SET done = fact.done, skipped = fact.skipped, dead = fact.dead, live = 0,
        stale = stale & (fact.done | fact.skipped)
    FROM (
        SELECT id, coalesce(bit_or(1::bigint << (settled.key & 63)::int) FILTER (WHERE state = 4), 0) AS done,
            coalesce(bit_or(1::bigint << (settled.key & 63)::int) FILTER (WHERE state = 5), 0) AS skipped,
            coalesce(bit_or(1::bigint << (settled.key & 63)::int) FILTER (WHERE state = 6), 0) AS dead
        FROM items LEFT JOIN item_stages AS settled ON settled.key >> 6 = items.id GROUP BY id
    ) AS fact
    WHERE items.id = fact.id AND (items.done, items.skipped, items.dead, items.live, items.stale)
        IS DISTINCT FROM (fact.done, fact.skipped, fact.dead, 0::bigint, items.stale & (fact.done | fact.skipped))";
const STAGES: &str = "INSERT INTO stage_counts (stage_id, state, slot, n)
    SELECT (job_id << 6) | (item_stages.key & 63), state, 0, count(*)
    FROM item_stages JOIN items ON items.id = item_stages.key >> 6 GROUP BY 1, 2";
const QUEUED: &str = "INSERT INTO stage_counts (stage_id, state, slot, n)
    SELECT stage_id, state, 0, count(*) FROM queue GROUP BY 1, 2";
const VERSIONS: &str = "INSERT INTO version_counts (version_id, slot, n)
    SELECT version_id, 0, count(*) FROM item_stages WHERE output IS NOT NULL AND version_id IS NOT NULL GROUP BY 1";

const PAGES: &str = "UPDATE pages SET n = fact.n
    FROM (
        SELECT id, count(page_id) AS n FROM pages LEFT JOIN sightings ON page_id = id GROUP BY id
    ) AS fact
    WHERE pages.id = fact.id AND pages.n <> fact.n";

/// Recomputes everything that follows from the facts.
pub(super) async fn rebuild(tx: &Tx<'_>, now: Timestamp) -> Result<(), Fail> {
    tx.begin(Lock::Alone, now).await?;
    let alive = "SELECT name, pid FROM hosts WHERE ended_at IS NULL AND heartbeat_at > $1 ORDER BY id LIMIT 1";
    if let Some(host) = tx.query_opt(alive, &[&(tx.now().0 - ALIVE_MICROS)]).await? {
        let (name, pid): (String, i64) = (host.get(0), host.get(1));
        return Err(Error::InUse(format!("{name}, process {pid}")).into());
    }
    tx.whole_tables().await?;
    for sql in ["DELETE FROM leases", MASKS] {
        tx.execute(sql, &[]).await?;
    }
    sift(tx).await?;
    for sql in [
        "DELETE FROM stage_counts",
        "DELETE FROM version_counts",
        "DELETE FROM item_counts",
        STAGES,
        QUEUED,
        VERSIONS,
        PAGES,
        "DELETE FROM pages WHERE n = 0",
        "UPDATE jobs SET reconciled = 0",
    ] {
        tx.execute(sql, &[]).await?;
    }
    tx.note(&events::rebuilt()).await
}

/// Takes rows out of the queue that contradict the facts. Leased ones become ready.
async fn sift(tx: &Tx<'_>) -> Result<(), Fail> {
    const GIVE_BACK: &str = "UPDATE queue SET state = 1, fence = NULL, superseded = false WHERE key = ANY ($1)";
    const LIVE: &str = "UPDATE items SET live = live | u.bits FROM unnest($1::bigint[], $2::bigint[]) AS u (item, bits)
        WHERE id = item";
    let mut after = i64::MIN;
    loop {
        let rows = tx.query(PAGE, &[&after, &PAGE_ROWS]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.get(9);
        let (mut gone, mut given_back, mut live) = (Vec::new(), Vec::new(), BTreeMap::<i64, i64>::new());
        for row in &rows {
            let (key, stage, was) = (StageKey(row.get(9)), StageId(row.get(10)), State::from_code(row.get(11)));
            match kept(tx, row, key, stage, was) {
                Some(state) => {
                    *live.entry(key.item().0).or_default() |= key.bit().mask() as i64;
                    given_back.extend(Some(key.0).filter(|_| was != Some(state)));
                }
                None => gone.push(key.0),
            }
        }
        let (items, bits): (Vec<i64>, Vec<i64>) = live.into_iter().unzip();
        tx.execute("DELETE FROM queue WHERE key = ANY ($1)", &[&gone]).await?;
        tx.execute(GIVE_BACK, &[&given_back]).await?;
        tx.execute(LIVE, &[&items, &bits]).await?;
    }
}

fn kept(tx: &Tx<'_>, row: &Row, key: StageKey, stage: StageId, state: Option<State>) -> Option<State> {
    // None if there is no such item.
    row.get::<_, Option<i64>>(0)?;
    let mut item = read_item(row);
    let dag = tx.dag(item.job).ok()?;
    // The item's other rows were kept.
    item.masks.live = 0;
    rules::kept(&dag, &item, key.bit(), stage, state?)
}
