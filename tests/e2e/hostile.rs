//! Every attack of `tests/hostile`, through the whole host: each is one stage of one job, beside a stage that behaves.
//!
//! Owns what a person reads about each. One run serves all tests here; a second one shows what is the same every time.

use std::os::unix::fs::symlink;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::items::discovering;
use crate::job::{Job, outcomes, stage, text};
use crate::support::components;

/// What the log of one attempt may be, and a few words about what was cut.
const LOG_BYTES_MAX: usize = (64 << 10) + 100;
const ERROR_BYTES_MAX: usize = (4 << 10) + 100;

/// The job, and the page of its item `victim`.
struct Attacked {
    job: Job,
    page: Value,
}

fn attacked() -> &'static Attacked {
    static DONE: OnceLock<Attacked> = OnceLock::new();
    DONE.get_or_init(run)
}

fn run() -> Attacked {
    let hostile = json!(components().hostile);
    let attack = |name: &str, limits: &str| {
        format!(
            "  - {{ name: {name}, handler: {hostile}, needs: [], limits: {{ {limits} }}, \
             retry: {{ max_attempts: 2, backoff: {{ base: 1ms, max: 5ms }} }} }}\n"
        )
    };
    let patient = "timeout: 60s, memory: 16MiB, output: 64KiB";
    // Room to make what is too large.
    let roomy = "timeout: 60s, memory: 512MiB, output: 64KiB";
    let hasty = "timeout: 200ms, memory: 16MiB, output: 64KiB";
    let mut stages = String::new();
    for name in [
        "ok",
        "bad-json",
        "charge-nan",
        "charge-nul",
        "clock",
        "env",
        "log-flood",
        "memory-bomb",
        "stack-overflow",
        "trap",
    ] {
        stages.push_str(&attack(name, patient));
    }
    for name in ["huge-error", "huge-output"] {
        stages.push_str(&attack(name, roomy));
    }
    for name in ["endless-loop", "sleep-forever"] {
        stages.push_str(&attack(name, hasty));
    }
    let job = Job::new(&format!(
        "discover: {{ handler: items.wasm }}\nstages:\n{stages}  - {{ name: escape, handler: {hostile}, needs: [], \
         grants: {{ files: {{ /files: granted }} }} }}"
    ));
    let granted = job.path("granted");
    std::fs::create_dir_all(granted.join("inner")).unwrap();
    symlink("/", granted.join("root")).unwrap();
    symlink("../../../../../../../../..", granted.join("climb")).unwrap();
    // Shows that the grant works, and that a link is followed as long as it stays inside.
    symlink("inner", granted.join("inside")).unwrap();
    discovering(job.folder(), &[("victim", json!({ "a": 1 })), ("neighbour", json!({ "b": 2 }))]);
    job.run(&[]).expect(1);
    let page = job.show("victim");
    Attacked { job, page }
}

/// How the attempts of an attack ended, and the error that its stage is dead with.
fn end(attack: &str) -> (Vec<&'static str>, &'static str) {
    let stage = stage(&attacked().page, attack);
    assert_eq!(stage["state"], "dead", "{stage}");
    (outcomes(stage), text(&stage["error"]))
}

fn output(page: &Value, name: &str) -> Value {
    let stage = stage(page, name);
    assert_eq!(stage["state"], "done", "{stage}");
    stage["output"].clone()
}

#[test]
fn what_behaves_does_not_notice() {
    let Attacked { job, page } = attacked();
    assert_eq!(output(page, "ok"), json!({ "a": 1 }));
    assert_eq!(output(&job.show("neighbour"), "ok"), json!({ "b": 2 }));
    job.audit();
    assert!(!job.attempts().iter().any(|attempt| attempt["outcome"] == "lost"));
}

#[test]
fn an_endless_loop_is_a_timeout() {
    assert_eq!(end("endless-loop"), (vec!["timeout"; 2], "ran longer than its limit of 200ms"));
}

