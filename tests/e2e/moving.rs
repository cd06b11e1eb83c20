//! A tracker that moves: from a data folder to Postgres, and back.
//!
//! Owns the proof that a job goes on where it was, on either side, and that nothing is ever copied over what is there.
//! Never compares rows itself: the copy does, and the accounts of the job have to balance.

use gristmill_test_postgres::Server;
use rustix::process::Signal;

use crate::job::{Job, chain};
use crate::support::components;

const ITEMS: u64 = 3000;

fn copy(job: &Job, from: &str, to: &str) -> crate::support::Ran {
    job.gristmill(&["tracker", "copy", "--from", from, "--to", to, "--json"])
}

#[test]
fn a_job_moves_to_postgres_and_back_and_goes_on_where_it_was() {
    let database = Server::shared().database();
    let url = database.url();
    let job = Job::new(&chain(&components().noop, ITEMS));
    let host = job.start(&[]);
    job.wait_for(1);
    host.signal(Signal::INT);
    host.finish().expect(0);
    let before = job.status();
    let copied = copy(&job, "sqlite:.gristmill", &url).expect(0);
    assert!(!copied.out.contains(":gristmill@") && !copied.err.contains('@'), "{}{}", copied.out, copied.err);
    assert!(copied.json()["tables"]["items"].as_u64() > Some(0), "{}", copied.out);
    let there = job.gristmill(&["status", "job.yaml", "--tracker", &url, "--json"]).expect(0).json();
    assert_eq!(there, before);
    job.gristmill(&["doctor", "--tracker", &url]).expect(0);
    copy(&job, "sqlite:.gristmill", &url).expect_refusal(4, "is not empty", "name a new one");
    job.run(&["--tracker", &url]).expect(0);
    copy(&job, &url, "sqlite:back").expect(0);
    let back = job.gristmill(&["status", "job.yaml", "--data", "back", "--json"]).expect(0).json();
    assert_eq!(back["items"]["done"], ITEMS);
    job.gristmill(&["doctor", "--data", "back"]).expect(0);
    assert_eq!(job.run(&["--data", "back"]).expect(0).json()["executions"], 0);
    copy(&job, &url, "sqlite:.gristmill").expect_refusal(4, "is not empty", "name a new one");
    // The old one is as it was, and so is what is left to do there.
    assert_eq!(job.status(), before);
}

#[test]
fn nothing_moves_while_somebody_is_at_work() {
    let database = Server::shared().database();
    let url = database.url();
    let job = Job::new(&chain(&components().noop, 50));
    let host = job.start(&["--watch"]);
    job.wait_for(150);
    copy(&job, "sqlite:.gristmill", &url).expect_refusal(4, "another host runs", "stop it first");
    host.signal(Signal::TERM);
    host.finish().expect(0);
    copy(&job, "sqlite:nowhere", &url).expect_refusal(4, "there is no tracker at nowhere", "--data");
    copy(&job, "mysql:x", &url).expect_refusal(2, "not where a tracker can be", "sqlite:FOLDER");
    copy(&job, &url, &url).expect_refusal(2, "the same place", "two trackers");
    let shared = Job::on(url.clone(), &chain(&components().noop, 50));
    let host = shared.start(&["--watch"]);
    shared.wait_for(150);
    copy(&job, &url, "sqlite:new").expect_refusal(4, "a host is at work", "stop every host first");
    host.signal(Signal::TERM);
    host.finish().expect(0);
    copy(&job, &url, "sqlite:new").expect(0);
}

#[test]
fn a_backup_of_postgres_is_not_ours_to_make() {
    let job = Job::on("postgres://nobody:secret@127.0.0.1:1/none".to_owned(), &chain(&components().noop, 1));
    let refused = job.gristmill(&["backup", "copy"]).expect_refusal(2, "pg_dump", "pg_dump");
    assert!(!refused.err.contains("secret"), "{}", refused.err);
    let unreachable = job.gristmill(&["status"]).expect(4);
    assert!(!unreachable.err.contains("secret"), "{}", unreachable.err);
}
