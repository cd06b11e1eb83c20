//! A database that an older gristmill made.

use std::path::Path;

use gristmill_model::{HostId, ItemId, ItemStatus, Outcome, State, Timestamp};
use rusqlite::Connection;

use super::super::open::{MIGRATIONS, migrate, schema};
use super::{Folder, open};
use gristmill_test_tracker::conformance::{NOW, block_on, older};
use gristmill_tracker::records::{AttemptsFilter, ClaimRequest, HostInfo, Reap, Round};
use gristmill_tracker::{Error, Reader, Rounds};

use crate::{SqliteOptions, SqliteReader, SqliteTracker};

const FIRST: &str = include_str!("../../../../tests/fixtures/tracker-schema-1.sql");

/// Trackers that their host left when it was killed, with items in every state.
const FURNISHED: [&str; 2] = [
    include_str!("../../../../tests/fixtures/tracker-schema-3.sql"),
    include_str!("../../../../tests/fixtures/tracker-schema-4.sql"),
];

fn make_first(folder: &Path) -> Connection {
    let connection = Connection::open(folder.join("tracker.db")).expect("a database");
    connection.execute_batch(FIRST).expect("the first schema");
    connection
}

#[test]
fn a_database_of_the_first_schema_is_migrated_and_its_work_goes_on() {
    let place = Folder::new();
    drop(make_first(place.path()));
    assert!(
        matches!(SqliteReader::open(place.path()), Err(Error::Older { found: 1, .. })),
        "a reader migrates nothing"
    );
    let tracker = open(&place).expect("a migrated tracker");
    block_on(async {
        assert_eq!(tracker.examine().await.expect("an examination").differences, []);
        let jobs = tracker.jobs().await.expect("jobs");
        assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["links", "prices"]);
        let info = HostInfo { name: "new".to_owned(), pid: 8, app_version: "1".to_owned(), now: NOW };
        let host = tracker.register_host(info).await.expect("a host");
        assert_eq!(host, HostId(2), "a host's number never comes back");
        let reap = Reap {
            host,
            now: Timestamp(NOW.0 + 1000),
            heartbeat_before: Timestamp(NOW.0 + 1000),
            leases_max: 9,
            policies: std::collections::HashMap::new(),
        };
        assert_eq!(tracker.reap(reap).await.expect("a reaping").attempts, 2, "what the old host held");
        for job in jobs {
            for (stage, _) in &job.stages {
                let results = tracker.results(*stage, ItemId(0), 9).await.expect("results");
                let outputs: Vec<&str> = results.iter().map(|row| row.output.as_str()).collect();
                assert_eq!(outputs, ["{\"of\":\"done\"}"], "{stage:?}");
            }
            let stats = tracker.stats(job.id).await.expect("counters");
            assert_eq!((stats.items[&ItemStatus::Done], stats.items[&ItemStatus::Failed]), (1, 1));
            assert_eq!(stats.charges, [("tokens".to_owned(), 15.0)]);
            let filter = AttemptsFilter { job: job.id, stage: None, outcome: Some(Outcome::Lost), limit: 99 };
            assert_eq!(tracker.attempts(filter).await.expect("attempts").len(), 1);
            let waiting = tracker.item(job.id, "waiting").await.expect("a read").expect("the item");
            assert_eq!(waiting.stages[0].state, State::Waiting);
            let claim = ClaimRequest { stage: job.stages[0].0, limit: 9, chunk: 9, bytes: u64::MAX };
            let round = Round { host, now: NOW, settlements: Vec::new(), claims: vec![claim] };
            let done = tracker.round(round.into()).await.expect("a round");
            let keys: Vec<&str> =
                done.leases.iter().flat_map(|lease| &lease.claims).map(|claim| claim.item_key.as_str()).collect();
            assert_eq!(keys, ["ready"], "it is claimed as before");
        }
        assert_eq!(tracker.examine().await.expect("an examination").differences, []);
    });
}

