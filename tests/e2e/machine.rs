//! What the machine refuses: open files, address space, large files.
//!
//! Owns the sentence for each limit of a process, and the proof that none is charged to a handler. Each limit is a real
//! one, set by a shell.

use crate::job::{Job, chain};
use crate::support::{GRISTMILL, Ran, components, program, start};

/// Runs the binary (`$0`) in a shell that has set limits before.
fn limited(job: &Job, script: &str) -> Ran {
    start(program("sh", job.folder()).args(["-euc", script, GRISTMILL])).finish()
}

fn small() -> Job {
    Job::new(&chain(&components().noop, 20))
}

#[test]
fn few_open_files_are_told_as_the_limit_they_are() {
    let job = small();
    let says = "this process may open 16 files, and gristmill needs 64";
    for command in ["run", "check", "status"] {
        let script = format!("ulimit -n 16; exec \"$0\" {command} job.yaml");
        limited(&job, &script).expect_refusal(5, says, "raise the limit of open files (`ulimit -n`)");
    }
    assert!(!job.path(".gristmill").exists());
    limited(&job, "ulimit -S -n 16; exec \"$0\" run job.yaml").expect(0);
}

#[test]
fn little_address_space_is_told_as_that_and_blames_no_component() {
    let job = small();
    let says = "this machine refuses what a sandbox takes: Cannot allocate memory";
    for command in ["run job.yaml", "check job.yaml", "inspect"] {
        let file = if command == "inspect" { components().noop.as_str() } else { "" };
        let ran = limited(&job, &format!("ulimit -v 2000000; exec \"$0\" {command} {file}"));
        let ran = ran.expect_refusal(5, says, "raise the limit of this process (`ulimit -v`)");
        assert!(!ran.err.contains("job.yaml: "), "{}", ran.err);
    }
    job.run(&[]).expect(0);
}

#[test]
fn a_file_beyond_the_limit_is_told_and_the_next_run_goes_on() {
    let job = small();
    let (says, hint) = ("a file would be larger than this process may write (ulimit -f)", "raise that limit");
    limited(&job, "ulimit -f 20; exec \"$0\" run job.yaml").expect_refusal(4, says, hint);
    job.run(&[]).expect(0);

    let items = 8000;
    let job = Job::new(&chain(&components().noop, items));
    // Blocks of 512 bytes or 1 KiB, as the shell likes: less than the database will have in either case.
    limited(&job, "ulimit -f 1500; exec \"$0\" run job.yaml").expect_refusal(4, says, hint);
    job.run(&[]).expect(0);
    assert_eq!(job.audit().get("done"), Some(&(items * 3)));
    let script = "ulimit -f 20; exec \"$0\" items job.yaml --json --limit 100000 >list";
    limited(&job, script).expect_refusal(4, says, hint);
}
