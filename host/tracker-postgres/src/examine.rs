//! Examines a tracker: compares stored values with the facts.
//!
//! Owns the recounts. Each is a query over whole tables that returns differences, and all see one snapshot. Never
//! repairs.

use gristmill_model::{Digest, State};
use tokio_postgres::Row;

use super::components;
use super::fail::Fail;
use super::tx::Tx;
use gristmill_tracker::records::{DIFFERENCES_MAX, Difference, Examination};
use gristmill_tracker::sql::STATUS_CASE;

/// Each query returns place, found, expected, and the number of differences.
macro_rules! differences {
    ($query:literal) => {
        concat!("SELECT place, found, expected, count(*) OVER () FROM (", $query, ") AS d ORDER BY place LIMIT $1")
    };
}

const STAGE_COUNTS: &str = differences!(
    "SELECT 'job `' || coalesce(jobs.name, '?') || '`, stage `' || coalesce(stages.name, '?') || '`, state ' || state AS place,
        coalesce(stored.n, 0)::text AS found, coalesce(fact.n, 0)::text AS expected
     FROM (SELECT stage_id, state, sum(n) AS n FROM stage_counts GROUP BY 1, 2) AS stored
     FULL JOIN (
        SELECT (job_id << 6) | (settled.key & 63) AS stage_id, state, count(*) AS n
        FROM item_stages AS settled JOIN items ON items.id = settled.key >> 6 GROUP BY 1, 2
        UNION ALL SELECT stage_id, state, count(*) FROM queue GROUP BY 1, 2
     ) AS fact USING (stage_id, state)
     LEFT JOIN stages ON stages.id = stage_id LEFT JOIN jobs ON jobs.id = stage_id >> 6
     WHERE coalesce(stored.n, 0) <> coalesce(fact.n, 0)"
);
const VERSION_COUNTS: &str = differences!(
    "SELECT 'version ' || version_id AS place, coalesce(stored.n, 0)::text AS found, coalesce(fact.n, 0)::text AS expected
     FROM (SELECT version_id, sum(n) AS n FROM version_counts GROUP BY 1) AS stored
     FULL JOIN (
        SELECT version_id, count(*) AS n FROM item_stages WHERE output IS NOT NULL AND version_id IS NOT NULL GROUP BY 1
     ) AS fact USING (version_id)
     WHERE coalesce(stored.n, 0) <> coalesce(fact.n, 0)"
);
const MASKS: &str = differences!(
    "SELECT 'item `' || key || '`' AS place,
        format('done %s, skipped %s, dead %s, live %s', done, skipped, dead, live) AS found,
        format('done %s, skipped %s, dead %s, live %s', is_done, is_skipped, is_dead, is_live) AS expected
     FROM (
        SELECT item_data.key, done, skipped, dead, live,
            coalesce(settled.done_bits, 0) AS is_done, coalesce(settled.skipped_bits, 0) AS is_skipped,
            coalesce(settled.dead_bits, 0) AS is_dead, coalesce(queued.bits, 0) AS is_live
        FROM items JOIN item_data ON item_data.id = items.id
        LEFT JOIN (
            SELECT key >> 6 AS item, bit_or(1::bigint << (key & 63)::int) FILTER (WHERE state = 4) AS done_bits,
                bit_or(1::bigint << (key & 63)::int) FILTER (WHERE state = 5) AS skipped_bits,
                bit_or(1::bigint << (key & 63)::int) FILTER (WHERE state = 6) AS dead_bits
            FROM item_stages GROUP BY 1
        ) AS settled ON settled.item = items.id
        LEFT JOIN (SELECT key >> 6 AS item, bit_or(1::bigint << (key & 63)::int) AS bits FROM queue GROUP BY 1) AS queued
            ON queued.item = items.id
     ) AS compared
     WHERE (done, skipped, dead, live) <> (is_done, is_skipped, is_dead, is_live)"
);
const QUEUE_WITHOUT_ITEM: &str = differences!(
    "SELECT 'key ' || key AS place, 'a row' AS found, 'none' AS expected FROM queue
     WHERE NOT EXISTS (SELECT FROM items WHERE items.id = queue.key >> 6)"
);
const RESULT_WITHOUT_ITEM: &str = differences!(
    "SELECT 'key ' || key AS place, 'a row' AS found, 'none' AS expected FROM item_stages
     WHERE NOT EXISTS (SELECT FROM items WHERE items.id = item_stages.key >> 6)"
);
const SIGHTING_WITHOUT_ITEM: &str = differences!(
    "SELECT 'item ' || item_id AS place, 'a row' AS found, 'none' AS expected FROM sightings
     WHERE NOT EXISTS (SELECT FROM items WHERE items.id = item_id)"
);
const PAGES: &str = differences!(
    "SELECT 'page ' || coalesce(id, page_id) AS place, coalesce(n, 0)::text AS found, coalesce(named, 0)::text AS expected
     FROM pages FULL JOIN (SELECT page_id, count(*) AS named FROM sightings GROUP BY 1) AS fact ON page_id = id
     WHERE coalesce(n, 0) <> coalesce(named, 0) OR named IS NULL"
);
const DATA_WITHOUT_ITEM: &str = differences!(
    "SELECT 'item ' || id AS place, 'a row' AS found, 'none' AS expected FROM item_data
     WHERE NOT EXISTS (SELECT FROM items WHERE items.id = item_data.id)"
);
const ITEM_WITHOUT_DATA: &str = differences!(
    "SELECT 'item ' || id AS place, 'none' AS found, 'a row' AS expected FROM items
     WHERE NOT EXISTS (SELECT FROM item_data WHERE item_data.id = items.id)"
);
const LEASED_WITHOUT_LEASE: &str = differences!(
    "SELECT 'key ' || key AS place, 'fence ' || fence AS found, 'a lease with it' AS expected FROM queue
     WHERE state = 2 AND NOT EXISTS (SELECT FROM leases WHERE leases.fence = queue.fence)"
);
const LEASES: &str = differences!(
    "SELECT 'fence ' || leases.fence AS place, open || ' open' AS found, coalesce(held.n, 0) || ' open' AS expected
     FROM leases LEFT JOIN (SELECT fence, count(*) AS n FROM queue WHERE state = 2 GROUP BY 1) AS held
        ON held.fence = leases.fence
     WHERE open <> coalesce(held.n, 0)"
);
/// A job's oldest attempts are deleted first. So an attempt that is missing after its oldest one was lost.
const RESULT_WITHOUT_ATTEMPT: &str = differences!(
    "SELECT 'item ' || (item_stages.key >> 6) || ', stage ' || (item_stages.key & 63) AS place,
        'attempt ' || last_attempt AS found, 'its row' AS expected
     FROM item_stages JOIN items ON items.id = item_stages.key >> 6
     JOIN (SELECT stage_id >> 6 AS job, min(id) AS oldest FROM attempts GROUP BY 1) AS kept ON job = job_id
     WHERE last_attempt >= oldest
        AND NOT EXISTS (SELECT FROM attempts WHERE attempts.id = last_attempt AND attempts.key = item_stages.key)"
);

