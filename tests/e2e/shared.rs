//! Hosts that share a Postgres.
//!
//! Owns what can happen to one of them, or to the database, while the others go on: a sleep that is longer than the
//! others wait, a server that goes away and comes back. Never mocks the server.

use gristmill_test_postgres::{Server, Setup};
use rustix::process::Signal;

use crate::job::{Job, chain, compare_with_trace};
use crate::support::components;

const ITEMS: u64 = 12_000;
const HOST: [&str; 6] = ["--takeover-after", "1s", "--workers", "1", "--trace-file", "trace.jsonl"];

#[test]
fn a_host_that_sleeps_too_long_loses_its_work_to_another_and_cannot_settle_it_any_more() {
    let database = Server::shared().database();
    let job = Job::on(database.url(), &chain(&components().noop, ITEMS));
    let sleeper = job.start(&HOST);
    job.wait_for(500);
    sleeper.signal(Signal::STOP);
    let other = job.run(&HOST).expect(0).json();
    assert!(other["lost"].as_u64() > Some(0), "nothing was taken over: {other}");
    assert_eq!(job.status()["items"]["done"], ITEMS);
    sleeper.signal(Signal::CONT);
    let ran = sleeper.finish().expect(0);
    assert!(ran.json()["late"].as_u64() > Some(0), "the sleeper settled what it had lost: {}", ran.out);
    assert!(ran.err.contains("another host had given this one up"), "{}", ran.err);
    let outcomes = job.audit();
    assert_eq!(outcomes.get("done"), Some(&(ITEMS * 3)), "{outcomes:?}");
    job.gristmill(&["doctor"]).expect(0);
}

#[test]
fn a_server_that_stops_and_starts_again_costs_nothing() {
    // A server that may lose what it said was committed would be another test.
    let mut server = Server::start_with(Setup { synchronous_commit: true });
    let job = Job::on(server.url("postgres"), &chain(&components().noop, ITEMS));
    let host = job.start(&["--trace-file", "trace.jsonl"]);
    job.wait_for(500);
    server.stop();
    server.start_again();
    let account = host.finish().expect(0).json();
    assert_eq!(account["late"], 0, "{account}");
    let outcomes = job.audit();
    assert_eq!(outcomes.get("done"), Some(&(ITEMS * 3)), "{outcomes:?}");
    compare_with_trace(&job, "trace.jsonl");
}
