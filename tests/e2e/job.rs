//! A job file in a folder of its own, with its data folder beside it.
//!
//! Owns what tests ask about a job, always by `--json`, and the accounts that have to balance after any run. Never opens
//! the database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{GRISTMILL, Ran, Running, program, start};

/// The job's name, in all tests.
const NAME: &str = "job";

pub(crate) struct Job {
    folder: TempDir,
    /// A shared tracker; none: the data folder beside the job file.
    tracker: Option<String>,
}

impl Job {
    /// A job of these lines; version and name are added.
    pub(crate) fn new(lines: &str) -> Self {
        Self::made(lines, None)
    }

    /// A job whose tracker is a database that hosts share.
    pub(crate) fn on(tracker: String, lines: &str) -> Self {
        Self::made(lines, Some(tracker))
    }

    fn made(lines: &str, tracker: Option<String>) -> Self {
        let job = Self { folder: tempfile::tempdir().unwrap(), tracker };
        job.write(lines);
        job
    }

    /// Replaces the job file.
    pub(crate) fn write(&self, lines: &str) {
        std::fs::write(self.path("job.yaml"), format!("version: 1\njob: {NAME}\n{lines}\n")).unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The database in the data folder.
    pub(crate) fn database(&self) -> PathBuf {
        self.path(".gristmill/tracker.db")
    }

    pub(crate) fn gristmill(&self, args: &[&str]) -> Ran {
        start(self.command().args(args)).finish()
    }

    /// The binary, in the job's folder, with its tracker.
    fn command(&self) -> Command {
        let mut command = program(GRISTMILL, self.folder());
        command.envs(self.tracker.iter().map(|tracker| ("GRISTMILL_TRACKER", tracker)));
        command
    }

    /// Starts a run, and does not wait for its end.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        start(self.command().args([&["run", "job.yaml", "--json"], args].concat()))
    }

    /// Runs to the end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.start(args).finish()
    }

    pub(crate) fn status(&self) -> Value {
        self.gristmill(&["status", "job.yaml", "--json"]).expect(0).json()
    }

    pub(crate) fn show(&self, item: &str) -> Value {
        self.gristmill(&["show", "job.yaml", item, "--json"]).expect(0).json()
    }

    pub(crate) fn items(&self) -> Vec<Value> {
        self.gristmill(&["items", "job.yaml", "--json", "--limit", "1000000"]).expect(0).records()
    }

    pub(crate) fn attempts(&self) -> Vec<Value> {
        self.gristmill(&["attempts", "job.yaml", "--json", "--limit", "1000000"]).expect(0).records()
    }

    /// How many stages are done; 0 where no run has begun.
    pub(crate) fn done(&self) -> u64 {
        let ran = self.gristmill(&["status", "job.yaml", "--json"]);
        if ran.code == Some(0) { sum(&ran.json(), "done") } else { 0 }
    }

    /// Waits until so many stages are done. Each look is a process of its own, so this is no busy loop.
    pub(crate) fn wait_for(&self, done: u64) {
        assert!((0..5000).any(|_| self.done() >= done), "{}", self.status());
    }

    /// Everything that must be true when a run has ended, however it ended: nothing leased, every result with its one
    /// attempt, and counters that equal a recount. Returns how many attempts ended how.
    pub(crate) fn audit(&self) -> BTreeMap<String, u64> {
        let (status, items, attempts) = (self.status(), self.items(), self.attempts());
        assert_eq!(sum(&status, "leased"), 0, "{status}");
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        let mut done: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for attempt in &attempts {
            let outcome = text(&attempt["outcome"]);
            *outcomes.entry(outcome.to_owned()).or_default() += 1;
            if outcome == "done" {
                *done.entry((text(&attempt["item"]), text(&attempt["stage"]))).or_default() += 1;
            }
        }
        let mut statuses: BTreeMap<&str, u64> = BTreeMap::new();
        let mut settled: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut counted: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for item in &items {
            *statuses.entry(text(&item["status"])).or_default() += 1;
            for state in ["done", "skipped", "dead"] {
                for stage in item[state].as_array().unwrap() {
                    *counted.entry((text(stage), state)).or_default() += 1;
                    if state == "done" {
                        settled.insert((text(&item["item"]), text(stage)), 1);
                    }
                }
            }
        }
        assert!(done == settled, "results and their attempts differ");
        assert_eq!(status["items_total"], items.len() as u64);
        for (name, count) in status["items"].as_object().unwrap() {
            assert_eq!(*count, statuses.get(name.as_str()).copied().unwrap_or(0), "{name} of {status}");
        }
        for stage in status["stages"].as_array().unwrap() {
            for state in ["done", "skipped", "dead"] {
                let count = counted.get(&(text(&stage["stage"]), state)).copied().unwrap_or(0);
                assert_eq!(stage[state], count, "{state} of {stage}");
            }
        }
        outcomes
    }
}

/// Which attempts were begun, as trace files tell from outside the tracker, and what the tracker says of them: every
/// result is of an attempt that was begun, no attempt was begun twice, and none is missing from the account. Fences of
/// one stage of one item rise from attempt to attempt.
pub(crate) fn compare_with_trace(job: &Job, file: &str) {
    let lines = std::fs::read_to_string(job.path(file)).unwrap();
    let mut begun: HashSet<(String, String, i64)> = HashSet::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(begun.insert(identity(&line)), "begun twice: {line}");
    }
    let attempts = job.attempts();
    let mut recorded = HashSet::new();
    let mut newest: HashMap<(String, String), i64> = HashMap::new();
    for attempt in &attempts {
        let (item, stage, fence) = identity(attempt);
        if attempt["outcome"] == "done" {
            assert!(begun.contains(&(item.clone(), stage.clone(), fence)), "a result that nobody made: {attempt}");
        }
        // They come newest first.
        if let Some(later) = newest.insert((item.clone(), stage.clone()), fence) {
            assert!(fence < later, "fence {fence} of an attempt before one under {later}: {attempt}");
        }
        assert!(recorded.insert((item, stage, fence)), "recorded twice: {attempt}");
    }
    let missing = begun.difference(&recorded).next();
    assert_eq!(missing, None, "an attempt was begun and is in no account");
}

fn identity(line: &Value) -> (String, String, i64) {
    (text(&line["item"]).to_owned(), text(&line["stage"]).to_owned(), line["fence"].as_i64().unwrap())
}

/// Adds up a counter of all stages.
pub(crate) fn sum(status: &Value, counter: &str) -> u64 {
    status["stages"].as_array().unwrap().iter().map(|stage| stage[counter].as_u64().unwrap()).sum()
}

/// The stage of that name on an item's page.
pub(crate) fn stage<'a>(page: &'a Value, name: &str) -> &'a Value {
    page["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == name).unwrap()
}

/// How the attempts of a stage ended, the oldest first.
pub(crate) fn outcomes(stage: &Value) -> Vec<&str> {
    let attempts = stage["attempts"].as_array().unwrap();
    attempts.iter().rev().map(|attempt| text(&attempt["outcome"])).collect()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Three stages that do nothing, one after the other, for so many items. What vanishes comes back at once, however often.
pub(crate) fn chain(noop: &str, items: u64) -> String {
    let noop = json!(noop);
    let again = "retry: { max_lost: 1000, backoff: { base: 1ms, max: 5ms } }";
    let stages: String = ["a", "b", "c"].map(|name| format!("  - {{ name: {name}, {again} }}\n")).concat();
    format!("params: {{ items: {items} }}\ndiscover: {{ handler: {noop}, page: 500 }}\nstages:\n{stages}")
}
