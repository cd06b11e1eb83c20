//! What operators do with a job: look at what is dead, try it again, leave items alone.
//!
//! Owns the commands `dead`, `redrive`, `operations`, `cancel` and `events`, one beside the other as a person uses them.
//! Never opens the database.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::items::discovering;
use crate::job::{Job, chain, outcomes, stage, text};
use crate::support::{GRISTMILL, Ran, components, program, start};

fn write_items(job: &Job, items: &[(&str, &str, &str)]) {
    let items: Vec<(&str, Value)> =
        items.iter().map(|(key, kind, message)| (*key, json!({ "kind": kind, "message": message }))).collect();
    discovering(job.folder(), &items);
}

/// A job that fails as its items say, each once.
fn failing(items: &[(&str, &str, &str)]) -> Job {
    let hostile = json!(components().hostile);
    let job = Job::new(&format!(
        "discover: {{ handler: items.wasm }}
stages:
  - {{ name: failures, handler: {hostile}, retry: {{ max_attempts: 1 }} }}
  - {{ name: ok, handler: {hostile} }}"
    ));
    write_items(&job, items);
    job
}

const ITEMS: [(&str, &str, &str); 4] = [
    ("fine", "ok", ""),
    ("gone", "permanent", "no such file"),
    ("slow", "permanent", "timed out"),
    ("busy", "retry", "mirror is down"),
];

fn failed() -> Job {
    let job = failing(&ITEMS);
    job.run(&[]).expect(1);
    job
}

fn dead(job: &Job, filter: &[&str]) -> Vec<String> {
    let ran = job.gristmill(&[&["dead", "job.yaml", "--json"], filter].concat()).expect(0);
    ran.records().iter().map(|row| text(&row["item"]).to_owned()).collect()
}

fn records(job: &Job, args: &[&str]) -> Vec<Value> {
    job.gristmill(&[args, &["--json"]].concat()).expect(0).records()
}

fn redrive(job: &Job, args: &[&str]) -> Ran {
    job.gristmill(&[&["redrive", "job.yaml", "--json"], args].concat())
}

#[test]
fn dead_stages_are_found_by_what_is_known_about_them() {
    let job = failed();
    assert_eq!(dead(&job, &[]).len(), 3);
    assert_eq!(dead(&job, &["--reason", "exhausted"]), ["busy"]);
    assert_eq!(dead(&job, &["--error", "timed"]), ["slow"]);
    assert_eq!(dead(&job, &["--stage", "failures", "--reason", "permanent"]).len(), 2);
    assert!(dead(&job, &["--stage", "ok"]).is_empty());
    assert!(dead(&job, &["--older-than", "1h"]).is_empty());
    assert_eq!(dead(&job, &["--older-than", "1ms"]).len(), 3);
    let ran = job.gristmill(&["dead", "job.yaml", "--limit", "2"]).expect(0);
    assert!(ran.out.starts_with("item") && ran.out.contains("permanent"), "{}", ran.out);
    assert!(ran.err.contains("these are 2 of 3"), "{}", ran.err);
    let row = &records(&job, &["dead", "job.yaml", "--reason", "exhausted"])[0];
    assert_eq!((&row["stage"], &row["error"]), (&json!("failures"), &json!("mirror is down")));
    assert_eq!(row["counters"], json!({ "attempts": 1, "lost": 0, "deferrals": 0 }));
    job.gristmill(&["dead", "job.yaml", "--stage", "failure"]).expect_refusal(2, "no stage `failure`", "`failures`");
}

