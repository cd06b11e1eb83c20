//! Data folders that cannot be used: taken, damaged, somebody else's, read-only, full.
//!
//! Owns the proof that nothing is lost by it: what was settled before is there after, and a run goes on. Read-only
//! folders and full disks are real ones, in a mount namespace of their own.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::job::{Job, chain};
use crate::signals::sleeping_job;
use crate::support::{GRISTMILL, Ran, Running, components, program, start};

/// A job that is done.
fn done(items: u64) -> Job {
    let job = Job::new(&chain(&components().noop, items));
    job.run(&[]).expect(0);
    job
}

/// Every file of the data folder but the compiled code, with its content.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        // What is about a process, and not about a job.
        .filter(|(name, _)| !name.ends_with("host.lock") && !name.ends_with("-shm") && !name.ends_with("-wal"))
        .collect();
    files.sort();
    files
}

/// A run is refused, and leaves the data as it was.
fn refused_untouched(job: &Job, says: &str, hint: &str) {
    let before = content(&job.path(".gristmill"));
    job.gristmill(&["run", "job.yaml"]).expect_refusal(4, says, hint);
    assert!(content(&job.path(".gristmill")) == before, "the run changed something");
}

#[test]
fn a_second_host_on_one_folder_is_refused_and_disturbs_nothing() {
    let job = Job::new(&chain(&components().noop, 50));
    let host = job.start(&["--watch"]);
    job.wait_for(150);
    let ran = job.gristmill(&["run", "job.yaml"]).expect_refusal(4, "another host runs on .gristmill", "--data");
    assert!(ran.err.contains("(process "), "{}", ran.err);
    host.signal(Signal::TERM);
    assert_eq!(host.finish().expect(0).json()["executions"], 150);
    job.audit();
    job.run(&[]).expect(0);
}

#[test]
fn a_data_folder_that_is_removed_under_a_running_host_ends_it() {
    let job = sleeping_job();
    for remove in [true, false] {
        let mut host = job.start(&["--watch", "--workers", "2"]);
        job.wait_for(1);
        if remove {
            fs::remove_dir_all(job.path(".gristmill")).unwrap();
        } else {
            fs::rename(job.path(".gristmill"), job.path("elsewhere")).unwrap();
        }
        assert!(host.ends_within(Duration::from_secs(20)), "it goes on");
        let says = ".gristmill/tracker.db was removed or replaced while it was in use";
        host.finish().expect_refusal(4, says, "put the data folder back");
    }
    fs::rename(job.path("elsewhere"), job.path(".gristmill")).unwrap();
    job.status();
}

#[test]
fn a_file_where_the_data_folder_should_be() {
    let job = Job::new(&chain(&components().noop, 5));
    fs::write(job.path(".gristmill"), "mine").unwrap();
    job.gristmill(&["run", "job.yaml"]).expect_refusal(4, ".gristmill", "choose another one with --data");
    assert_eq!(fs::read_to_string(job.path(".gristmill")).unwrap(), "mine");
    job.gristmill(&["status", "job.yaml"]).expect(4);
}

#[test]
fn a_tracker_that_is_no_database() {
    let job = done(5);
    fs::write(job.database(), "Dear diary, today I wrote a job.\n".repeat(100)).unwrap();
    refused_untouched(&job, "tracker.db is not a gristmill tracker", "leaves files alone that are not its own");
    job.gristmill(&["status", "job.yaml"]).expect_refusal(4, "is not a gristmill tracker", "--data");
}

#[test]
fn a_tracker_that_is_another_programs_database() {
    let job = Job::new(&chain(&components().noop, 5));
    fs::create_dir(job.path(".gristmill")).unwrap();
    Connection::open(job.database()).unwrap().execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    refused_untouched(&job, "tracker.db is not a gristmill tracker", "leaves files alone that are not its own");
}

#[test]
fn a_tracker_of_a_newer_gristmill() {
    let job = done(5);
    Connection::open(job.database()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    refused_untouched(&job, "the tracker has schema 99", "use the gristmill that made it");
    job.gristmill(&["status", "job.yaml"]).expect_refusal(4, "the tracker has schema 99", "use the gristmill");
}

#[test]
fn a_tracker_that_is_damaged() {
    let job = done(300);
    let mut bytes = fs::read(job.database()).unwrap();
    // All pages but the first, which says whose file this is.
    bytes[4096..].fill(0xa5);
    fs::write(job.database(), bytes).unwrap();
    refused_untouched(&job, "the tracker's database is damaged", "put a copy of tracker.db back");
    job.gristmill(&["items", "job.yaml"]).expect_refusal(4, "the tracker's database is damaged", "tracker.db");
}

/// Runs a shell script in a mount namespace, where `$1` is the binary, and what follows the script is its result.
fn in_namespace(job: &Job, script: &str) -> Ran {
    for tool in ["unshare", "mount", "cp", "sh"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(tool).exists());
        assert!(found, "this test needs `{tool}`, of util-linux or coreutils");
    }
    let args = ["--user", "--map-root-user", "--mount", "sh", "-eu", "-c", script, "sh", GRISTMILL];
    start(program("unshare", job.folder()).args(args)).finish()
}

