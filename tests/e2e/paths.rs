//! Paths as places: whatever their spelling, ending or encoding, and the standard input.
//!
//! Owns what follows from where a job file is. What is in the file is `mistakes`' and `config`'s.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::job::{Job, chain};
use crate::support::{GRISTMILL, Ran, components, gristmill, program, start};

/// A folder with two jobs, `a.yaml` and `jobs/b.yaml`.
fn two_jobs() -> Job {
    let job = Job::new(&chain(&components().noop, 5));
    let text = std::fs::read_to_string(job.path("job.yaml")).unwrap();
    std::fs::create_dir(job.path("jobs")).unwrap();
    std::fs::write(job.path("a.yaml"), text.replace("job: job", "job: a")).unwrap();
    std::fs::write(job.path("b.yaml"), text.replace("job: job", "job: b")).unwrap();
    std::fs::copy(job.path("b.yaml"), job.path("jobs/b.yaml")).unwrap();
    job
}

fn shell(job: &Job, script: &str) -> Ran {
    start(program("sh", job.folder()).args(["-euc", script, GRISTMILL])).finish()
}

#[test]
fn job_files_of_one_folder_are_that_however_they_are_spelled() {
    let job = two_jobs();
    let whole = job.path("b.yaml").display().to_string();
    std::os::unix::fs::symlink(".", job.path("link")).unwrap();
    for other in ["./b.yaml", &whole, "jobs/../b.yaml", "link/b.yaml"] {
        job.gristmill(&["run", "a.yaml", other]).expect(0);
    }
    assert!(!job.path("jobs/.gristmill").exists());
    let ran = job.gristmill(&["run", "a.yaml", "jobs/b.yaml"]);
    ran.expect_refusal(2, "these job files are in several folders", "--data");
}

#[test]
fn the_same_file_named_twice_is_told() {
    let job = two_jobs();
    for command in ["run", "check", "prune"] {
        let twice = |file: &str| job.gristmill(&[command, "a.yaml", "b.yaml", file]);
        let hint = "name each job file once";
        twice("jobs/../a.yaml").expect_refusal(2, "a.yaml and jobs/../a.yaml are the same file", hint);
        twice("a.yaml").expect_refusal(2, "a.yaml is named twice", hint);
    }
}

#[test]
fn endings_are_known_in_capitals_too() {
    let job = two_jobs();
    std::fs::rename(job.path("a.yaml"), job.path("A.YAML")).unwrap();
    std::fs::rename(job.path("b.yaml"), job.path("B.Yml")).unwrap();
    job.gristmill(&["run", "A.YAML", "B.Yml"]).expect(0);
    for file in ["A.YAML", "B.Yml"] {
        job.gristmill(&["status", file]).expect(0);
    }
    std::fs::copy(&components().noop, job.path("NOOP.WASM")).unwrap();
    job.gristmill(&["inspect", "NOOP.WASM"]).expect(0);
}

#[test]
fn a_job_file_may_come_by_the_standard_input_of_every_command() {
    let job = two_jobs();
    std::fs::copy(&components().noop, job.path("noop.wasm")).unwrap();
    let text = std::fs::read_to_string(job.path("a.yaml")).unwrap();
    std::fs::write(job.path("jobs/a.yaml"), text.replace(&components().noop, "noop.wasm")).unwrap();
    let piped = |command: &str| shell(&job, &format!("exec \"$0\" {command} <jobs/a.yaml"));
    let checked = piped("check -").expect(0).out;
    assert!(checked.starts_with("<stdin>: ok"), "{checked}");
    piped("run -").expect(0);
    assert!(job.database().exists() && !job.path("jobs/.gristmill").exists());
    for command in [
        "status -",
        "items -",
        "show - item-00000000",
        "attempts -",
        "dead -",
        "redrive - --limit 5",
        "operations -",
        "events -",
        "cancel - item-00000000 --why test",
        "prune - --dry-run",
    ] {
        let ran = piped(command);
        assert_eq!(ran.code, Some(0), "{command}\n{}\n{}", ran.out, ran.err);
    }
    shell(&job, "exec \"$0\" run - - <jobs/a.yaml").expect_refusal(2, "<stdin> is named twice", "once");
    let wrong = shell(&job, "echo 'job: [' | \"$0\" check -").expect(3);
    assert!(wrong.err.contains("<stdin>:1:"), "{}", wrong.err);
    let nothing = shell(&job, "exec \"$0\" status - </dev/null");
    nothing.expect_refusal(3, "<stdin> does not say which job it is", "gristmill check -");
}

#[test]
fn a_path_that_is_no_text_is_refused_by_every_command_alike() {
    let job = two_jobs();
    let wrong = OsStr::from_bytes(b"a\xff.yaml");
    std::fs::rename(job.path("a.yaml"), job.folder().join(wrong)).unwrap();
    for command in ["run", "check", "status", "prune", "inspect", "backup"] {
        let ran = start(program(GRISTMILL, job.folder()).arg(command).arg(wrong)).finish();
        ran.expect_refusal(2, "`a\u{fffd}.yaml` is not UTF-8 text", "rename the file or folder");
    }
    for variable in ["GRISTMILL_DATA", "GRISTMILL_TRACKER"] {
        let ran = start(program(GRISTMILL, job.folder()).args(["run", "b.yaml"]).env(variable, wrong)).finish();
        ran.expect_refusal(2, "is not UTF-8 text", "rename");
    }
    assert!(!job.path(".gristmill").exists());
}

#[test]
fn a_job_that_does_not_fit_leaves_no_folder_behind() {
    let job = Job::new(&format!("stages:\n  - {{ name: d, handler: {:?} }}", components().noop));
    for data in [".gristmill", "deep/er"] {
        job.gristmill(&["run", "job.yaml", "--data", data]).expect(3);
    }
    let left: Vec<_> = std::fs::read_dir(job.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["job.yaml"]);
}

#[test]
fn a_path_that_is_too_long_for_sqlite_is_told_as_that() {
    let job = two_jobs();
    let long = vec!["d".repeat(100); 5].join("/");
    for args in [["run", "a.yaml"], ["backup", &long]] {
        let data = if args[0] == "run" { long.as_str() } else { ".gristmill" };
        let ran = job.gristmill(&[&args[..], &["--data", data]].concat());
        ran.expect_refusal(4, "the path of the tracker has ", "a shorter path");
    }
    assert!(!job.path(&"d".repeat(100)).exists());
    let name = "n".repeat(300);
    job.gristmill(&["run", "a.yaml", "--data", &name]).expect_refusal(4, "File name too long", "a shorter path");
    let folder = job.path("b.yaml").display().to_string();
    gristmill(job.folder(), &["run", &folder]).expect(0);
}
