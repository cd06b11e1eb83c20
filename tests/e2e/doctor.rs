//! A tracker with wrong counters, masks or queue rows.
//!
//! Owns the damage: counters, masks and queue rows, changed behind the tracker's back. Never damages a fact: those
//! cannot be computed from anything else.

use rusqlite::Connection;
use rustix::process::Signal;

use crate::job::{Job, chain};
use crate::support::components;

const ITEMS: u64 = 4000;

/// A job that was stopped half-way.
fn half_done() -> Job {
    let job = Job::new(&chain(&components().noop, ITEMS));
    let host = job.start(&[]);
    job.wait_for(1);
    host.signal(Signal::INT);
    host.finish().expect(0);
    assert!(job.done() < 3 * ITEMS, "it was done before it was stopped");
    job
}

fn damage(job: &Job, sql: &str) {
    Connection::open(job.database()).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_sound_tracker_is_said_to_be_so() {
    let job = half_done();
    let found = job.gristmill(&["doctor", "--json"]).expect(0).json();
    assert_eq!(found["differences_total"], 0, "{found}");
    assert!(found["items"].as_u64() > Some(0));
    let ran = job.gristmill(&["doctor"]).expect(0);
    assert!(ran.out.contains("everything is as the facts say"), "{}", ran.out);
    job.gristmill(&["doctor", "--data", "nowhere"]).expect_refusal(4, "there is no tracker at nowhere", "--data");
}

#[test]
fn what_differs_is_told_and_made_anew_and_the_run_goes_on() {
    let job = half_done();
    damage(
        &job,
        "UPDATE stage_counts SET n = n + 5; UPDATE items SET live = 0 WHERE id = (SELECT min(id) FROM items WHERE live != 0);
         DELETE FROM queue WHERE key = (SELECT max(key) FROM queue);",
    );
    let found = job.gristmill(&["doctor", "--json"]).expect(1).json();
    assert!(found["differences_total"].as_u64() >= Some(3), "{found}");
    for difference in found["differences"].as_array().unwrap() {
        assert!(["kind", "place", "found", "expected"].iter().all(|key| difference[key].is_string()), "{difference}");
    }
    let ran = job.gristmill(&["doctor"]).expect(1);
    assert!(ran.out.starts_with("what") && ran.out.contains("stage count"), "{}", ran.out);
    assert!(ran.err.contains("doctor --rebuild"), "{}", ran.err);
    let ran = job.gristmill(&["doctor", "--rebuild"]).expect(1);
    assert!(ran.err.contains("nothing was changed: --yes"), "{}", ran.err);
    job.gristmill(&["doctor", "--rebuild", "--yes"]).expect(0);
    job.run(&[]).expect(0);
    let outcomes = job.audit();
    assert_eq!(outcomes.get("done"), Some(&(3 * ITEMS)), "{outcomes:?}");
    job.gristmill(&["doctor"]).expect(0);
}

#[test]
fn nothing_is_made_anew_under_a_host() {
    let job = Job::new(&chain(&components().noop, 50));
    let host = job.start(&["--watch"]);
    job.wait_for(150);
    job.gristmill(&["doctor"]).expect(0);
    job.gristmill(&["doctor", "--rebuild", "--yes"]).expect_refusal(4, "another host runs", "stop it first");
    host.signal(Signal::TERM);
    host.finish().expect(0);
    job.audit();
}

#[test]
fn what_a_killed_host_held_is_given_back() {
    let job = Job::new(&chain(&components().noop, ITEMS));
    let host = job.start(&[]);
    job.wait_for(1);
    host.signal(Signal::KILL);
    host.finish();
    job.gristmill(&["doctor"]).expect(0);
    job.gristmill(&["doctor", "--rebuild", "--yes"]).expect(0);
    let account = job.run(&[]).expect(0).json();
    assert_eq!(account["lost"], 0, "{account}");
    assert_eq!(job.audit().get("done"), Some(&(3 * ITEMS)));
}
