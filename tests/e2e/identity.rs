//! A component's identity depends on the meaning of its source, not on its form or its folder.
//!
//! Owns copies of the handlers' workspace, and what is edited in them. Never edits the repository.

use std::fs;
use std::path::{Path, PathBuf};

use crate::job::Job;
use crate::support::{GRISTMILL, components, gristmill, program, repository, start};

const SOURCE: &str = "handlers/noop/src/lib.rs";

/// A copy of what it takes to build the handler `noop`.
fn copy(to: &Path) {
    let from = repository();
    for folder in ["wit", "guest-sdk", "handlers/noop", "handlers/.cargo"] {
        copy_folder(&from.join(folder), &to.join(folder));
    }
    fs::copy(from.join("handlers/Cargo.lock"), to.join("handlers/Cargo.lock")).unwrap();
    // Each workspace with the one member that is here.
    for (manifest, member) in [("Cargo.toml", "guest-sdk"), ("handlers/Cargo.toml", "noop")] {
        let text = fs::read_to_string(from.join(manifest)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("exclude"));
        let lines = lines.map(|line| match line.split_once(" = ") {
            Some(("members", _)) => format!("members = [\"{member}\"]\n"),
            _ => format!("{line}\n"),
        });
        fs::write(to.join(manifest), lines.collect::<String>()).unwrap();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Builds the copy, and tells the component's hash. The crates it depends on are built once, and kept from test to test.
fn build(copy: &Path) -> String {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("identity");
    let mut command = program(GRISTMILL, copy);
    let ran = start(command.args(["build", "handlers/noop", "--json"]).env("CARGO_TARGET_DIR", target)).finish();
    hash(&ran.expect(0).json())
}

fn hash(record: &serde_json::Value) -> String {
    let hash = record["component"].as_str().unwrap().to_owned();
    assert_eq!(hash.len(), 64);
    hash
}

/// Replaces a piece of the source, which has to be there.
fn edit(copy: &Path, old: &str, new: &str) {
    let file = copy.join(SOURCE);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(old), "{old:?} is not in {SOURCE}");
    fs::write(file, text.replace(old, new)).unwrap();
}

#[test]
fn a_component_is_what_its_source_means() {
    let repository = repository();
    let here = hash(&gristmill(&repository, &["inspect", &components().noop, "--json"]).expect(0).json());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = folders[0].path();
    copy(first);
    assert_eq!(build(first), here, "another folder");

    let source = fs::read_to_string(first.join(SOURCE)).unwrap();
    edit(
        first,
        "use std::fmt::Write;\n",
        "\n\n// A comment, and lines that move everything below.\n\nuse std::fmt::Write;\n",
    );
    edit(first, "let end = ", "let /* here too */ end = ");
    edit(first, "let start: u32", "let      start:u32");
    assert_eq!(build(first), here, "comments and formatting");
    edit(first, "json", "renamed");
    assert_eq!(build(first), here, "a variable's name");
    let sdk = first.join("guest-sdk/src/lib.rs");
    let text = fs::read_to_string(&sdk).unwrap();
    fs::write(&sdk, format!("// A comment.\n\n{text}")).unwrap();
    assert_eq!(build(first), here, "a comment in the SDK");

    fs::write(first.join(SOURCE), &source).unwrap();
    edit(first, "OUTPUT_BYTES: usize = 100", "OUTPUT_BYTES: usize = 101");
    assert_ne!(build(first), here, "a constant");
    fs::write(first.join(SOURCE), &source).unwrap();
    assert_eq!(build(first), here, "the constant as it was");

    let deeper = folders[1].path().join("a/folder/far/away");
    copy(&deeper);
    assert_eq!(build(&deeper), here, "a folder far away");
}

#[test]
fn a_component_and_a_version_have_one_name_everywhere() {
    let (repository, noop) = (repository(), &components().noop);
    let component = hash(&gristmill(&repository, &["build", "handlers/noop", "--json"]).expect(0).json());
    assert_eq!(hash(&gristmill(&repository, &["inspect", noop, "--json"]).expect(0).json()), component);
    let job = Job::new(&format!("params: {{ items: 1 }}\ndiscover: {{ handler: {noop:?} }}\nstages: [a]"));
    let checked = job.gristmill(&["check", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(checked["stages"][0]["component"], *component);
    let version = checked["stages"][0]["version"].as_str().unwrap();
    assert_ne!(version, component, "a version is of a component and a stage");
    job.run(&[]).expect(0);
    let status = job.gristmill(&["status", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(status["stages"][0]["version"], version);
    // What people read names both, in the same words.
    let lines = |args: &[&str]| job.gristmill(args).expect(0).out;
    assert!(lines(&["inspect", noop]).contains(&format!("component {component}")));
    let table = lines(&["check", "job.yaml"]);
    assert!(table.contains("version") && table.contains("component"), "{table}");
    assert!(table.contains(&version[..12]) && table.contains(&component[..12]), "{table}");
    assert!(lines(&["status", "job.yaml"]).contains(&version[..12]));
}
