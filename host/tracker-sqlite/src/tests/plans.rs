//! Frequent statements use their indexes and never sort, with few rows and with many.

use rusqlite::Connection;

use super::super::open::{MIGRATIONS, migrate};
use super::super::{blobs, dead, detail, history, hot, leases, lists, operations, reader, stats};
use gristmill_test_tracker::conformance::NOW;
use gristmill_tracker::sql::ItemsBy;

/// A database with so many items, each with a queue row and a settled stage. Nobody has analysed it: plans must not
/// turn on statistics.
fn filled(items: u32) -> Connection {
    let mut connection = Connection::open_in_memory().expect("a database");
    migrate(&mut connection, &MIGRATIONS, NOW).expect("a schema");
    connection
        .execute_batch(&format!(
            "CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {items})
                SELECT i FROM n;
             INSERT INTO items (id, job_id, dead, live) SELECT i, 1, iif(i % 100 = 0, 2, 0), 1 FROM n;
             INSERT INTO item_data (id, job_id, discovered_at, changed_at, key, data_hash, data)
                SELECT i, 1, 0, 0, 'item-' || i, x'00', '{{}}' FROM n;
             INSERT INTO queue (key, stage_id, state, claim_key, due_at, fence)
                SELECT i << 6, 64, 1 + i % 3, i, i, iif(i % 3 = 1, i, NULL) FROM n;
             INSERT INTO item_stages (key, state, reason, attempts, lost, deferrals, settled_at, output)
                SELECT i << 6 | 1, iif(i % 100 = 0, 6, 4), iif(i % 100 = 0, 1, NULL), 1, 0, 0, 0, '{{}}' FROM n;
             INSERT INTO leases (fence, host_id, claimed_at, open, members)
                SELECT i, 1, 0, 1, x'00' FROM n WHERE i % 3 = 1;
             INSERT INTO attempts (id, key, stage_id, outcome, host_id, fence, queued_at, ended_at)
                SELECT i, i << 6, 64, 1 + (i % 100 = 0), 1, 1, i, i FROM n;
             INSERT INTO pages (id, job_id, at, n, source) SELECT i, 1, i, 1, 'discover' FROM n;
             INSERT INTO sightings (item_id, data_hash, page_id) SELECT i, x'00', i FROM n;
             INSERT INTO events (id, at, kind, job_id, data) SELECT i, i, 'kind.' || i % 7, 1 + i % 2, '{{}}' FROM n;
             INSERT INTO cost_rollups (stage_id, meter, day, amount, n) SELECT 64 + i % 9, 'm', i, 1, 1 FROM n;"
        ))
        .expect("rows");
    connection
}

fn plan(connection: &Connection, sql: &str) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
    let nothing = vec![rusqlite::types::Value::Null; statement.parameter_count()];
    let rows = statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3));
    rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).expect("a plan").join("\n")
}

fn pinned(items: u32) {
    let connection = filled(items);
    for (sql, parts) in [
        (hot::CLAIM, &["USING INDEX queue_ready (stage_id=?)"][..]),
        (leases::PROMOTE, &["USING COVERING INDEX queue_waiting (due_at<?)", "queue USING INTEGER PRIMARY KEY"]),
        (leases::OVERDUE, &["SCAN leases", "hosts USING INTEGER PRIMARY KEY"]),
        (reader::OUTLOOK, &["queue_waiting"]),
        (hot::KNOWN, &["USING INDEX item_data_key (job_id=? AND key=?)"]),
        (hot::GIVEN, &["item_data USING INTEGER PRIMARY KEY (rowid=?)"]),
        (hot::ITEM, &["items USING INTEGER PRIMARY KEY (rowid=?)"]),
        (hot::LEASED, &["queue USING INTEGER PRIMARY KEY (rowid=?)"]),
        (hot::UPSTREAM, &["item_stages USING INTEGER PRIMARY KEY (rowid=?)"]),
        (
            lists::OUTDATED,
            &["items USING INTEGER PRIMARY KEY (rowid>?)", "item_stages USING INTEGER PRIMARY KEY (rowid=?)"],
        ),
        (
            dead::DEAD,
            &[
                "items USING INDEX items_dead (job_id=? AND id>?)",
                "settled USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
                "item_data USING INTEGER PRIMARY KEY (rowid=?)",
            ],
        ),
        (blobs::IS_NAMED, &["item_stages_blobs (output_hash=?)"]),
    ] {
        expect(&connection, items, sql, parts);
    }
    for (sql, parts) in lists() {
        expect(&connection, items, &sql, parts);
    }
}

