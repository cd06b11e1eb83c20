//! The Postgres backend: the conformance suite, and what only Postgres has.

use std::time::Duration;

use gristmill_test_postgres::{Database, Server};

use super::{PostgresOptions, PostgresTracker, Time};
use crate::Tracker;
use crate::conformance::{NOW, conformance};

mod postgres {
    use super::{Database, NOW, PostgresOptions, PostgresTracker, Server, Time, Tracker};

    pub(super) struct Place(Database<'static>);

    impl Place {
        pub(super) fn new() -> Self {
            Self(Server::shared().database())
        }

        pub(super) fn open(&self) -> Box<dyn Tracker> {
            let options = PostgresOptions { time: Time::Caller, ..PostgresOptions::default() };
            Box::new(PostgresTracker::connect(&self.0.url(), options, NOW).expect("a tracker"))
        }
    }
}

conformance!(postgres);

mod errors;
mod faults;
mod hosts;
mod migrations;
mod plans;
mod proxy;

fn open(url: &str, options: PostgresOptions) -> Result<PostgresTracker, crate::Error> {
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
