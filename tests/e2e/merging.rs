//! Items that are found again, with other data.
//!
//! Owns what becomes of their data and of their results, on the real binary and by a real component. Never looks at how
//! the rules combine: those are proved where they are written.

use serde_json::{Value, json};

use crate::job::{Job, outcomes, stage};
use crate::support::components;

/// A job that finds what its parameter lists, and runs three stages on it.
fn job(rediscovery: &str) -> Job {
    let found = json!(components().found);
    Job::new(&format!(
        "params: {{ found: [] }}\ndiscover: {{ handler: {found}{rediscovery} }}\nstages: [echo, pass, same]"
    ))
}

fn run(job: &Job, data: &Value) -> Value {
    let found = format!("found={}", json!([{ "key": "a", "data": data }]));
    job.run(&["--param", &found]).expect(0).json()
}

/// The data of the item, after it was found with each of these.
fn merged(job: &Job, sightings: &[Value]) -> Value {
    for data in sightings {
        run(job, data);
    }
    job.show("a")["data"].clone()
}

#[test]
fn data_of_an_item_that_is_found_again_takes_the_place_of_the_old() {
    let job = job("");
    assert_eq!(merged(&job, &[json!({ "a": 1, "b": 1 }), json!({ "a": 0 })]), json!({ "a": 0 }));
    let page = job.show("a");
    assert_eq!(stage(&page, "echo")["output"], json!({ "a": 1, "b": 1 }), "results stay until a person decides");
    assert_eq!(page["sightings"].as_array().map(Vec::len), Some(2), "{page}");
}

#[test]
fn fields_are_merged_by_their_rules_and_the_same_again_changes_nothing() {
    let rules = "{ t: union, first: first, n: sum, m: max, l: append-unique, c: coalesce }";
    let job = job(&format!(", merge: {rules}"));
    let first = json!({ "t": ["b"], "first": null, "n": 1, "m": 3, "l": [2], "c": null, "other": 1 });
    let second = json!({ "t": ["a", "b"], "first": 1, "n": 0.5, "m": 2, "l": [1, 2], "c": 0, "other": 2 });
    let expected = json!({ "t": ["a", "b"], "first": null, "n": 1.5, "m": 3, "l": [2, 1], "c": 0, "other": 2 });
    assert_eq!(merged(&job, &[first.clone(), second.clone()]), expected);
    let again = run(&job, &second);
    assert_eq!(again["discovered"], json!({ "new": 0, "changed": 0, "unchanged": 1 }));
    assert_eq!(merged(&job, &[first])["n"], json!(1.5), "a sighting from before is not added a second time");
}

#[test]
fn one_key_twice_on_a_page_is_one_item_and_the_same_page_again_changes_nothing() {
    for (rules, data) in [("", json!({ "seen": [2] })), (", merge: handler", json!({ "seen": [1, 2] }))] {
        let job = job(&format!("{rules}, on_update: reprocess"));
        let page = json!([{ "key": "a", "data": { "seen": [1] } }, { "key": "a", "data": { "seen": [2] } }]);
        let found = format!("found={page}");
        let first = job.run(&["--param", &found]).expect(0);
        assert!(first.err.contains("a page has keys more than once"), "{}", first.err);
        let again = job.run(&["--param", &found]).expect(0).json();
        assert_eq!((&again["executions"], &again["discovered"]["unchanged"]), (&json!(0), &json!(1)), "{again}");
        assert_eq!(job.show("a")["data"], data);
    }
}

#[test]
fn a_component_merges_what_it_found() {
    let job = job(", merge: handler");
    let data = merged(&job, &[json!({ "seen": [2] }), json!({ "seen": [1] }), json!({ "seen": [1, 3] })]);
    assert_eq!(data, json!({ "seen": [1, 2, 3] }));
    let failed = job.run(&["--param", "found=[{\"key\":\"a\",\"data\":{}}]"]).expect(1).json();
    let failure = failed["discovery_failures"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(failure.contains("item `a` could not be merged"), "{failed}");
    assert_eq!(job.show("a")["data"], data, "nothing of that page was kept");
}

#[test]
fn a_component_that_merges_nothing_is_refused() {
    let noop = json!(components().noop);
    let job =
        Job::new(&format!("params: {{ items: 1 }}\ndiscover: {{ handler: {noop}, merge: handler }}\nstages: [a]"));
    let ran = job.gristmill(&["run", "job.yaml"]).expect(3);
    assert!(ran.err.contains("merges no items, and the job says `merge: handler`"), "{}", ran.err);
}

#[test]
fn results_are_made_again_from_new_data_where_the_job_says_so_and_no_further_than_they_change() {
    let job = job(", on_update: reprocess");
    run(&job, &json!(1));
    let account = run(&job, &json!(2));
    // `pass` depends on `echo`, and `same` on `pass`: all three see another input.
    assert_eq!(account["executions"], 3, "{account}");
    let page = job.show("a");
    assert_eq!((&stage(&page, "echo")["output"], &stage(&page, "pass")["output"]), (&json!(2), &json!(2)));
    for name in ["echo", "pass", "same"] {
        assert_eq!(outcomes(stage(&page, name)), ["done", "done"]);
    }

    let found = json!(components().found);
    let cut = Job::new(&format!(
        "params: {{ found: [] }}
discover: {{ handler: {found}, on_update: reprocess }}
stages: [{{ name: same, needs: [] }}, {{ name: pass, needs: [same] }}]"
    ));
    run(&cut, &json!(1));
    assert_eq!(run(&cut, &json!(2))["executions"], 1, "what comes out equal ends the wave");
}

#[test]
fn a_stage_is_skipped_for_items_that_it_is_not_for() {
    let found = json!(components().found);
    let job = Job::new(&format!(
        "params: {{ found: [] }}
discover: {{ handler: {found} }}
stages: [{{ name: echo, when: {{ /kind: [pdf, ps] }} }}, same]"
    ));
    run(&job, &json!({ "kind": "html" }));
    let page = job.show("a");
    assert_eq!(stage(&page, "echo")["state"], "skipped");
    assert!(stage(&page, "echo")["error"].as_str().is_some_and(|why| why.contains("/kind")), "{page}");
    assert_eq!(stage(&page, "same")["state"], "done", "it can do without that output");
}
