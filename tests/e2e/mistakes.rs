//! Wrong inputs: a job file, a component or a command line that cannot be meant so.
//!
//! Owns the sentence, the hint and the exit code of each. What is wrong with a data folder is in `storage`.

use serde_json::json;

use crate::items::{component, discovering};
use crate::job::Job;
use crate::support::components;

const ONE_STAGE: &str = "stages:\n  - { name: a, handler: a.wasm }";

/// Puts these bytes where the job looks for its component, and asks both commands that load it.
fn refused_component(bytes: &[u8], says: &str, hint: &str) {
    let job = Job::new(ONE_STAGE);
    std::fs::write(job.path("a.wasm"), bytes).unwrap();
    refused(&job, &["job.yaml:4:25: stage `a`: ", says], hint);
    // The same words where nothing but the component is asked about.
    job.gristmill(&["inspect", "a.wasm"]).expect_refusal(3, says, hint);
}

/// `check` and `run` say the same, and a run that is refused leaves nothing behind.
fn refused(job: &Job, says: &[&str], hint: &str) {
    for command in ["check", "run"] {
        let ran = job.gristmill(&[command, "job.yaml"]).expect_refusal(3, says[0], hint);
        for words in says {
            assert!(ran.err.contains(words), "{words:?} is not in\n{}", ran.err);
        }
        assert!(ran.err.ends_with("error: 1 problem in 1 job file\n"), "{}", ran.err);
        assert_eq!(ran.out, "");
    }
    assert!(!job.database().exists());
}

#[test]
fn a_job_file_that_is_not_there() {
    let job = Job::new(ONE_STAGE);
    for command in ["check", "run"] {
        job.gristmill(&[command, "jop.yaml"]).expect_refusal(3, "jop.yaml: there is no such file", "current folder");
    }
    for command in ["status", "items", "attempts"] {
        job.gristmill(&[command, "nowhere/jop.yaml"]).expect_refusal(4, "there is no tracker at nowhere", "--data");
    }
}

#[test]
fn a_fault_in_the_yaml_is_shown_with_its_place() {
    let job = Job::new("stages:\n  - { name: a, handler: a.wasm, limits: { timeout: 5 } }");
    let ran = job.gristmill(&["check", "job.yaml"]).expect(3);
    for words in ["job.yaml:4:", "- { name: a, handler: a.wasm, limits: { timeout: 5 } }", "^", "timeout"] {
        assert!(ran.err.contains(words), "{words:?} is not in\n{}", ran.err);
    }
    job.write("stages: [");
    let ran = job.gristmill(&["run", "job.yaml"]).expect(3);
    assert!(ran.err.contains("job.yaml:3:"), "{}", ran.err);
}

#[test]
fn a_component_that_is_not_there() {
    let job = Job::new(ONE_STAGE);
    refused(&job, &["job.yaml:4:25: stage `a`: there is no component at a.wasm"], "build the handler first");
}

#[test]
fn a_file_that_is_not_wasm() {
    refused_component(b"#!/bin/sh\necho hello\n", "a.wasm is not WebAssembly", "`gristmill build` makes one");
    refused_component(b"", "a.wasm is not WebAssembly", "`gristmill build` makes one");
}

#[test]
fn a_core_module() {
    let module = wat::parse_str("(module (func (export \"run\")))").unwrap();
    refused_component(&module, "a.wasm is a core WebAssembly module, not a component", "wasm32-wasip2");
}

#[test]
fn a_component_of_another_world() {
    let other = component("export greet: func();", "(module (func (export \"greet\")))");
    refused_component(&other, "a.wasm is a component of another world: it exports greet", "see wit/handler.wit");
}

#[test]
fn a_component_that_is_cut_off() {
    let whole = std::fs::read(&components().noop).unwrap();
    refused_component(&whole[..whole.len() / 2], "a.wasm is damaged: ", "build or copy it again");
}

#[test]
fn a_component_that_lacks_the_stage_says_which_it_has() {
    let job = Job::new(ONE_STAGE.replace("name: a", "name: d").as_str());
    std::fs::copy(&components().noop, job.path("a.wasm")).unwrap();
    refused(&job, &["a.wasm has no stage `d`"], "it has a, b, c");
}

#[test]
fn a_component_that_discovers_nothing() {
    let job = Job::new(&format!("discover: {{ handler: {} }}\n{ONE_STAGE}", json!(components().hostile)));
    std::fs::copy(&components().noop, job.path("a.wasm")).unwrap();
    refused(&job, &["discover: ", "hostile.wasm finds no items"], "discovery");
}

#[test]
fn a_granted_folder_that_is_not_there() {
    let grant = "name: a, grants: { files: { /data: not-here } }";
    let job = Job::new(ONE_STAGE.replace("name: a", grant).as_str());
    std::fs::copy(&components().noop, job.path("a.wasm")).unwrap();
    refused(&job, &["stage `a`: cannot open not-here, which is granted to a.wasm as /data"], "create the folder");
}

#[test]
fn a_discovery_that_fails_is_told_and_is_no_success() {
    let job = Job::new(&format!("discover: {{ handler: {0} }}\nstages: [a]", json!(components().noop)));
    let ran = job.run(&[]).expect(1);
    let failure = &ran.json()["discovery_failures"][0];
    assert_eq!(*failure, json!({ "job": "job", "message": "the job has no parameter `items`" }));
    assert!(ran.err.contains("the job has no parameter `items`"), "{}", ran.err);
}

#[test]
fn a_name_that_is_nearly_right_is_told() {
    let job = Job::new(&format!(
        "discover: {{ handler: items.wasm }}\nstages:\n  - {{ name: ok, handler: {} }}",
        json!(components().hostile)
    ));
    discovering(job.folder(), &[("serde@1.0.0", json!(1))]);
    job.run(&[]).expect(0);
    let data = ["--data", ".gristmill"];
    let asked = |args: &[&str]| job.gristmill(&[args, &data[..]].concat());
    asked(&["status", "jobb"]).expect_refusal(2, "there is no job `jobb` in .gristmill", "did you mean `job`?");
    asked(&["items", "quite-else"]).expect_refusal(2, "there is no job `quite-else`", "there is job");
    asked(&["attempts", "job", "--stage", "okk"]).expect_refusal(2, "there is no stage `okk`", "did you mean `ok`?");
    asked(&["show", "job", "serde"]).expect_refusal(2, "there is no item `serde`", "did you mean `serde@1.0.0`?");
    let wrong = job.gristmill(&["rum", "job.yaml"]).expect(2);
    assert!(wrong.err.contains("run"), "{}", wrong.err);
}

#[test]
fn a_folder_that_is_no_handler() {
    let job = Job::new(ONE_STAGE);
    std::fs::create_dir(job.path("empty")).unwrap();
    job.gristmill(&["build", "empty"]).expect_refusal(3, "it has no Cargo.toml", "gristmill inspect");
    job.gristmill(&["build", "nowhere"]).expect(3);
    assert!(!job.path("empty/empty.wasm").exists());
}
