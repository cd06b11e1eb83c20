//! A fault at every statement of every operation that writes: the batch is whole or absent.
//!
//! SQLite asks its progress handler at the end of each statement, and at each row of a longer one. The handler says
//! "interrupt" at the n-th of these moments, for n from one until the operation gets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use gristmill_model::{
    DeadReason, Digest, Disposition, Expiring, Fence, HostId, ItemId, JobId, Merge, MergePolicy, MergeRule, Need,
    OnUpdate, OperationId, Outcome, Rediscovery, RetryPolicy, StageBit, StageId, StageKey, Timestamp, VersionId,
};
use rusqlite::Connection;
use rusqlite::types::Value;

use super::super::blobs::{Blobs, INLINE_BYTES_MAX};
use super::super::open::{MIGRATIONS, migrate};
use super::super::session::Session;
use super::super::wait::Wait;
use super::super::{cancel, items, jobs, leases, operations, prune, rebuild, reconcile, round};
use crate::fail::Fail;
use gristmill_test_tracker::conformance::{NOW, item, registration, stage};
use gristmill_tracker::records::{
    Cancel, ClaimRequest, Completion, DeadFilter, HostInfo, Output, Prune, Reap, Redrive, Release, Round, Settlement,
    Source, Upsert,
};

const JOB: JobId = JobId(1);
const FETCH: StageId = StageId::new(JOB, StageBit(0));

/// A tracker in memory, whose large outputs are files.
struct World {
    connection: Connection,
    folder: tempfile::TempDir,
    /// How many moments are left until the fault.
    until_fault: Arc<AtomicI64>,
    /// Whether a commit is refused.
    refuses: Arc<AtomicBool>,
}

type Write<'a> = &'a dyn Fn(&mut Session<'_>) -> Result<(), Fail>;

impl World {
    /// With one host, one job of four stages, and six items in whatever states there are.
    fn new() -> Self {
        let mut connection = Connection::open_in_memory().expect("a database");
        migrate(&mut connection, &MIGRATIONS, NOW).expect("a schema");
        let until_fault = Arc::new(AtomicI64::new(i64::MAX));
        let left = Arc::clone(&until_fault);
        connection.progress_handler(1, Some(move || left.fetch_sub(1, Ordering::Relaxed) == 1)).expect("a handler");
        let refuses = Arc::new(AtomicBool::new(false));
        let refused = Arc::clone(&refuses);
        connection.commit_hook(Some(move || refused.load(Ordering::Relaxed))).expect("a hook");
        let world = Self { connection, folder: tempfile::tempdir().expect("a folder"), until_fault, refuses };
        world.write(&|session| {
            let host = HostInfo { name: "test".to_owned(), pid: 1, app_version: "0".to_owned(), now: NOW };
            leases::register_host(session, &host)?;
            register(session, true)?;
            items::upsert(session, &page(&["a", "b", "c", "d", "e", "f"], "{\"n\":1}"))?;
            // Fences 1 to 6: a to f, one lease each.
            round::round(session, &claims(6, 1, NOW))?;
            settle(session, 1, "a", 0, Disposition::Done)?;
            settle(session, 2, "b", 0, Disposition::Dead(DeadReason::Permanent))?;
            settle(session, 3, "c", 0, Disposition::Wait(Duration::from_secs(1)))?;
            Ok(())
        });
        world
    }

    fn session(&self) -> Session<'_> {
        let wait = Wait::new(Duration::ZERO, Arc::default());
        Session::new(&self.connection, Blobs::of(self.folder.path()), false, wait).expect("a session")
    }

    fn write(&self, write: Write<'_>) {
        let mut session = self.session();
        self.attempt(&mut session, write).expect("a write without faults");
    }

    fn attempt(&self, session: &mut Session<'_>, write: Write<'_>) -> Result<(), Fail> {
        let written = session.begin().and_then(|()| write(session)).and_then(|()| session.write_tally());
        self.until_fault.store(i64::MAX, Ordering::Relaxed);
        // An interrupt of COMMIT itself comes when all is done: see `refused_commit` for one that fails.
        let result = written.and_then(|()| session.commit());
        if result.is_err() {
            session.rollback();
        }
        result
    }

    /// Every row of every table.
    fn dump(&self) -> Vec<String> {
        let tables: Vec<String> = self
            .connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .and_then(|mut tables| tables.query_map([], |row| row.get(0))?.collect())
            .expect("tables");
        let mut dump = Vec::new();
        for table in tables {
            let mut statement = self.connection.prepare(&format!("SELECT * FROM {table}")).expect("a table");
            let columns = statement.column_count();
            let rows: Vec<String> = statement
                .query_map([], |row| {
                    let values: Result<Vec<Value>, _> = (0..columns).map(|column| row.get(column)).collect();
                    Ok(format!("{table} {:?}", values?))
                })
                .and_then(Iterator::collect)
                .expect("rows");
            dump.extend(rows);
        }
        dump
    }
}

