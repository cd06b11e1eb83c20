//! The Postgres backend: the conformance suite, and what only Postgres has.

use std::time::Duration;

use gristmill_test_postgres::{Database, Server};

use crate::{PostgresOptions, PostgresTracker, Time};
use gristmill_test_tracker::conformance::NOW;
use gristmill_test_tracker::{Location, conformance};
use gristmill_tracker::Tracker;

/// A database that is gone with the test.
struct Fresh(Database<'static>);

impl Fresh {
    fn new() -> Self {
        Self(Server::shared().database())
    }
}

impl Location for Fresh {
    fn open(&self) -> Box<dyn Tracker> {
        let options = PostgresOptions { time: Time::Caller, ..PostgresOptions::default() };
        Box::new(PostgresTracker::connect(&self.0.url(), options, NOW).expect("a tracker"))
    }
}

conformance!(Fresh::new());

mod components;
mod errors;
mod faults;
mod hosts;
mod migrations;
mod plans;
mod proxy;
mod sequences;

fn open(url: &str, options: PostgresOptions) -> Result<PostgresTracker, gristmill_tracker::Error> {
    PostgresTracker::connect(url, options, NOW)
}

/// By the caller's clock, and without much patience.
fn options() -> PostgresOptions {
    PostgresOptions {
        time: Time::Caller,
        patience: Duration::from_secs(30),
        answer_within: Duration::from_secs(20),
        ..PostgresOptions::default()
    }
}
