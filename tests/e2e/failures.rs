//! The failures that a handler may choose, and what becomes of each.
//!
//! Owns one job with an item for each of them.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::items::discovering;
use crate::job::{Job, outcomes, stage};
use crate::support::components;

/// What was run, and its account.
fn failed() -> &'static (Job, Value) {
    static DONE: OnceLock<(Job, Value)> = OnceLock::new();
    DONE.get_or_init(|| {
        let hostile = json!(components().hostile);
        let job = Job::new(&format!(
            "discover: {{ handler: items.wasm }}
stages:
  - name: failures
    handler: {hostile}
    # With a grant a stage is told which attempt it is.
    grants: {{ clock: true }}
    retry: {{ max_attempts: 3, max_deferrals: 4, backoff: {{ base: 1ms, max: 20ms, jitter: none }} }}
  - {{ name: ok, handler: {hostile} }}"
        ));
        let items = ["ok", "once", "retry", "later", "permanent", "skip", "odd"];
        let items = items.map(|kind| (kind, json!({ "kind": kind, "message": "said so", "after_ms": 5 })));
        discovering(job.folder(), &items);
        let account = job.run(&[]).expect(1).json();
        (job, account)
    })
}

/// The outcomes of an item's attempts, the state of its stages, and its error.
fn end(item: &str) -> (Vec<String>, [Value; 2], Value, Value) {
    let page = failed().0.show(item);
    let first = stage(&page, "failures");
    let states = [first["state"].clone(), stage(&page, "ok")["state"].clone()];
    let ends = outcomes(first).into_iter().map(str::to_owned).collect();
    (ends, states, first["reason"].clone(), first["error"].clone())
}

/// As `end` gives it.
fn dead(ends: &[&str], reason: &str, error: &str) -> (Vec<String>, [Value; 2], Value, Value) {
    let ends = ends.iter().map(|end| (*end).to_owned()).collect();
    (ends, [json!("dead"), json!("blocked")], json!(reason), json!(error))
}

#[test]
fn a_retry_waits_and_counts_its_attempts() {
    assert_eq!(end("retry"), dead(&["retry"; 3], "exhausted", "said so"));
    let page = failed().0.show("once");
    assert_eq!(outcomes(stage(&page, "failures")), ["retry", "done"]);
    // The output is the number of the attempt.
    assert_eq!(stage(&page, "failures")["output"], 2);
    let attempts = stage(&page, "failures")["attempts"].as_array().unwrap();
    let (second, first) = (attempts[0]["started_at"].as_str().unwrap(), attempts[1]["ended_at"].as_str().unwrap());
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let waited = time(second).duration_since(time(first));
    assert!(waited >= jiff::SignedDuration::from_millis(5), "it waited {waited}");
}

#[test]
fn later_has_a_cap_of_its_own() {
    assert_eq!(end("later"), dead(&["later"; 4], "deferred", "said so"));
}

#[test]
fn what_cannot_be_helped_is_dead_at_once() {
    assert_eq!(end("permanent"), dead(&["permanent"], "permanent", "said so"));
    assert_eq!(end("odd"), dead(&["permanent"], "permanent", "odd: said so"));
}

#[test]
fn a_skipped_stage_lets_its_dependents_go_on() {
    let (ends, states, ..) = end("skip");
    assert_eq!((ends, states), (vec!["skipped".to_owned()], [json!("skipped"), json!("done")]));
}

#[test]
fn the_account_tells_it_all() {
    let (job, account) = failed();
    // 3 of `ok` for ok, once and skip; 2 of `failures` for ok and once.
    let wanted = json!({
        "done": 5, "skipped": 1, "retry": 4, "later": 4, "permanent": 2,
        "trap": 0, "timeout": 0, "memory": 0, "bad-output": 0, "lost": 0,
    });
    assert_eq!(account["outcomes"], wanted);
    assert_eq!(account["executions"], 16);
    assert_eq!(account["jobs"][0]["dead"].as_array().map(Vec::len), Some(4), "{account}");
    let outcomes = job.audit();
    assert_eq!(outcomes.values().sum::<u64>(), 16);
    // What is dead stays dead: a run without anything to do still says that not all is well.
    let again = job.run(&[]).expect(1).json();
    assert_eq!(again["executions"], 0);
}
