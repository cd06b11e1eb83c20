//! How long data lives: retention, archives, backups.
//!
//! Owns `prune`, `backup` and `restore`, and the proof that what is deleted was archived before. Never waits for data to
//! grow old: it is kept for a millisecond.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::items::discovering;
use crate::job::Job;
use crate::support::components;

/// A job that returns its items' data.
fn job(items: &[(&str, Value)]) -> Job {
    let job = Job::new("");
    keep(&job, "{}");
    discovering(job.folder(), items);
    job
}

/// Writes the job file with that retention.
fn keep(job: &Job, retention: &str) {
    let found = json!(components().found);
    job.write(&format!(
        "discover: {{ handler: items.wasm }}\nstages: [{{ name: echo, handler: {found} }}]\nretention: {retention}"
    ));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn lines(path: &Path) -> Vec<Value> {
    let text = String::from_utf8(zstd::decode_all(fs::File::open(path).unwrap()).unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_kept_no_longer_is_archived_and_deleted() {
    let job = job(&[("a", json!(1)), ("b", json!(2)), ("c", json!(3))]);
    // One after the other, so that the newest attempt is of the newest item.
    job.run(&["--workers", "1"]).expect(0);
    let kept = job.gristmill(&["prune", "job.yaml"]).expect(0);
    assert!(kept.out.contains("everything is kept"), "{}", kept.out);
    keep(&job, "{ items: 1d }");
    let young = job.gristmill(&["prune", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(young["deleted"], json!({ "items": 0 }));
    keep(&job, "{ attempts: 1ms, items: 1ms, archive: old }");
    let dry = job.gristmill(&["prune", "job.yaml", "--dry-run", "--json"]).expect(0).json();
    // The newest of each stays: its number would be given out again.
    assert_eq!(dry["deleted"], json!({ "attempts": 2, "items": 2 }));
    assert_eq!((job.items().len(), files(&job.path("old")).len()), (3, 0), "a dry run changed something");
    let pruned = job.gristmill(&["prune", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(pruned["deleted"], dry["deleted"]);
    assert_eq!((job.items().len(), job.attempts().len()), (1, 1));
    let archived = files(&job.path("old"));
    let names: Vec<&str> = archived.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert!(
        matches!(names[..], [one, two] if one.starts_with("job-attempts-") && two.starts_with("job-items-")),
        "{names:?}"
    );
    assert!(names.iter().all(|name| name.ends_with("Z.jsonl.zst")), "{names:?}");
    assert_eq!(archived.iter().map(|path| lines(path).len()).collect::<Vec<_>>(), [2, 2]);
    let text = lines(&archived[1]).iter().map(Value::to_string).collect::<String>();
    assert!(["\"a\"", "\"b\""].iter().all(|key| text.contains(key)), "{text}");
    // Nothing else is left of them, and found again they are new.
    job.gristmill(&["doctor"]).expect(0);
    keep(&job, "{}");
    let account = job.run(&[]).expect(0).json();
    assert_eq!((&account["discovered"]["new"], &account["executions"]), (&json!(2), &json!(2)), "{account}");
}

#[test]
fn a_running_host_deletes_by_itself() {
    let job = job(&[("a", json!(1)), ("b", json!(2))]);
    keep(&job, "{ attempts: 1ms }");
    job.run(&[]).expect(0);
    // The next host begins with what the one before has left.
    let host = job.start(&["--watch"]);
    assert!((0..5000).any(|_| job.attempts().len() == 1), "it never does");
    host.signal(rustix::process::Signal::TERM);
    host.finish().expect(0);
    assert_eq!(job.items().len(), 2);
}

/// More than a row of the database holds.
fn large() -> Value {
    json!("x".repeat(200_000))
}

#[test]
fn a_large_output_goes_with_its_item() {
    let job = job(&[("large", large()), ("small", json!(1))]);
    job.run(&[]).expect(0);
    let blobs = job.path(".gristmill/blobs");
    assert_eq!(files(&blobs).len(), 1);
    assert_eq!(job.show("large")["stages"][0]["output"], large());
    keep(&job, "{ items: 1ms }");
    let pruned = job.gristmill(&["prune", "job.yaml", "--json"]).expect(0).json();
    assert_eq!((&pruned["deleted"]["items"], &pruned["blobs_removed"]), (&json!(1), &json!(0)), "it is too young");
    let file = fs::File::options().append(true).open(&files(&blobs)[0]).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.set_modified(written - Duration::from_hours(1)).unwrap();
    let pruned = job.gristmill(&["prune", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(pruned["blobs_removed"], 1, "{pruned}");
    assert!(files(&blobs).is_empty());
}

#[test]
fn a_backup_is_whole_and_becomes_a_data_folder() {
    let job = job(&[("large", large()), ("small", json!(1))]);
    job.run(&[]).expect(0);
    let ran = job.gristmill(&["backup", "copy"]).expect(0);
    assert!(ran.err.contains("gristmill restore copy --data FOLDER"), "{}", ran.err);
    job.gristmill(&["backup", "copy"]).expect_refusal(4, "copy is not empty", "nothing is ever written over");
    let restored = job.gristmill(&["restore", "copy", "--data", "other", "--json"]).expect(0).json();
    assert_eq!(restored, json!({ "from": "copy", "to": "other" }));
    let on = |command: &[&str]| job.gristmill(&[command, &["--data", "other"]].concat()).expect(0).json();
    assert_eq!(on(&["status", "job.yaml", "--json"]), job.status());
    assert_eq!(on(&["show", "job.yaml", "large", "--json"]), job.show("large"));
    job.gristmill(&["doctor", "--data", "other"]).expect(0);
    assert_eq!(job.run(&["--data", "other"]).expect(0).json()["executions"], 0);
    job.gristmill(&["restore", "copy", "--data", "other"]).expect_refusal(4, "other is not empty", "nothing is ever");
    let missing = job.gristmill(&["restore", "nowhere", "--data", "new"]);
    missing.expect_refusal(4, "there is no tracker at nowhere", "--data");
}

#[test]
fn a_damaged_backup_is_refused() {
    let job = job(&[("large", large())]);
    job.run(&[]).expect(0);
    job.gristmill(&["backup", "copy"]).expect(0);
    fs::write(&files(&job.path("copy/blobs"))[0], "x").unwrap();
    job.gristmill(&["restore", "copy", "--data", "other"]).expect_refusal(4, "is missing or damaged", "doctor");
    assert!(!job.path("other/tracker.db").exists());
}
