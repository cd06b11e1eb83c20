//! Everything that can be computed from the facts, made anew.
//!
//! Owns one statement a thing: masks, counters, an empty queue. What may run is enqueued afterwards, page by page, as
//! after an edit of the DAG. Never touches a result.

use gristmill_model::Timestamp;

use super::fail::Fail;
use super::tx::{Lock, Tx};
use gristmill_tracker::Error;
use gristmill_tracker::rules::events;

/// Who is at work, by its heartbeat, after this long a silence is not.
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
const VERSIONS: &str = "INSERT INTO version_counts (version_id, slot, n)
    SELECT version_id, 0, count(*) FROM item_stages WHERE output IS NOT NULL AND version_id IS NOT NULL GROUP BY 1";

const PAGES: &str = "UPDATE pages SET n = fact.n
    FROM (
        SELECT id, count(page_id) AS n FROM pages LEFT JOIN sightings ON page_id = id GROUP BY id
    ) AS fact
    WHERE pages.id = fact.id AND pages.n <> fact.n";

/// Makes everything anew that can be computed from the facts.
pub(super) async fn rebuild(tx: &Tx<'_>, now: Timestamp) -> Result<(), Fail> {
    tx.begin(Lock::Alone, now).await?;
    let alive = "SELECT name, pid FROM hosts WHERE ended_at IS NULL AND heartbeat_at > $1 ORDER BY id LIMIT 1";
    if let Some(host) = tx.query_opt(alive, &[&(tx.now().0 - ALIVE_MICROS)]).await? {
        let (name, pid): (String, i64) = (host.get(0), host.get(1));
        return Err(Error::InUse(format!("{name}, process {pid}")).into());
    }
    tx.whole_tables().await?;
    for sql in [
        "DELETE FROM queue",
        "DELETE FROM leases",
        "DELETE FROM stage_counts",
        "DELETE FROM version_counts",
        "DELETE FROM item_counts",
        MASKS,
        STAGES,
        VERSIONS,
        PAGES,
        "DELETE FROM pages WHERE n = 0",
        "UPDATE jobs SET reconciled = 0",
    ] {
        tx.execute(sql, &[]).await?;
    }
    tx.note(&events::rebuilt()).await
}
