//! The statements of the loop use their indexes and never sort, whatever the number of rows.

use gristmill_test_postgres::{Database, Server};

use super::super::claim::CLAIM;
use super::super::connect::SETUP;
use super::super::leases::{OVERDUE, PROMOTE};
use super::super::record::TAKE;
use super::super::{history, reader};
use super::{open, options};
use gristmill_tracker::sql::ItemsBy;

const ROWS: [u32; 2] = [10_000, 1_000_000];

fn plan(database: &Database<'_>, sql: &str, arguments: &str) -> String {
    let lines = database.query(&format!("{SETUP}; PREPARE hot AS {sql}; EXPLAIN EXECUTE hot ({arguments})"));
    lines.join("\n")
}

#[test]
fn the_statements_of_the_loop_use_their_indexes_and_never_sort() {
    let database = Server::shared().database();
    drop(open(&database.url(), options()).expect("a tracker"));
    database.execute(
        "SET search_path = gristmill;
         INSERT INTO jobs (id, name, spec_id, created_at) VALUES (1, 'a', '', 1);
         INSERT INTO stages (id, job_id, name, place, needs, outputs, version_id) VALUES (64, 1, 's', 0, 0, 0, 1)",
    );
    let mut there = 0;
    for rows in ROWS {
        // A tenth waits, and every second result is of another version.
        database.execute(&format!(
            "SET search_path = gristmill;
             INSERT INTO items (id, job_id) SELECT n, 1 FROM generate_series({there} + 1, {rows}) AS n;
             INSERT INTO item_data (id, job_id, discovered_at, changed_at, key, data_hash, data)
                SELECT n, 1, n, n, 'item-' || n, '\\x00', '{{}}' FROM generate_series({there} + 1, {rows}) AS n;
             INSERT INTO queue (key, stage_id, state, claim_key, due_at)
                SELECT n << 6, 64, CASE WHEN n % 10 = 0 THEN 3 ELSE 1 END, n, n
                FROM generate_series({there}::bigint + 1, {rows}) AS n;
             INSERT INTO item_stages (key, state, attempts, lost, deferrals, settled_at, version_id, output)
                SELECT n << 6, 4, 1, 0, 0, n, n % 2, '{{}}' FROM generate_series({there}::bigint + 1, {rows}) AS n;
             INSERT INTO leases (host_id, claimed_at, open, members)
                SELECT n % 100, n, 1, ARRAY[n << 6] FROM generate_series({there}::bigint + 1, {rows}, 64) AS n;
             INSERT INTO attempts (key, stage_id, outcome, host_id, fence, queued_at, ended_at)
                SELECT n << 6, 64, CASE WHEN n % 100 = 0 THEN 5 ELSE 1 END, 1, 1, n, n
                FROM generate_series({there}::bigint + 1, {rows}) AS n;
             INSERT INTO pages (id, job_id, at, n, source)
                SELECT n, 1, n, 1, 'discover' FROM generate_series({there}::bigint + 1, {rows}) AS n;
             INSERT INTO sightings (item_id, data_hash, page_id)
                SELECT n, '\\x00', n FROM generate_series({there}::bigint + 1, {rows}) AS n;
             INSERT INTO events (at, kind, job_id, data) SELECT n, 'kind.' || n % 7, 1 + n % 2, '{{}}'
                FROM generate_series({there}::bigint + 1, {rows}) AS n;
             INSERT INTO cost_rollups (stage_id, meter, day, slot, amount, n)
                SELECT 64 * (1 + n % 9), 'm', n, 0, 1, 1 FROM generate_series({there}::bigint + 1, {rows}) AS n;
             ANALYZE attempts; ANALYZE pages; ANALYZE sightings; ANALYZE events; ANALYZE cost_rollups;
             ANALYZE items; ANALYZE item_data; ANALYZE queue; ANALYZE item_stages; ANALYZE leases"
        ));
        there = rows;
        let claim =
            plan(&database, CLAIM, "64, -9223372036854775808, 64, 16, 1, 1, ARRAY[]::bigint[], 9223372036854775807");
        let picked = claim.split("CTE picked").nth(1).and_then(|rest| rest.split("CTE ").next()).expect("a plan");
        assert!(picked.contains("queue_ready") && !picked.contains("Sort"), "{rows} rows\n{claim}");
        let promote = plan(&database, PROMOTE, "1000, 64");
        assert!(promote.contains("queue_waiting") && !promote.contains("Sort"), "{rows} rows\n{promote}");
        let outdated = plan(&database, reader::OUTDATED, "64, 0, 100");
        assert!(
            outdated.contains("items_pkey") && outdated.contains("item_stages_pkey") && !outdated.contains("Sort"),
            "{rows} rows\n{outdated}"
        );
        let take = plan(&database, TAKE, "ARRAY[64, 128], ARRAY[1, 1]");
        assert!(take.contains("queue_pkey"), "{rows} rows\n{take}");
        let overdue = plan(&database, OVERDUE, "1, 1000, 64");
        assert!(
            overdue.contains("leases_pkey") && overdue.contains("hosts_pkey") && !overdue.contains("Sort"),
            "{rows} rows\n{overdue}"
        );
        for plan in [claim, promote, outdated, take, overdue] {
            assert!(!plan.contains("Seq Scan on queue") && !plan.contains("Seq Scan on item"), "{rows} rows\n{plan}");
        }
        lists_use_their_indexes(&database, rows);
    }
}