#[test]
fn a_redrive_is_shown_before_it_is_done() {
    let job = failed();
    // A filter without a limit is refused, and so is an item that is not there.
    let refused = redrive(&job, &["--reason", "permanent"]).expect(2);
    assert!(refused.err.contains("--limit"), "{}", refused.err);
    redrive(&job, &["nobody"]).expect_refusal(2, "no item `nobody`", "gristmill items job.yaml");
    let preview = redrive(&job, &["--limit", "2"]).expect(0).json();
    assert_eq!((&preview["dead"], &preview["meant"]), (&json!(3), &json!(2)));
    assert_eq!(preview["kinds"].as_array().unwrap().iter().filter_map(|kind| kind["count"].as_u64()).sum::<u64>(), 2);
    let ran = job.gristmill(&["redrive", "job.yaml", "--error", "timed out", "--limit", "10"]).expect(0);
    assert!(ran.out.starts_with("1 dead stage of job would be redriven:"), "{}", ran.out);
    assert!(ran.err.contains("nothing was changed: --yes does it"), "{}", ran.err);
    assert!(records(&job, &["operations"]).is_empty());
    let none = job.gristmill(&["redrive", "job.yaml", "fine", "--yes"]).expect(0);
    assert!(none.out.contains("nothing to redrive"), "{}", none.out);
}

#[test]
fn what_is_redriven_is_tried_again_and_keeps_its_history() {
    let job = failed();
    // The cause is gone. What is dead stays dead until a person says otherwise.
    write_items(&job, &[("gone", "ok", ""), ("slow", "ok", "")]);
    job.run(&[]).expect(1);
    assert_eq!(dead(&job, &[]).len(), 3);
    let operation = redrive(&job, &["gone", "--why", "the file is back", "--yes"]).expect(0).json();
    assert_eq!((&operation["state"], &operation["done"]), (&json!("done"), &json!(1)), "{operation}");
    job.run(&[]).expect(1);
    let page = job.show("gone");
    assert_eq!(page["status"], "done", "{page}");
    assert_eq!(outcomes(stage(&page, "failures")), ["permanent", "done"]);
    assert_eq!(dead(&job, &[]).len(), 2);
    job.audit();
    let listed = &records(&job, &["operations", "job.yaml"])[0];
    assert_eq!((&listed["why"], &listed["planned"]), (&json!("the file is back"), &json!(1)));
    assert!(text(&listed["actor"]).contains('@'), "{listed}");
    let kinds: Vec<String> =
        records(&job, &["events", "job.yaml"]).iter().map(|event| text(&event["kind"]).to_owned()).collect();
    for kind in ["operation.started", "stage.redriven", "operation.done"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind} is not among {kinds:?}");
    }
    let redriven = records(&job, &["events", "--kind", "stage.redriven"]);
    assert_eq!(redriven[0]["data"], json!({ "item": "gone", "stage": "failures" }));
    assert_eq!(redriven[0]["operation"], operation["operation"]);
    assert!(records(&job, &["events", "--kind", "operation."]).len() >= 2);
    // What fails again is dead again.
    redrive(&job, &["--reason", "exhausted", "--limit", "5", "--yes"]).expect(0);
    job.run(&[]).expect(1);
    assert_eq!(outcomes(stage(&job.show("busy"), "failures")), ["retry", "retry"]);
    assert_eq!(dead(&job, &["--reason", "exhausted"]), ["busy"]);
    job.gristmill(&["doctor"]).expect(0);
}

#[test]
fn a_redrive_that_is_interrupted_goes_on_where_it_was() {
    let keys: Vec<String> = (0..20).map(|number| format!("item-{number}")).collect();
    let items: Vec<(&str, &str, &str)> = keys.iter().map(|key| (key.as_str(), "permanent", "no")).collect();
    let job = failing(&items);
    job.run(&[]).expect(1);
    let args = ["redrive", "job.yaml", "--limit", "20", "--rate", "5/s", "--yes"];
    let redriving = start(program(GRISTMILL, job.folder()).args(args));
    let done = || records(&job, &["operations"]).first().and_then(|row| row["done"].as_u64());
    assert!((0..5000).any(|_| done() > Some(0)), "it never begins");
    redriving.signal(Signal::INT);
    let ran = redriving.finish().expect(1);
    assert!(ran.out.starts_with("paused: "), "{}", ran.out);
    assert!(ran.err.contains("`gristmill operations --resume 1` goes on"), "{}", ran.err);
    let paused = records(&job, &["operations"]).remove(0);
    assert_eq!(paused["state"], "paused");
    assert!(paused["done"].as_u64() < Some(20), "its rate was not kept: {paused}");
    assert_eq!(dead(&job, &[]).len() as u64, 20 - paused["done"].as_u64().unwrap());
    let resumed = job.gristmill(&["operations", "--resume", "1", "--json"]).expect(0).json();
    assert_eq!((&resumed["state"], &resumed["done"]), (&json!("done"), &json!(20)));
    assert!(dead(&job, &[]).is_empty());
    let over = job.gristmill(&["operations", "--pause", "1"]);
    over.expect_refusal(2, "operation 1 is done, and cannot become paused", "gristmill operations");
    job.gristmill(&["operations", "--cancel", "7"]).expect_refusal(2, "no operation 7", "gristmill operations");
}

