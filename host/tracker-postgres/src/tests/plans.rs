//! The statements of the loop use their indexes and never sort, whatever the number of rows.

use gristmill_test_postgres::{Database, Server};

use super::super::claim::CLAIM;
use super::super::connect::SETUP;
use super::super::leases::{OVERDUE, PROMOTE};
use super::super::reader::OUTDATED;
use super::super::record::TAKE;
use super::{open, options};

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
             ANALYZE items; ANALYZE item_data; ANALYZE queue; ANALYZE item_stages; ANALYZE leases"
        ));
        there = rows;
        let claim = plan(&database, CLAIM, "64, -9223372036854775808, 64, 16, 1, 1, ARRAY[]::bigint[]");
        let picked = claim.split("CTE picked").nth(1).and_then(|rest| rest.split("CTE ").next()).expect("a plan");
        assert!(picked.contains("queue_ready") && !picked.contains("Sort"), "{rows} rows\n{claim}");
        let promote = plan(&database, PROMOTE, "1000, 64");
        assert!(promote.contains("queue_waiting") && !promote.contains("Sort"), "{rows} rows\n{promote}");
        let outdated = plan(&database, OUTDATED, "64, 0, 100");
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
    }
}
