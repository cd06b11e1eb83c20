//! A thread that hangs where nothing can interrupt it, as on a disk that does not answer: a debugger stops it here.
//!
//! Owns the one way to stop a single thread of another process. What it was doing must not stop the host.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::json;

use crate::items::discovering;
use crate::job::{Job, outcomes, stage, text};
use crate::support::{components, program, repository, wait_until};

/// A thread that stands still.
struct Held(Child);

impl Held {
    /// Stops a thread where it is.
    fn thread(process: u32, name: &str) -> Self {
        let script = repository().join("tests/e2e/hold_thread.py");
        let mut command = program("python3", &repository());
        command.arg(script).args([&process.to_string(), name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut debugger = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(debugger.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        Self(debugger)
    }

    fn let_go(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn a_thread_that_hangs_is_replaced_and_what_it_still_does_counts_for_nothing() {
    let hostile = json!(components().hostile);
    let job = Job::new(&format!(
        "discover: {{ handler: items.wasm }}\nstages:\n  - name: spin-ms\n    handler: {hostile}\n    \
         limits: {{ timeout: 12s }}\n    retry: {{ max_attempts: 2, backoff: {{ base: 1ms, max: 5ms }} }}"
    ));
    let quick: Vec<String> = (0..20).map(|number| format!("quick-{number}")).collect();
    let items =
        [("slow", json!({ "ms": 3000 }))].into_iter().chain(quick.iter().map(|key| (key.as_str(), json!({ "ms": 1 }))));
    discovering(job.folder(), &items.collect::<Vec<_>>());
    let host = job.start(&["--workers", "1", "--trace-file", "trace"]);
    wait_until("the slow one runs", || {
        job.done();
        fs::read_to_string(job.path("trace")).is_ok_and(|trace| trace.contains("slow"))
    });
    let held = Held::thread(host.id(), "attempts-0");
    wait_until("the others are done", || job.done() >= 20);
    let events = || job.gristmill(&["events", "job.yaml", "--json"]).expect(0).records();
    let replaced = |event: &serde_json::Value| event["kind"] == "host.thread_replaced";
    assert_eq!(events().iter().filter(|event| replaced(event)).count(), 1);
    held.let_go();
    let ran = host.finish().expect(0);
    assert!(ran.err.contains("an attempt hangs in a call of the system: its thread is replaced"), "{}", ran.err);
    let page = job.show("slow");
    let spin = stage(&page, "spin-ms");
    assert_eq!(outcomes(spin), ["timeout", "done"]);
    let error = text(&spin["attempts"][1]["error"]);
    assert_eq!(error, "did not end at its limit of 12s, and could not be interrupted");
    job.audit();
}