#[test]
fn a_cancelled_item_is_left_alone_until_it_is_taken_up_again() {
    let items = 6000;
    let job = Job::new(&chain(&components().noop, items));
    let host = job.start(&[]);
    job.wait_for(1);
    host.signal(Signal::INT);
    host.finish().expect(0);
    let rows = job.items();
    let open = rows.iter().find(|row| row["status"] != "done").expect("it was done before it was stopped");
    let key = text(&open["item"]).to_owned();
    let settled = open["done"].clone();
    job.gristmill(&["cancel", "job.yaml", &key, "no-such-item", "--why", "x"]).expect_refusal(
        2,
        "no item `no-such-item`",
        "gristmill items job.yaml",
    );
    let cancelled = job.gristmill(&["cancel", "job.yaml", &key, "--why", "not wanted", "--json"]).expect(0).json();
    assert_eq!(cancelled, json!({ "job": "job", "changed": 1, "unchanged": 0, "running": 0 }));
    let again = job.gristmill(&["cancel", "job.yaml", &key, "--why", "not wanted"]).expect(0);
    assert_eq!(again.out.trim(), "0 items cancelled; 1 was so already");
    job.run(&[]).expect(0);
    let status = job.status();
    assert_eq!((&status["items"]["cancelled"], &status["items"]["done"]), (&json!(1), &json!(items - 1)), "{status}");
    assert!(job.gristmill(&["status", "job.yaml"]).expect(0).out.contains("1 cancelled"));
    let page = job.show(&key);
    let done = page["stages"].as_array().unwrap().iter().filter(|stage| stage["state"] == "done").count();
    assert_eq!((&page["status"], done), (&json!("cancelled"), settled.as_array().unwrap().len()), "{page}");
    job.gristmill(&["doctor"]).expect(0);
    job.gristmill(&["cancel", "job.yaml", &key, "--why", "a mistake", "--undo"]).expect(0);
    job.run(&[]).expect(0);
    assert_eq!(job.status()["items"]["done"], items);
    job.audit();
    let kinds: Vec<Value> =
        records(&job, &["events", "--kind", "item."]).into_iter().map(|mut event| event["kind"].take()).collect();
    assert_eq!(kinds, [json!("item.restored"), json!("item.cancelled")]);
}

#[test]
fn a_cursor_that_is_refused_is_given_up_by_hand() {
    let job = Job::new(&chain(&components().noop, 3));
    job.run(&[]).expect(0);
    let database = rusqlite::Connection::open(job.folder().join(".gristmill/tracker.db")).unwrap();
    database.execute("UPDATE cursors SET cursor = 'no number'", []).unwrap();
    drop(database);
    for _ in 0..2 {
        let ran = job.run(&[]).expect(1);
        assert_eq!(ran.json()["discovery_failures"].as_array().unwrap().len(), 1, "each run asks with it again");
    }
    let restart = ["discover", "job.yaml", "--from-start", "--why", "the source lost it"];
    let said = job.gristmill(&restart).expect(0).out;
    assert_eq!(said, "job: the next run begins at the first page, and not at `no number`\n");
    let again = job.gristmill(&[&restart[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(again, json!({ "job": "job", "cursor": null }));
    job.run(&[]).expect(0);
    let events = records(&job, &["events", "--kind", "discovery.restarted"]);
    assert_eq!(events.len(), 1, "{events:?}");
    job.gristmill(&restart[..2]).expect(2);
}
