//! Handlers in Python and JavaScript, as the usual tools build them from the shipped `wit/`.
//!
//! Owns what authors of such handlers meet: the imports that the tools keep, failures, exceptions, and requests that
//! nothing grants. Never builds anything itself: `tests/languages/build.sh` does, with tools from `PyPI` and npm.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::job::{Job, outcomes, stage, text};
use crate::support::{Ran, components, repository};

/// What both handlers offer.
const STAGES: [&str; 7] = ["echo", "ask", "secret", "retry", "permanent", "skip", "throw"];

/// Where the components are, built once a process.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("languages");
        // With the whole environment: it may say how PyPI and npm are reached.
        let build = Command::new(repository().join("tests/languages/build.sh")).arg(&folder).output().unwrap();
        assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        folder
    })
}

/// A component, and what became of a job of all its stages with one item.
struct Tried {
    file: &'static str,
    checked: Ran,
    page: Value,
}

/// What the item holds: everything that JSON has.
fn data() -> Value {
    json!({ "text": "ü\n\"\u{1f33e}", "numbers": [0, -1, 2.5, 1e100], "none": null, "yes": true, "nested": [[{}]] })
}

fn tried(file: &'static str, stages: &[&str]) -> Tried {
    let (found, handler) = (json!(components().found), json!(built().join(file)));
    let params = json!({ "found": [{ "key": "a", "data": data() }], "size": "small" });
    let retry = "{ max_attempts: 2, backoff: { base: 1ms, max: 5ms } }";
    let stage = |name: &&str| format!("  - {{ name: {name}, handler: {handler}, needs: [], retry: {retry} }}\n");
    let stages: String = stages.iter().map(stage).collect();
    let job = Job::new(&format!("params: {params}\ndiscover: {{ handler: {found} }}\nstages:\n{stages}"));
    let checked = job.gristmill(&["check", "job.yaml"]).expect(0);
    // Three of its stages are dead, as they should be.
    job.run(&[]).expect(1);
    job.audit();
    Tried { file, checked, page: job.show("a") }
}

fn python() -> &'static Tried {
    static DONE: OnceLock<Tried> = OnceLock::new();
    DONE.get_or_init(|| tried("python.wasm", &STAGES))
}

fn javascript() -> &'static Tried {
    static DONE: OnceLock<Tried> = OnceLock::new();
    DONE.get_or_init(|| tried("javascript.wasm", &[&STAGES[..], &["fetch"]].concat()))
}

impl Tried {
    fn stage(&self, name: &str) -> &Value {
        stage(&self.page, name)
    }

    fn output(&self, name: &str) -> &Value {
        let stage = self.stage(name);
        assert_eq!(stage["state"], "done", "{}: {stage}", self.file);
        &stage["output"]
    }

    /// The log of a stage's latest attempt.
    fn log(&self, name: &str) -> &str {
        text(&self.stage(name)["attempts"][0]["log"])
    }

    /// The warnings about this import.
    fn warnings(&self, import: &str) -> Vec<&str> {
        let about = format!("{} imports {import}@", self.file);
        self.checked.err.lines().filter(|line| line.starts_with("warning: ") && line.contains(&about)).collect()
    }
}

#[test]
fn an_import_that_nothing_grants_is_warned_of_once_and_stops_nobody() {
    for tried in [python(), javascript()] {
        let warnings = tried.warnings("gristmill:handler/secrets");
        let yaml = "`grants: { secrets: [NAME] }`";
        assert!(matches!(warnings[..], [one] if one.contains(yaml)), "{}", tried.checked.err);
        assert_eq!(*tried.output("secret"), "none", "{}", tried.file);
        assert!(!tried.checked.err.contains("imports wasi:io/"), "nothing grants it: {}", tried.checked.err);
    }
    let warnings = javascript().warnings("wasi:http/outgoing-handler");
    let yaml = "`grants: { http: [\"https://host\"] }`";
    assert!(matches!(warnings[..], [one] if one.contains(yaml)), "{}", javascript().checked.err);
    assert!(python().warnings("wasi:http/outgoing-handler").is_empty(), "{}", python().checked.err);
}

#[test]
fn data_parameters_and_log_lines_cross_the_border_whole() {
    for tried in [python(), javascript()] {
        assert_eq!(*tried.output("echo"), data(), "{}", tried.file);
        assert_eq!(*tried.output("ask"), "small", "{}", tried.file);
        assert_eq!(tried.log("ask"), "[info] asks for its parameter\n", "{}", tried.file);
    }
}

#[test]
fn a_failure_that_a_handler_chooses_becomes_its_outcome() {
    for tried in [python(), javascript()] {
        let end = |name: &str| {
            let stage = tried.stage(name);
            (outcomes(stage), text(&stage["state"]), text(&stage["error"]))
        };
        assert_eq!(end("retry"), (vec!["retry"; 2], "dead", "come back"), "{}", tried.file);
        assert_eq!(end("permanent"), (vec!["permanent"], "dead", "never"), "{}", tried.file);
        assert_eq!(end("skip"), (vec!["skipped"], "skipped", "not for this one"), "{}", tried.file);
    }
}

#[test]
fn an_exception_is_a_trap_whose_message_is_in_the_log() {
    for tried in [python(), javascript()] {
        assert_eq!(outcomes(tried.stage("throw")), ["trap"], "{}", tried.file);
        assert!(text(&tried.stage("throw")["error"]).starts_with("panicked: "), "{}", tried.stage("throw"));
        // The engines' last words are about themselves, and so is the error. The message stands before them.
        assert!(tried.log("throw").contains("Error: thrown on purpose"), "{}", tried.log("throw"));
    }
}

#[test]
fn a_request_that_nothing_grants_is_refused_and_the_log_says_what_would_allow_it() {
    // The engine keeps the reason of a failed request to itself: only the log can tell it.
    assert!(text(javascript().output("fetch")).starts_with("refused: "), "{}", javascript().stage("fetch"));
    let log = javascript().log("fetch");
    assert!(log.contains("grants: { http: [\"https://example.org\"] }"), "{log}");
}

#[test]
fn an_asynchronous_component_is_told_as_that() {
    let handler = json!(built().join("quickjs.wasm"));
    let ran = Job::new(&format!("stages: [{{ name: echo, handler: {handler} }}]")).gristmill(&["check", "job.yaml"]);
    let ran = ran.expect(3);
    assert!(ran.err.contains("quickjs.wasm is asynchronous"), "{}", ran.err);
    for other in ["damaged", "cannot compile"] {
        assert!(!ran.err.contains(other), "{}", ran.err);
    }
}
