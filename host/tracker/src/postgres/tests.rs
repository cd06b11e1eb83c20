//! The Postgres backend: the conformance suite, and what only Postgres has.

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
