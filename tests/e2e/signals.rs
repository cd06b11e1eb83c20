//! Ctrl-C, SIGTERM and SIGHUP, once and twice.
//!
//! Owns what each of them may cost: one costs nothing, two cost what was running. Never waits for a guest that does not
//! end: there is one that sleeps for ever.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::items::discovering;
use crate::job::{Job, chain, outcomes, stage};
use crate::support::{GRISTMILL, Running, components, program, start};

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

pub(crate) fn sleeping_job() -> Job {
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
    // Another one than the first, or the first once more, but not at once.
    assert!((0..200).any(|_| {
        host.signal(Signal::INT);
        host.ends_within(Duration::from_millis(50))
    }));
    let ran = host.finish().expect(130);
    assert!(ran.err.contains("stopped at once: what was running is counted as lost"), "{}", ran.err);
    finish(&job, &["lost", "timeout"]);
}

#[test]
fn a_second_signal_of_another_kind_stops_at_once() {
    let job = sleeping_job();
    let mut host = job.start(&["--workers", "2"]);
    job.wait_for(1);
    host.signal(Signal::INT);
    host.says("stopping: ");
    host.signal(Signal::TERM);
    host.finish().expect(130);
    finish(&job, &["lost", "timeout"]);
}

#[test]
fn one_ctrl_c_that_arrives_twice_counts_once() {
    let job = sleeping_job();
    // It ends long before a second one would count.
    let mut host = job.start(&["--workers", "2", "--grace", "300ms"]);
    job.wait_for(1);
    host.signal(Signal::INT);
    host.says("stopping: ");
    host.signal(Signal::INT);
    let ran = host.finish().expect(0);
    assert!(!ran.err.contains("stopped at once"), "{}", ran.err);
    finish(&job, &["timeout"]);
}

/// The sleeper, under what `env` is told about signals.
fn under(job: &Job, option: &str) -> Running {
    let args = [option, GRISTMILL, "run", "job.yaml", "--json", "--workers", "2", "--grace", "100ms"];
    start(program("env", job.folder()).args(args))
}

#[test]
fn a_terminal_that_closes_lets_a_run_stop_and_one_under_nohup_go_on() {
    let job = sleeping_job();
    let host = under(&job, "--default-signal=HUP");
    job.wait_for(1);
    host.signal(Signal::HUP);
    assert_eq!(host.finish().expect(0).json()["interrupted"], true);

    let job = sleeping_job();
    let host = under(&job, "--ignore-signal=HUP");
    job.wait_for(1);
    host.signal(Signal::HUP);
    // The first that is heard: had the other one been, this would stop at once.
    host.signal(Signal::TERM);
    assert_eq!(host.finish().expect(0).json()["interrupted"], true);
    finish(&job, &["timeout"]);
}

/// Waits until a process has said what it does with an interrupt.
fn host_listens(host: &Running) {
    let status = format!("/proc/{}/status", host.id());
    let listens = |_| {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        std::thread::yield_now();
        caught >> (Signal::INT.as_raw() - 1) & 1 == 1
    };
    assert!((0..10_000_000).any(listens), "it never listens");
}

#[test]
fn a_signal_is_heard_before_anything_runs() {
    let job = sleeping_job();
    // Nobody ever writes to it: the run waits for its job file.
    let host = start(program(GRISTMILL, job.folder()).args(["run", "-"]).stdin(Stdio::piped()));
    host_listens(&host);
    host.signal(Signal::TERM);
    let ran = host.finish().expect(130);
    assert_eq!(ran.err, "stopped before anything was run\n");
}

#[test]
fn a_run_whose_reader_has_gone_ends_as_it_went() {
    let job = sleeping_job();
    job.write(&sleeper("50ms"));
    let script = "{ \"$0\" run job.yaml --quiet --json && echo 0 >code || echo $? >code; } | true; cat code";
    let ran = start(program("bash", job.folder()).args(["-c", script, GRISTMILL])).finish().expect(0);
    assert_eq!(ran.out, "1\n", "{}", ran.err);
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