#[test]
fn a_read_only_folder() {
    let job = done(5);
    let before = content(&job.path(".gristmill"));
    let mount = "mount --bind .gristmill .gristmill && mount -o remount,bind,ro .gristmill";
    in_namespace(&job, &format!("{mount}\n\"$1\" run job.yaml")).expect_refusal(
        4,
        "Read-only file system",
        "choose another one with --data",
    );
    assert!(content(&job.path(".gristmill")) == before);
    job.run(&[]).expect(0);
    job.audit();
}

#[test]
fn a_read_only_place_for_a_new_folder() {
    let job = Job::new(&chain(&components().noop, 5));
    fs::create_dir(job.path("sealed")).unwrap();
    let script =
        "mount --bind sealed sealed && mount -o remount,bind,ro sealed\n\"$1\" run job.yaml --data sealed/data";
    in_namespace(&job, script).expect_refusal(4, "sealed/data", "choose another one with --data");
}

#[test]
fn a_full_disk_loses_nothing_and_the_next_run_goes_on() {
    let items = 8000;
    let job = Job::new(&chain(&components().noop, items));
    // The run's own exit code is the script's; what is on the full disk is carried to one that has room.
    let script = "mkdir disk full && mount -t tmpfs -o size=5m none disk
        \"$1\" run job.yaml --data disk --min-free 0 && code=0 || code=$?
        cp -a disk/. full && exit $code";
    in_namespace(&job, script).expect_refusal(4, "the disk that holds the tracker is full", "free some space");
    fs::rename(job.path("full"), job.path(".gristmill")).unwrap();

    let before = settled(&job);
    assert!(!before.is_empty() && (before.len() as u64) < items * 3, "{} results fit", before.len());
    println!("{} of {} results fit", before.len(), items * 3);
    job.run(&[]).expect(0);
    let outcomes = job.audit();
    assert_eq!(outcomes.get("done"), Some(&(items * 3)), "{outcomes:?}");
    assert!(before.is_subset(&settled(&job)), "a result is another one now");
}

#[test]
fn a_disk_that_fills_stops_the_host_before_it_is_full() {
    let items = 30_000;
    let job = Job::new(&chain(&components().noop, items));
    let script = "mkdir disk full && mount -t tmpfs -o size=30m none disk
        \"$1\" run job.yaml --data disk --min-free 20MiB && code=0 || code=$?
        cp -a disk/. full && exit $code";
    in_namespace(&job, script).expect_refusal(4, "too little room left to go on", "20.0 MiB are to stay free");
    fs::rename(job.path("full"), job.path(".gristmill")).unwrap();
    let outcomes = job.audit();
    assert!(outcomes.keys().all(|outcome| outcome == "done"), "what was under way was not finished: {outcomes:?}");
    let before = settled(&job);
    job.run(&[]).expect(0);
    assert_eq!(job.audit().get("done"), Some(&(items * 3)));
    assert!(before.is_subset(&settled(&job)), "a result is another one now");
}

/// The attempts that were done.
fn settled(job: &Job) -> HashSet<String> {
    job.attempts().iter().filter(|attempt| attempt["outcome"] == "done").map(Value::to_string).collect()
}

/// A run in whose midst another process takes the database for itself.
fn held_up(patience: &str) -> (Job, Running, Connection) {
    let job = Job::new(&chain(&components().noop, 20_000));
    let mut host = job.start(&["--patience", patience]);
    job.wait_for(300);
    let other = Connection::open(job.database()).unwrap();
    other.busy_timeout(Duration::from_mins(1)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    host.says("another process holds the tracker: waiting for it");
    (job, host, other)
}

#[test]
fn a_run_waits_for_a_process_that_holds_the_tracker_and_goes_on() {
    let (job, mut host, other) = held_up("5m");
    other.execute_batch("ROLLBACK").unwrap();
    host.says("the tracker is free again");
    let account = host.finish().expect(0).json();
    assert_eq!((&account["lost"], &account["late"]), (&0.into(), &0.into()), "{account}");
    assert_eq!(job.audit()["done"], 60_000);
    let events = job.gristmill(&["events", "--kind", "tracker.waited", "--json"]).expect(0).records();
    assert!(!events.is_empty());
}

#[test]
fn a_run_that_waited_as_long_as_it_may_ends_with_its_reason_and_its_lock_is_free() {
    let (job, host, other) = held_up("6s");
    let ran = host.finish();
    ran.expect_refusal(4, "the tracker is held by another process", "the other process");
    other.execute_batch("ROLLBACK").unwrap();
    job.run(&[]).expect(0);
    assert_eq!(job.audit()["done"], 60_000);
}
