//! A system clock that jumps while a job runs.
//!
//! Owns the real binary under a library that changes what the system says of the time: the wall clock jumps, the steady
//! one does not. Never waits for real hours.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::job::{Job, chain};
use crate::support::{GRISTMILL, components, program, start};

const ITEMS: u64 = 20_000;

/// Of the package `faketime`.
fn library() -> PathBuf {
    let places =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    let library =
        places.iter().map(|place| Path::new(place).join("faketime/libfaketimeMT.so.1")).find(|it| it.exists());
    library.expect("this test needs the package `faketime`")
}

#[test]
fn a_clock_that_jumps_an_hour_each_way_costs_nothing() {
    let job = Job::new(&chain(&components().noop, ITEMS));
    let offset = job.path("offset");
    let set = |by: &str| {
        // In one step, since it is read all the time.
        fs::write(job.path("next"), by).unwrap();
        fs::rename(job.path("next"), &offset).unwrap();
    };
    set("+0");
    let mut command = program(GRISTMILL, job.folder());
    command.args(["run", "job.yaml", "--json", "--takeover-after", "1s"]).env("LD_PRELOAD", library());
    command
        .env("FAKETIME_TIMESTAMP_FILE", &offset)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut host = start(&mut command);
    for (by, says) in [("+1h", "jumped ahead by"), ("-1h", "jumped back by"), ("+0", "jumped ahead by")] {
        job.wait_for(job.done() + 500);
        set(by);
        host.says(says);
    }
    let account = host.finish().expect(0).json();
    assert_eq!((&account["late"], &account["lost"]), (&0.into(), &0.into()), "{account}");
    let outcomes = job.audit();
    assert!(outcomes.keys().eq(["done"]), "something was charged for it: {outcomes:?}");
    assert_eq!(outcomes["done"], ITEMS * 3);
}

#[test]
fn what_a_host_held_whose_clock_was_ahead_is_taken_over_at_once() {
    let job = Job::new(&chain(&components().noop, ITEMS));
    let mut command = program(GRISTMILL, job.folder());
    command.args(["run", "job.yaml", "--json"]).env("LD_PRELOAD", library());
    command.env("FAKETIME", "+1d").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let host = start(&mut command);
    job.wait_for(500);
    host.signal(Signal::KILL);
    assert_eq!(host.finish().code, None);
    job.run(&[]).expect(0);
    assert_eq!(job.audit()["done"], ITEMS * 3);
}