fn register(session: &mut Session<'_>, all: bool) -> Result<(), Fail> {
    let need = |stage, output| vec![Need { stage, output }];
    let mut stages = vec![stage("fetch", vec![]), stage("extract", need(0, true)), stage("note", need(0, false))];
    if all {
        stages.push(stage("report", vec![Need { stage: 1, output: false }, Need { stage: 2, output: false }]));
    }
    jobs::register(session, &registration(stages)).map(drop)
}

fn page(keys: &[&str], data: &str) -> Upsert {
    let rediscovery = Rediscovery {
        merge: Merge::Fields(MergePolicy { fields: [("n".to_owned(), MergeRule::Sum)].into() }),
        sightings_max: 1,
        on_update: OnUpdate::Reprocess,
    };
    let source = Source::Page { cursor: None, next: Some(data.to_owned()) };
    Upsert { job: JOB, items: keys.iter().map(|key| item(key, data, 0)).collect(), source, rediscovery, now: NOW }
}

fn claims(limit: u32, chunk: u32, now: Timestamp) -> Round {
    let claim = ClaimRequest { stage: FETCH, limit, chunk, bytes: u64::MAX };
    Round { host: HostId(1), now, settlements: Vec::new(), claims: vec![claim] }
}

fn key(item: &str, bit: u8) -> StageKey {
    StageKey::new(ItemId(i64::from(item.as_bytes()[0] - b'a') + 1), StageBit(bit))
}

fn completion(item: &str, bit: u8, disposition: Disposition) -> Completion {
    let outcome = match disposition {
        Disposition::Done => Outcome::Done,
        Disposition::Skipped => Outcome::Skipped,
        Disposition::Wait(_) => Outcome::Retry,
        Disposition::Dead(_) => Outcome::Permanent,
    };
    // Large enough to be a file.
    let text = format!("\"{}\"", item.repeat(INLINE_BYTES_MAX));
    let output = Output { hash: Digest::of(text.as_bytes()), text };
    Completion {
        key: key(item, bit),
        version: VersionId(1),
        outcome,
        disposition,
        output: (disposition == Disposition::Done).then_some(output),
        input_hash: Digest::of(b"input"),
        error: None,
        log: None,
        ready_at: NOW,
        started_at: NOW,
        ended_at: NOW,
        memory_bytes_max: 1,
        charges: vec![("tokens".to_owned(), 1.5), ("requests".to_owned(), 1.0)],
    }
}

fn settlement(fence: i64, item: &str, disposition: Disposition) -> Settlement {
    Settlement { fence: Fence(fence), completions: vec![completion(item, 0, disposition)] }
}

fn settle(session: &mut Session<'_>, fence: i64, item: &str, bit: u8, disposition: Disposition) -> Result<(), Fail> {
    let settlements = vec![Settlement { fence: Fence(fence), completions: vec![completion(item, bit, disposition)] }];
    let done = round::round(session, &Round { host: HostId(1), now: NOW, settlements, claims: Vec::new() })?;
    assert_eq!((done.applied, done.late), (1, 0));
    Ok(())
}

/// Does it once without faults, and then with a fault at each moment in turn.
fn at_every_statement(prepare: Write<'_>, write: Write<'_>) {
    let (reference, world) = (World::new(), World::new());
    reference.write(prepare);
    world.write(prepare);
    let before = world.dump();
    assert_eq!(before, reference.dump(), "a world is the same each time");
    reference.write(write);
    let after = reference.dump();
    assert_ne!(before, after, "the operation writes something");
    let mut session = world.session();
    let mut faults = 0;
    for moment in 1..100_000 {
        world.until_fault.store(moment, Ordering::Relaxed);
        if world.attempt(&mut session, write).is_ok() {
            break;
        }
        faults += 1;
        assert_eq!(world.dump(), before, "after a fault at moment {moment}");
    }
    assert!(faults > 3, "{faults} faults");
    assert_eq!(world.dump(), after, "after {faults} faults");
    drop(session);
    refused_commit(prepare, write, &before, &after);
}

/// The last statement of all is the commit.
fn refused_commit(prepare: Write<'_>, write: Write<'_>, before: &[String], after: &[String]) {
    let world = World::new();
    world.write(prepare);
    let mut session = world.session();
    world.refuses.store(true, Ordering::Relaxed);
    assert!(world.attempt(&mut session, write).is_err(), "the commit is refused");
    world.refuses.store(false, Ordering::Relaxed);
    assert_eq!(world.dump(), before, "after a refused commit");
    world.attempt(&mut session, write).expect("a write");
    assert_eq!(world.dump(), after);
}

const NOTHING: Write<'static> = &|_| Ok(());

