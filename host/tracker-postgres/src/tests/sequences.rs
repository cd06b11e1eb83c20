//! Random operations, on Postgres and on the model.

use std::sync::Mutex;

use gristmill_test_postgres::{Database, Server};
use gristmill_test_tracker::{Location, conformance::NOW, sequences::compare_with_model};
use gristmill_tracker::{Tracker, tables::TABLES};

use crate::{PostgresOptions, PostgresTracker, Time};

/// Postgres, in databases that are emptied and used again: to make one takes longer than a sequence.
struct Emptied(Option<Database<'static>>);

static EMPTY: Mutex<Vec<Database<'static>>> = Mutex::new(Vec::new());

impl Emptied {
    fn new() -> Self {
        let used = EMPTY.lock().expect("databases").pop();
        let database = used.unwrap_or_else(|| Server::shared().database());
        let place = Self(Some(database));
        let tables: Vec<&str> =
            TABLES.iter().map(|table| table.name).chain(["leases", "commits", "component_parts"]).collect();
        drop(place.open());
        let database = place.0.as_ref().expect("a database");
        let tables = tables.iter().map(|table| format!("gristmill.{table}")).collect::<Vec<_>>().join(", ");
        database.execute(&format!("TRUNCATE {tables} RESTART IDENTITY CASCADE"));
        place
    }
}

impl Drop for Emptied {
    fn drop(&mut self) {
        EMPTY.lock().expect("databases").extend(self.0.take());
    }
}

impl Location for Emptied {
    fn open(&self) -> Box<dyn Tracker> {
        let options = PostgresOptions { time: Time::Caller, ..PostgresOptions::default() };
        let url = self.0.as_ref().expect("a database").url();
        Box::new(PostgresTracker::connect(&url, options, NOW).expect("a tracker"))
    }
}

#[test]
fn postgres_does_what_the_model_does() {
    compare_with_model("postgres", &|| Box::new(Emptied::new()));
}