#[test]
fn a_sleep_without_end_waits_for_nothing_and_ends_at_the_limit() {
    let (ends, error) = end("sleep-forever");
    assert_eq!((ends, error), (vec!["timeout"; 2], "ran longer than its limit of 200ms"));
}

#[test]
fn a_memory_bomb_is_refused_its_memory() {
    let (ends, error) = end("memory-bomb");
    assert_eq!(ends, ["memory"]);
    assert!(error.starts_with("wanted ") && error.ends_with(" of memory, and its limit is 16 MiB"), "{error}");
    let used = stage(&attacked().page, "memory-bomb")["attempts"][0]["memory_bytes_max"].as_u64().unwrap();
    assert!((8 << 20..=16 << 20).contains(&used), "{used}");
}

#[test]
fn a_panic_is_told_in_the_guests_own_words() {
    assert_eq!(end("trap"), (vec!["trap"], "panicked: this handler panics on purpose"));
}

#[test]
fn a_stack_overflow_is_a_trap() {
    assert_eq!(end("stack-overflow"), (vec!["trap"], "trapped: it ran out of stack, as in an endless recursion"));
}

#[test]
fn a_charge_that_is_no_number_is_a_trap() {
    let (ends, error) = end("charge-nan");
    assert_eq!(ends, ["trap"]);
    assert!(error.ends_with("to \"tokens\": an amount is from 0 to 1e15"), "{error}");
    let charges = &stage(&attacked().page, "charge-nan")["attempts"][0]["charges"];
    assert_eq!(*charges, json!({}));
}

#[test]
fn a_meter_that_no_database_holds_is_a_trap() {
    let (ends, error) = end("charge-nul");
    assert_eq!(ends, ["trap"]);
    assert!(error.ends_with("named a meter whose name holds a control character, U+0000"), "{error}");
}

#[test]
fn an_output_that_is_too_large_or_no_json_is_bad() {
    let (ends, error) = end("huge-output");
    assert_eq!(ends, ["bad-output"]);
    assert_eq!(error, "its output has 64.0 MiB, and the limit is 64 KiB");
    let (ends, error) = end("bad-json");
    assert_eq!(ends, ["bad-output"]);
    assert!(error.starts_with("its output is not JSON: "), "{error}");
}

#[test]
fn a_huge_error_is_cut() {
    let (ends, error) = end("huge-error");
    assert_eq!(ends, ["permanent"]);
    assert!((1000..ERROR_BYTES_MAX).contains(&error.len()) && error.starts_with("eeee"), "{} bytes", error.len());
}

#[test]
fn a_log_flood_is_cut_and_its_attempt_goes_on() {
    let stage = stage(&attacked().page, "log-flood");
    assert_eq!(outcomes(stage), ["done"]);
    let log = text(&stage["attempts"][0]["log"]);
    assert!((32 << 10..LOG_BYTES_MAX).contains(&log.len()), "{} bytes", log.len());
    assert!(log.trim_end().ends_with("more bytes"), "{}", &log[log.len() - 200..]);
}

#[test]
fn no_path_leads_out_of_a_granted_folder() {
    assert_eq!(output(&attacked().page, "escape"), json!(["/files/inside"]));
}

#[test]
fn a_handler_sees_neither_environment_nor_arguments() {
    assert_eq!(output(&attacked().page, "env"), json!({ "env": [], "args": [] }));
}

#[test]
fn time_and_chance_are_the_same_at_every_run() {
    let readings = output(&attacked().page, "clock");
    assert_eq!(readings["wall_step_ns"], 0, "{readings}");
    let again = run();
    let second = output(&again.page, "clock");
    for reading in ["random", "monotonic_step_ns"] {
        assert_eq!(readings[reading], second[reading], "{reading}");
    }
    // Two items of one discovery have one time, and chances of their own.
    let neighbour = output(&again.job.show("neighbour"), "clock");
    assert_eq!(second["wall_ns"], neighbour["wall_ns"]);
    assert_ne!(second["random"], neighbour["random"]);
    assert_ne!(readings["wall_ns"], second["wall_ns"], "the second discovery was later");
}