#[test]
fn a_database_with_items_in_every_state_is_migrated_with_its_contents_and_goes_on() {
    for older in FURNISHED {
        let place = Folder::new();
        let connection = Connection::open(place.path().join("tracker.db")).expect("a database");
        connection.execute_batch(older).expect("an older schema");
        drop(connection);
        let tracker = open(&place).expect("a migrated tracker");
        block_on(older::it_has_its_contents_and_goes_on(&tracker));
    }
}

#[test]
fn a_command_beside_no_host_migrates_and_one_beside_an_older_host_does_not() {
    let place = Folder::new();
    drop(make_first(place.path()));
    let lock = super::super::open::HostLock::take(place.path()).expect("the lock");
    let beside = || SqliteTracker::open_beside(place.path(), SqliteOptions::default(), NOW);
    assert!(matches!(beside(), Err(Error::Older { found: 1, .. })));
    drop(lock);
    drop(beside().expect("a migrated tracker"));
    assert!(open(&place).is_ok(), "it holds no lock");
}

#[test]
fn a_migration_that_fails_half_way_leaves_the_old_schema() {
    let dump = |connection: &Connection| -> Vec<String> {
        let mut statement =
            connection.prepare("SELECT name || coalesce(sql, '') FROM sqlite_schema").expect("a schema");
        let rows = statement.query_map([], |row| row.get(0)).expect("a schema");
        rows.collect::<Result<_, _>>().expect("a schema")
    };
    for done in 1..MIGRATIONS.len() {
        let place = Folder::new();
        let mut connection = make_first(place.path());
        migrate(&mut connection, &MIGRATIONS[..done], NOW).expect("the migrations before");
        let before = dump(&connection);
        let broken = format!("{}; INSERT INTO nowhere VALUES (1);", MIGRATIONS[done].1);
        let migrations: Vec<_> = MIGRATIONS[..done].iter().copied().chain([("broken", broken.as_str())]).collect();
        assert!(migrate(&mut connection, &migrations, NOW).is_err());
        assert_eq!(dump(&connection), before);
        // A process that dies in the middle: its connection is gone, and nobody rolled back.
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {}", MIGRATIONS[done].1)).expect("half a migration");
        drop(connection);
        let mut connection = Connection::open(place.path().join("tracker.db")).expect("a database");
        assert_eq!((dump(&connection), schema(&connection).expect("a schema")), (before, done as i64));
        migrate(&mut connection, &MIGRATIONS, NOW).expect("a migration");
        assert_eq!(schema(&connection).expect("a schema"), MIGRATIONS.len() as i64);
        drop(connection);
        let tracker = open(&place).expect("a migrated tracker");
        assert_eq!(block_on(tracker.examine()).expect("an examination").differences, []);
    }
}

#[test]
fn a_migrated_database_refuses_what_it_always_refused() {
    let place = Folder::new();
    let mut connection = make_first(place.path());
    migrate(&mut connection, &MIGRATIONS, NOW).expect("a migration");
    for (table, states) in [("queue", 1..=3), ("item_stages", 4..=6)] {
        for state in 0..=7 {
            let (fence, reason) = (if state == 2 { "1" } else { "NULL" }, if state == 6 { "1" } else { "NULL" });
            let row = if table == "queue" {
                format!("(key, stage_id, state, claim_key, due_at, fence) VALUES (6400, 64, {state}, 0, 0, {fence})")
            } else {
                format!(
                    "(key, state, reason, attempts, lost, deferrals, settled_at, output)
                     VALUES (6400, {state}, {reason}, 0, 0, 0, 0, '1')"
                )
            };
            let inserted =
                connection.execute_batch(&format!("INSERT INTO {table} {row}; DELETE FROM {table} WHERE key = 6400"));
            assert_eq!(inserted.is_ok(), states.contains(&state), "{table}, state {state}: {inserted:?}");
        }
    }
    let checked: String = connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).expect("a check");
    assert_eq!(checked, "ok");
    let writable: i64 = connection.pragma_query_value(None, "writable_schema", |row| row.get(0)).expect("a setting");
    assert_eq!(writable, 0, "nobody may write the schema any more");
}
