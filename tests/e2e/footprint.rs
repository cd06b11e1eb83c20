//! Attacks leave nothing behind in their host.
//!
//! Owns the measure of a running host: its memory, descriptors and threads. One host takes all attacks one after the
//! other, twice, with an item that behaves after each.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::job::{Job, text};
use crate::support::{components, wait_until};

/// The stages of `tests/hostile` that take something of their host's, and how each ends.
const ATTACKS: [(&str, &str); 12] = [
    ("bad-json", "failed"),
    ("charge-nan", "failed"),
    ("endless-loop", "failed"),
    ("escape", "done"),
    ("hoard", "done"),
    ("huge-error", "failed"),
    ("huge-output", "failed"),
    ("log-flood", "done"),
    ("memory-bomb", "failed"),
    ("sleep-forever", "failed"),
    ("stack-overflow", "failed"),
    ("trap", "failed"),
];
/// What a host may hold more of after an attack than before: less than any of them takes (at least 64 MiB).
const SLACK_KIB: u64 = 48 << 10;
/// How much more it may hold after the second round of all attacks than after the first: the allocator's own untidiness.
const GROWTH_KIB: u64 = 16 << 10;
/// The threads that read the tracker are started as they are needed: one at first, four at most, with three files each.
const READERS_MORE: usize = 3;
/// How often it is looked, at most, whether something has come to pass. Each look starts a process, or waits for one.
const LOOKS_MAX: usize = 3000;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    memory_kib: u64,
    threads: usize,
    descriptors: usize,
}

impl Footprint {
    fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            memory_kib: resident.split_whitespace().next().unwrap().parse().unwrap(),
            threads: fs::read_dir(format!("/proc/{process}/task")).unwrap().count(),
            descriptors: fs::read_dir(format!("/proc/{process}/fd")).unwrap().count(),
        }
    }

    /// Whether no more is held than before, but for some memory and the readers: less than one of each an attack.
    fn is_back(self, before: Self, slack_kib: u64) -> bool {
        self.memory_kib <= before.memory_kib + slack_kib
            && self.threads <= before.threads + READERS_MORE
            && self.descriptors <= before.descriptors + 3 * READERS_MORE
    }
}

/// A host that takes items while it runs, and the job that it runs.
struct Fed {
    job: Job,
    items: Vec<Value>,
}

impl Fed {
    fn new() -> Self {
        let (found, hostile) = (json!(components().found), json!(components().hostile));
        let stage = |name: &str| {
            let timeout = if name == "endless-loop" || name == "sleep-forever" { "200ms" } else { "60s" };
            format!(
                "  - {{ name: {name}, handler: {hostile}, needs: [], when: {{ /do: {name} }}, \
                 grants: {{ files: {{ /files: granted }} }}, retry: {{ max_attempts: 1 }}, \
                 limits: {{ timeout: {timeout}, memory: 256MiB, output: 64KiB }} }}\n"
            )
        };
        let stages: String = ATTACKS.iter().map(|(name, _)| *name).chain(["ok"]).map(stage).collect();
        let job = Job::new(&format!(
            "discover: {{ handler: {found}, every: 1s, grants: {{ files: {{ /found: found }} }} }}\nstages:\n{stages}"
        ));
        fs::create_dir_all(job.path("found")).unwrap();
        fs::create_dir_all(job.path("granted/inner")).unwrap();
        symlink("inner", job.path("granted/inside")).unwrap();
        let fed = Self { job, items: Vec::new() };
        fed.list();
        fed
    }

    fn list(&self) {
        let (new, list) = (self.job.path("found/new"), self.job.path("found/items.json"));
        fs::write(&new, json!(self.items).to_string()).unwrap();
        fs::rename(new, list).unwrap();
    }

    /// Has the host run that stage on a new item, and waits for the item's end: its status.
    fn run(&mut self, stage: &str) -> String {
        let key = format!("{}-{stage}", self.items.len());
        self.items.push(json!({ "key": key, "data": { "do": stage } }));
        self.list();
        let mut status = String::new();
        wait_until(&key, || {
            let ran = self.job.gristmill(&["show", "job.yaml", &key, "--json"]);
            status = if ran.code == Some(0) { text(&ran.json()["status"]).to_owned() } else { String::new() };
            status == "done" || status == "failed"
        });
        status
    }

    /// What the host holds as soon as that is no more than before; or what it holds in the end.
    fn footprint_once_back(&self, host: u32, before: Footprint) -> Footprint {
        let look = || {
            self.job.done();
            Footprint::of(host)
        };
        let back = (0..LOOKS_MAX).map(|_| look()).find(|seen| seen.is_back(before, SLACK_KIB));
        back.unwrap_or_else(look)
    }
}

#[test]
fn an_attack_leaves_no_memory_descriptors_or_threads_behind() {
    let mut fed = Fed::new();
    let host = fed.job.start(&["--watch", "--workers", "2"]);
    assert_eq!(fed.run("ok"), "done");
    let first = Footprint::of(host.id());
    let mut after_rounds = Vec::new();
    for _ in 0..2 {
        for (attack, status) in ATTACKS {
            assert_eq!(fed.run(attack), status, "{attack}");
            assert_eq!(fed.run("ok"), "done", "after {attack}");
            let after = fed.footprint_once_back(host.id(), first);
            assert!(after.is_back(first, SLACK_KIB), "{attack} leaves something behind: {first:?}, {after:?}");
        }
        after_rounds.push(Footprint::of(host.id()));
    }
    let [round, again] = after_rounds[..] else { unreachable!("two rounds") };
    assert!(again.is_back(round, GROWTH_KIB), "each attack leaves something behind: {round:?}, {again:?}");
    host.signal(Signal::INT);
    host.finish().expect(0);
    fed.job.audit();
}