/// Each list of the reader, what it is asked with, the indexes in its plan, and whether it sorts what are few by
/// their nature.
fn lists_use_their_indexes(database: &Database<'_>, rows: u32) {
    let by = |by| reader::items_sql(by);
    let all = "1, 1, 0, NULL, '', NULL, 100";
    for (sql, arguments, indexes, sorts) in [
        (by(ItemsBy::Id), all, &["items_pkey", "item_data_pkey"][..], false),
        (by(ItemsBy::Dead), all, &["items_dead", "item_data_pkey"], false),
        (by(ItemsBy::Cancelled), all, &["items_cancelled", "item_data_pkey"], false),
        (
            by(ItemsBy::Queue),
            all,
            &["queue_pkey on queue ", "queue_pkey on queue other", "items_pkey on items "],
            false,
        ),
        (by(ItemsBy::Key), "1, 1, 0, NULL, 'item-77', 'item-78', 100", &["item_data_key", "items_pkey"], true),
        (reader::COUNT_PREFIX.to_owned(), "1, 'item-77', 'item-78', 100", &["item_data_key"], false),
        (reader::RESULTS.to_owned(), "64, 0, 100", &["items_pkey", "item_stages_pkey", "item_data_pkey"], false),
        (history::SIGHTINGS.to_owned(), "1", &["sightings_pkey", "pages_pkey"], true),
        (history::NEWEST.to_owned(), "1, NULL, NULL, 100", &["Index Scan Backward using attempts_pkey"], false),
        (history::NEWEST_NOT_DONE.to_owned(), "1, NULL, 5, 100", &["attempts_not_done", "attempts_pkey"], true),
        (history::EVENTS.to_owned(), "100", &["Index Scan Backward using events_pkey"], false),
        (history::EVENTS_OF_KIND.to_owned(), "100, 'kind.', true", &["events_of_kind"], true),
        (history::EVENTS_OF_JOB.to_owned(), "100, 'kind.', true, 1", &["events_of_job"], true),
        (reader::CHARGES.to_owned(), "1", &["cost_rollups_pkey"], true),
    ] {
        let plan = plan(database, &sql, arguments);
        for index in indexes {
            assert!(plan.contains(index), "{rows} rows: {index} is not in the plan of\n{sql}\n{plan}");
        }
        for table in ["queue", "item", "attempts", "pages", "sightings", "events", "cost_rollups"] {
            assert!(!plan.contains(&format!("Seq Scan on {table}")), "{rows} rows\n{sql}\n{plan}");
        }
        assert!(sorts || !plan.contains("Sort"), "{rows} rows: a sort in the plan of\n{sql}\n{plan}");
    }
}
