//! Ctrl-C and SIGTERM, once and twice.
//!
//! Owns what each of them may cost: one costs nothing, two cost what was running. Never waits for a guest that does not
//! end: there is one that sleeps for ever.

use rustix::process::Signal;
use serde_json::json;

use crate::items::discovering;
use crate::job::{Job, chain, outcomes, stage};
use crate::support::components;

#[test]
fn a_stop_gives_back_what_it_has_not_finished() {
    let (items, stages) = (6000, 3);
    let job = Job::new(&chain(&components().noop, items));
    for signal in [Signal::INT, Signal::TERM] {
        let host = job.start(&[]);
        job.wait_for(job.done() + 1);
        host.signal(signal);
        let account = host.finish().expect(0).json();
        assert_eq!(account["interrupted"], true, "it was done before it was stopped: {account}");
        let outcomes = job.audit();
        assert!(outcomes.keys().eq(["done"]), "a stop was charged: {outcomes:?}");
        assert!(outcomes["done"] < items * stages, "{outcomes:?}");
    }
    let account = job.run(&[]).expect(0).json();
    assert_eq!((&account["interrupted"], &account["lost"]), (&false.into(), &0.into()), "{account}");
    let outcomes = job.audit();
    assert!(outcomes.keys().eq(["done"]), "{outcomes:?}");
    assert_eq!(outcomes["done"], items * stages);
}

/// One stage that is done at once, and one that sleeps until its limit.
fn sleeper(timeout: &str) -> String {
    let hostile = json!(components().hostile);
    format!(
        "discover: {{ handler: items.wasm }}
stages:
  - {{ name: ok, handler: {hostile}, needs: [] }}
  - name: sleep-forever
    handler: {hostile}
    needs: []
    grants: {{ clock: true }}
    limits: {{ timeout: {timeout} }}
    retry: {{ max_attempts: 1, backoff: {{ base: 1ms, max: 5ms }} }}"
    )
}

fn sleeping_job() -> Job {
    let job = Job::new(&sleeper("1h"));
    discovering(job.folder(), &[("a", json!("data"))]);
    job
}

/// Goes on, with a limit that the sleeper meets at once.
fn finish(job: &Job, sleeper_outcomes: &[&str]) {
    job.write(&sleeper("50ms"));
    let account = job.run(&[]).expect(1).json();
    assert_eq!(account["jobs"][0]["dead"][0]["stage"], "sleep-forever", "{account}");
    job.audit();
    let page = job.show("a");
    assert_eq!(outcomes(stage(&page, "ok")), ["done"]);
    assert_eq!(outcomes(stage(&page, "sleep-forever")), sleeper_outcomes);
}

#[test]
fn a_second_ctrl_c_stops_at_once_and_loses_no_result() {
    let job = sleeping_job();
    let mut host = job.start(&["--workers", "2"]);
    job.wait_for(1);
    host.signal(Signal::INT);
    host.says("stopping: running attempts may finish, for 30 s at most; a second Ctrl-C stops at once");
    host.signal(Signal::INT);
    let ran = host.finish().expect(130);
    assert!(ran.err.contains("stopped at once: what was running is counted as lost"), "{}", ran.err);
    finish(&job, &["lost", "timeout"]);
}

#[test]
fn what_outlives_its_grace_is_given_back_uncharged() {
    let job = sleeping_job();
    let host = job.start(&["--workers", "2", "--grace", "100ms"]);
    job.wait_for(1);
    host.signal(Signal::INT);
    let account = host.finish().expect(0).json();
    assert_eq!(account["interrupted"], true, "{account}");
    assert!(job.audit().keys().eq(["done"]));
    finish(&job, &["timeout"]);
}
