//! The SQLite backend: the conformance suite, and what only SQLite has.

use gristmill_model::{ItemStatus, Masks, Timestamp};
use rusqlite::Connection;

use crate::{SqliteOptions, SqliteReader, SqliteTracker};
use gristmill_test_tracker::conformance::{NOW, block_on};
use gristmill_test_tracker::{Location, conformance};
use gristmill_tracker::{Error, Reader, Rounds, Tracker};

/// A folder that is gone with the test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

impl Location for Folder {
    fn open(&self) -> Box<dyn Tracker> {
        Box::new(SqliteTracker::open(self.path(), SqliteOptions::default(), NOW).expect("a tracker"))
    }
}

conformance!(Folder::new());

mod components;
mod faults;
mod folder;
mod migrations;
mod plans;
mod sequences;

fn open(place: &Folder) -> Result<SqliteTracker, Error> {
    SqliteTracker::open(place.path(), SqliteOptions::default(), NOW)
}

#[test]
fn a_second_host_is_refused_and_told_who_holds_the_folder() {
    let place = Folder::new();
    let first = open(&place).expect("a tracker");
    match open(&place).err() {
        Some(Error::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(first);
    assert!(open(&place).is_ok(), "the lock ends with its host");
}

#[test]
fn foreign_damaged_and_newer_files_are_told_apart() {
    let path = |place: &Folder| place.path().join("tracker.db");
    let place = Folder::new();
    std::fs::write(path(&place), "this is not a database, but it is long enough to be taken for one ".repeat(20))
        .expect("a file");
    assert!(matches!(open(&place), Err(Error::Foreign(_))));
    let place = Folder::new();
    Connection::open(path(&place)).and_then(|db| db.execute_batch("CREATE TABLE t (x)")).expect("a database");
    assert!(matches!(open(&place), Err(Error::Foreign(_))));
    assert!(matches!(SqliteReader::open(place.path()), Err(Error::Foreign(_))));
    let place = Folder::new();
    drop(open(&place).expect("a tracker"));
    Connection::open(path(&place)).and_then(|db| db.pragma_update(None, "user_version", 99)).expect("a change");
    assert!(matches!(open(&place), Err(Error::Newer { found: 99, .. })));
}

#[test]
fn a_reader_makes_nothing() {
    let place = Folder::new();
    assert!(matches!(SqliteReader::open(place.path()), Err(Error::Missing(_))));
    assert_eq!(std::fs::read_dir(place.path()).expect("a folder").count(), 0);
}

#[test]
fn the_status_is_the_same_in_rust_and_in_sql() {
    let place = Folder::new();
    drop(open(&place).expect("a tracker"));
    let db = Connection::open_in_memory().expect("a database");
    db.execute_batch("CREATE TABLE items (done, skipped, dead, live, stale, cancelled_at)").expect("a table");
    let sql = format!("SELECT {} FROM items WHERE ?1", gristmill_tracker::sql::STATUS_CASE);
    let mut seen = std::collections::HashSet::new();
    for packed in 0..1u64 << 11 {
        let field = |place: u32| packed >> (2 * place) & 3;
        let masks = Masks { done: field(0), skipped: field(1), dead: field(2), live: field(3), stale: field(4) };
        let cancelled = packed >> 10 == 1;
        let [done, skipped, dead, live, stale] =
            [masks.done, masks.skipped, masks.dead, masks.live, masks.stale].map(|mask| mask as i64);
        db.execute("DELETE FROM items", []).expect("a change");
        db.execute(
            "INSERT INTO items VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (done, skipped, dead, live, stale, cancelled.then_some(1)),
        )
        .expect("a row");
        for all in 1..4u64 {
            let status = ItemStatus::of(masks, all, cancelled);
            let code: i64 = db.query_row(&sql, (1, all as i64), |row| row.get(0)).expect("a status");
            assert_eq!(code, status.code(), "{masks:?} of {all} cancelled {cancelled}");
            seen.insert(status);
        }
    }
    assert_eq!(seen.len(), ItemStatus::ALL.len(), "every status was seen");
}

#[test]
fn a_reader_sees_what_was_committed_while_a_host_writes() {
    let place = Folder::new();
    let tracker = open(&place).expect("a tracker");
    let reader = SqliteReader::open(place.path()).expect("a reader");
    block_on(async {
        assert!(reader.jobs().await.expect("a read").is_empty());
        tracker.register_job(gristmill_test_tracker::conformance::registration(Vec::new())).await.expect("a job");
        assert_eq!(reader.jobs().await.expect("a read").len(), 1);
        assert_eq!(tracker.outlook().await.expect("a read").next_due, None::<Timestamp>);
    });
}

#[test]
fn an_item_that_lost_one_of_its_rows_is_found() {
    for (table, kind) in [("item_data", "item without data"), ("items", "data without item")] {
        let place = Folder::new();
        block_on(async {
            let bench = gristmill_test_tracker::conformance::Bench::new(&|| place.open(), &[("fetch", &[])]).await;
            bench.discover(&[("a", "1"), ("b", "1")]).await;
        });
        let database = Connection::open(place.path().join("tracker.db")).expect("a database");
        database.execute_batch(&format!("DELETE FROM {table} WHERE id = 1")).expect("a change");
        let found = block_on(open(&place).expect("a tracker").examine()).expect("an examination");
        assert!(found.differences.iter().any(|row| row.kind == kind && row.place == "item 1"), "{found:?}");
    }
}