/// How many texts are held at once. Each may be as large as the largest output.
const TEXTS_MAX: i64 = 64;
const DATA: &str =
    "SELECT id, 'item `' || key || '`', data, data_hash FROM item_data WHERE id > $1 ORDER BY id LIMIT $2";
const OUTPUTS: &str =
    "SELECT key, 'item ' || (key >> 6) || ', stage ' || (key & 63), output, output_hash FROM item_stages
    WHERE key > $1 AND output IS NOT NULL AND output_hash IS NOT NULL ORDER BY key LIMIT $2";

/// The counts of statuses, by the shared SQL text. Items that are not reconciled yet are not counted.
fn item_counts() -> String {
    let case = STATUS_CASE.replace("?2", "shape.mask");
    differences!(
        "SELECT 'job `' || coalesce(jobs.name, '?') || '`, status ' || status AS place,
            coalesce(stored.n, 0)::text AS found, coalesce(fact.n, 0)::text AS expected
         FROM (SELECT job_id, status, sum(n) AS n FROM item_counts GROUP BY 1, 2) AS stored
         FULL JOIN (
            SELECT items.job_id, (@CASE@)::bigint AS status, count(*) AS n
            FROM items JOIN jobs ON jobs.id = items.job_id
            JOIN (
                SELECT job_id, bit_or(1::bigint << (id & 63)::int) AS mask FROM stages WHERE retired_at IS NULL GROUP BY 1
            ) AS shape ON shape.job_id = items.job_id
            WHERE reconciled IS NULL OR items.id <= reconciled GROUP BY 1, 2
         ) AS fact USING (job_id, status)
         LEFT JOIN jobs ON jobs.id = job_id
         WHERE coalesce(stored.n, 0) <> coalesce(fact.n, 0)"
    )
    .replace("@CASE@", &case)
}