fn expect(connection: &Connection, items: u32, sql: &str, parts: &[&str]) {
    let plan = plan(connection, sql);
    for part in parts {
        assert!(plan.contains(part), "{items} items: {part} is not in the plan of\n{sql}\n{plan}");
    }
    // What is few by its nature is sorted: a rare prefix, one item's own history, the days of one job.
    let few =
        [lists::items_sql(ItemsBy::Key), history::chain_sql(), detail::SIGHTINGS.to_owned(), stats::CHARGES.to_owned()];
    let sorts = few.iter().any(|few| few == sql);
    assert!(sorts || !plan.contains("TEMP B-TREE"), "{items} items: a sort in the plan of\n{sql}\n{plan}");
}

/// Every list of the reader that no other test asks for, with what must be in its plan. What is scanned is read from
/// its newest row on, up to the limit.
fn lists() -> Vec<(String, &'static [&'static str])> {
    const DATA: &str = "item_data USING INTEGER PRIMARY KEY (rowid=?)";
    const ATTEMPTS: &str = "SEARCH item_data USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN";
    vec![
        (lists::items_sql(ItemsBy::Id), &["items USING INTEGER PRIMARY KEY (rowid>?)", DATA][..]),
        (lists::items_sql(ItemsBy::Dead), &["items USING INDEX items_dead (job_id=? AND id>?)", DATA]),
        (lists::items_sql(ItemsBy::Cancelled), &["items USING INDEX items_cancelled (job_id=? AND id>?)", DATA]),
        (
            lists::items_sql(ItemsBy::Queue),
            &[
                "SEARCH queue USING INTEGER PRIMARY KEY (rowid>?)",
                "items USING INTEGER PRIMARY KEY (rowid=?)",
                "other USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
                DATA,
            ],
        ),
        (
            lists::items_sql(ItemsBy::Key),
            &["item_data USING INDEX item_data_key (job_id=? AND key>?", "items USING INTEGER PRIMARY KEY (rowid=?)"],
        ),
        (lists::COUNT_PREFIX.to_owned(), &["item_data USING COVERING INDEX item_data_key (job_id=? AND key>?"]),
        (lists::RESULTS.to_owned(), &["items USING INTEGER PRIMARY KEY (rowid>?)", DATA]),
        (detail::ITEM.to_owned(), &["item_data USING INDEX item_data_key (job_id=? AND key=?)"]),
        (
            detail::SIGHTINGS.to_owned(),
            &["sightings USING PRIMARY KEY (item_id=?)", "pages USING INTEGER PRIMARY KEY (rowid=?)"],
        ),
        (history::chain_sql(), &["SEARCH attempts USING INTEGER PRIMARY KEY (rowid=?)", ATTEMPTS]),
        (history::newest(), &["SCAN attempts\n", ATTEMPTS]),
        (history::newest_not_done(), &["attempts USING INDEX attempts_not_done (stage_id=? AND outcome=?)", ATTEMPTS]),
        (history::EVENTS.to_owned(), &["SCAN events"]),
        (history::EVENTS_OF_KIND.to_owned(), &["events USING INDEX events_of_kind (kind=?)"]),
        (history::EVENTS_OF_JOB.to_owned(), &["events USING INDEX events_of_job (job_id=? AND kind=?)"]),
        (history::KINDS.to_owned(), &["SEARCH events USING COVERING INDEX events_of_kind (kind>?)"]),
        (history::KINDS_OF_JOB.to_owned(), &["SEARCH events USING COVERING INDEX events_of_job (job_id=? AND kind>?)"]),
        (operations::LIST.to_owned(), &["SCAN operations"]),
        (operations::ONE.to_owned(), &["operations USING INTEGER PRIMARY KEY (rowid=?)"]),
        (stats::CHARGES.to_owned(), &["cost_rollups USING PRIMARY KEY (stage_id>? AND stage_id<?)"]),
    ]
}

#[test]
fn plans_of_ten_thousand_items_use_their_indexes() {
    pinned(10_000);
}

#[test]
fn plans_of_a_million_items_use_their_indexes() {
    pinned(1_000_000);
}

/// `RETURNING`, a list in a CHECK and a subquery in an INSERT each make one, every time.
#[test]
fn no_statement_of_the_loop_makes_a_table_of_its_own() {
    let connection = filled(1);
    for sql in [
        hot::CLAIM,
        hot::HOLD,
        hot::LEASE,
        hot::LEASED,
        hot::DEQUEUE,
        hot::ATTEMPT,
        hot::SETTLED,
        hot::ITEM,
        hot::SET_MASKS,
        hot::ENQUEUE,
        hot::INSERT,
        hot::INSERT_DATA,
        hot::SIGHT,
        hot::END_LEASE,
        hot::SHRINK_LEASE,
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN {sql}")).expect("a statement");
        let nothing = vec![rusqlite::types::Value::Null; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(1));
        let steps: Vec<String> = steps.and_then(Iterator::collect).expect("a program");
        assert!(!steps.is_empty() && !steps.iter().any(|step| step == "OpenEphemeral"), "{sql}\n{steps:?}");
    }
}