#[test]
fn a_fault_in_an_upsert_leaves_nothing_of_it() {
    let mut batch = page(&["a", "b"], "{\"n\":2}");
    batch.items.extend([item("new", "{}", 3), item("c", "{\"n\":1}", 0), item("a", "{\"n\":3}", 1)]);
    at_every_statement(NOTHING, &|session| items::upsert(session, &batch).map(drop));
}

#[test]
fn a_fault_in_a_round_leaves_nothing_of_it() {
    let prepare = |session: &mut Session<'_>| {
        // c was lost before, and is ready again.
        leases::promote(session, Timestamp(NOW.0 + 2_000_000), 9)?;
        session.connection.execute("UPDATE queue SET lost = 1 WHERE key = ?1", [key("c", 0).0])?;
        items::upsert(session, &page(&["g", "h"], "{\"n\":1}")).map(drop)
    };
    let mut work = claims(9, 2, NOW);
    work.settlements = vec![
        settlement(4, "d", Disposition::Done),
        settlement(5, "e", Disposition::Skipped),
        settlement(6, "f", Disposition::Wait(Duration::from_secs(9))),
    ];
    at_every_statement(&prepare, &|session| round::round(session, &work).map(drop));
    let mut work = claims(0, 1, NOW);
    work.settlements = vec![settlement(4, "d", Disposition::Dead(DeadReason::Exhausted))];
    at_every_statement(&prepare, &|session| round::round(session, &work).map(drop));
}

#[test]
fn a_fault_in_a_release_or_a_reaping_leaves_nothing_of_it() {
    let releases: Vec<Release> =
        [(4, "d"), (5, "e")].map(|(fence, item)| Release { fence: Fence(fence), keys: vec![key(item, 0)] }).into();
    let cancelled = |session: &mut Session<'_>| cancel::cancel(session, &cancelling(&["e"], false)).map(drop);
    at_every_statement(&cancelled, &|session| leases::release(session, &releases).map(drop));
    let policy = RetryPolicy { max_lost: 1, ..RetryPolicy::default() };
    let reap = Reap {
        host: HostId(2),
        now: Timestamp(NOW.0 + 1),
        heartbeat_before: Timestamp(NOW.0 + 1),
        leases_max: 9,
        policies: [(FETCH, policy)].into(),
    };
    at_every_statement(&cancelled, &|session| leases::reap(session, &reap).map(drop));
    let reap = Reap { policies: std::collections::HashMap::new(), ..reap };
    at_every_statement(&cancelled, &|session| leases::reap(session, &reap).map(drop));
}

#[test]
fn a_fault_in_a_promotion_leaves_nothing_of_it() {
    at_every_statement(NOTHING, &|session| leases::promote(session, Timestamp(NOW.0 + 2_000_000), 9).map(drop));
}

fn cancelling(keys: &[&str], undo: bool) -> Cancel {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Cancel { job: JOB, keys, undo, actor: "tester".to_owned(), why: "a test".to_owned(), now: NOW }
}

#[test]
fn a_fault_in_a_cancellation_leaves_nothing_of_it() {
    let all = ["a", "b", "c", "d", "nobody"];
    at_every_statement(NOTHING, &|session| cancel::cancel(session, &cancelling(&all, false)).map(drop));
    let cancelled = |session: &mut Session<'_>| cancel::cancel(session, &cancelling(&all, false)).map(drop);
    at_every_statement(&cancelled, &|session| cancel::cancel(session, &cancelling(&all, true)).map(drop));
}

#[test]
fn a_fault_in_a_redrive_leaves_nothing_of_it() {
    let redrive = Redrive {
        filter: DeadFilter::all(JOB),
        limit: 9,
        rate: Some(1.0),
        actor: "tester".to_owned(),
        why: "a test".to_owned(),
        now: NOW,
    };
    let begin = |session: &mut Session<'_>| operations::begin_redrive(session, &redrive).map(drop);
    at_every_statement(NOTHING, &begin);
    at_every_statement(&begin, &|session| operations::step(session, OperationId(1), 9, NOW).map(drop));
}

#[test]
fn a_fault_in_a_deletion_leaves_nothing_of_it() {
    let prepare = |session: &mut Session<'_>| cancel::cancel(session, &cancelling(&["a", "b"], false)).map(drop);
    for (what, numbers) in
        [(Expiring::Items, vec![1, 2]), (Expiring::Attempts, vec![1, 2]), (Expiring::Events, vec![2])]
    {
        let prune = Prune { job: Some(JOB), what, before: Timestamp(NOW.0 + 1), numbers };
        at_every_statement(&prepare, &|session| prune::prune(session, &prune).map(drop));
    }
}

#[test]
fn a_fault_in_an_edit_leaves_nothing_of_it() {
    let edit = |session: &mut Session<'_>| register(session, false);
    at_every_statement(NOTHING, &edit);
    at_every_statement(&edit, &|session| reconcile::reconcile(session, JOB, ItemId(0), 9, NOW).map(drop));
    at_every_statement(NOTHING, &|session| rebuild::rebuild(session, NOW));
}