pub(super) async fn examine(tx: &Tx<'_>) -> Result<Examination, Fail> {
    tx.begin_snapshot().await?;
    let items: i64 = tx.query_one("SELECT count(*) FROM items", &[]).await?.get(0);
    let mut found = Examination { items: items as u64, ..Examination::default() };
    let item_counts = item_counts();
    for (kind, sql) in [
        ("stage count", STAGE_COUNTS),
        ("item count", &item_counts),
        ("version count", VERSION_COUNTS),
        ("mask", MASKS),
        ("queue row without item", QUEUE_WITHOUT_ITEM),
        ("result without item", RESULT_WITHOUT_ITEM),
        ("sighting without item", SIGHTING_WITHOUT_ITEM),
        ("sightings of a page", PAGES),
        ("data without item", DATA_WITHOUT_ITEM),
        ("item without data", ITEM_WITHOUT_DATA),
        ("leased row without lease", LEASED_WITHOUT_LEASE),
        ("lease", LEASES),
        ("result without attempt", RESULT_WITHOUT_ATTEMPT),
    ] {
        let rows = tx.query(sql, &[&(DIFFERENCES_MAX as i64)]).await?;
        found.differences_total += rows.first().map_or(0, |row| row.get::<_, i64>(3) as u64);
        let room = DIFFERENCES_MAX - found.differences.len();
        found.differences.extend(rows.iter().take(room).map(|row| difference(kind, row)));
    }
    for (kind, sql) in [("data of an item", DATA), ("output", OUTPUTS)] {
        texts(tx, kind, sql, &mut found).await?;
    }
    for hash in components::damaged(tx).await? {
        found.differences_total += 1;
        if found.differences.len() < DIFFERENCES_MAX {
            let (expected, is) = ("the bytes that were registered".to_owned(), "missing or damaged".to_owned());
            found.differences.push(Difference { kind: "component", place: hash.to_string(), found: is, expected });
        }
    }
    Ok(found)
}

/// Compares texts with their hashes. If somebody changed a text in the database, its hash no longer fits.
async fn texts(tx: &Tx<'_>, kind: &'static str, sql: &str, found: &mut Examination) -> Result<(), Fail> {
    let mut after = i64::MIN;
    loop {
        let rows = tx.query(sql, &[&after, &TEXTS_MAX]).await?;
        for row in &rows {
            after = row.get(0);
            let is = Digest::of(row.get::<_, &str>(2).as_bytes());
            let expected = Digest::from_slice(row.get(3));
            if expected == Some(is) {
                continue;
            }
            found.differences_total += 1;
            if found.differences.len() < DIFFERENCES_MAX {
                let expected = expected.map_or_else(|| "a hash".to_owned(), |hash| hash.to_string());
                found.differences.push(Difference { kind, place: row.get(1), found: is.to_string(), expected });
            }
        }
        if (rows.len() as i64) < TEXTS_MAX {
            return Ok(());
        }
    }
}

fn difference(kind: &'static str, row: &Row) -> Difference {
    let mut place: String = row.get(0);
    if kind == "stage count"
        && let Some((before, code)) = place.rsplit_once("state ")
        && let Some(state) = code.parse().ok().and_then(State::from_code)
    {
        place = format!("{before}{}", state.name());
    }
    Difference { kind, place, found: row.get(1), expected: row.get(2) }
}
