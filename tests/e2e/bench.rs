//! The bench does all the work that it measures, and leaves nothing behind.
//!
//! Never asserts a speed.

use gristmill_test_postgres::Server;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ran, components, gristmill};

fn bench(args: &[&str]) -> (Ran, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let fixed = ["bench", "--items", "200", "--runs", "2", "--handler", &components().noop, "--folder", place];
    (gristmill(folder.path(), &[&fixed[..], args].concat()), folder)
}

/// Fails unless each record has these figures, and each is a positive number.
fn measured(ran: &Ran, figures: &[&str]) {
    let positive = |record: &Value, figure: &&str| record[*figure].as_f64().is_some_and(|value| value > 0.0);
    for record in ran.records() {
        let missing: Vec<_> = figures.iter().filter(|figure| !positive(&record, figure)).collect();
        assert!(missing.is_empty(), "{missing:?} in {record}");
    }
}

fn is_empty(folder: &TempDir) -> bool {
    folder.path().read_dir().unwrap().next().is_none()
}

#[test]
fn a_bench_runs_everything_and_leaves_nothing() {
    let (ran, folder) = bench(&["--json"]);
    let ran = ran.expect(0);
    measured(&ran, &["executions_per_second", "ratio_to_writes", "ratio_to_sandbox", "discovered_per_second"]);
    let executions: Vec<_> = ran.records().iter().map(|record| record["executions"].clone()).collect();
    assert_eq!((executions, is_empty(&folder)), (vec![Value::from(600), Value::from(600)], true));
}

#[test]
fn a_history_is_compared_with_none() {
    let (ran, folder) = bench(&["--history", "1000", "--json"]);
    let ran = ran.expect(0);
    measured(&ran, &["executions_per_second", "claim_micros", "rediscovered_per_second"]);
    let histories: Vec<_> = ran.records().iter().map(|record| record["history"].clone()).collect();
    assert_eq!((histories, is_empty(&folder)), ([0, 1000, 0, 1000].map(Value::from).to_vec(), true));
    let (table, _folder) = bench(&["--history", "1000"]);
    assert!(table.expect(0).out.contains("ratio 2"), "for people: the ratio of each run");
}

#[test]
fn hosts_on_one_database_share_the_work_and_the_database_is_empty_afterwards() {
    let database = Server::shared().database();
    let url = database.url();
    let (ran, _folder) = bench(&["--tracker", &url, "--hosts", "3", "--json"]);
    let ran = ran.expect(0);
    measured(&ran, &["executions_per_second", "ratio_to_writes", "rediscovered_per_second", "mean_batch"]);
    let done: Vec<_> = ran.records().iter().map(|one| (one["executions"].clone(), one["hosts"].clone())).collect();
    assert_eq!(done, vec![(Value::from(600), Value::from(3)); 2]);
    assert_eq!(database.query("SELECT nspname FROM pg_namespace WHERE nspname = 'gristmill'"), [""; 0]);
}

#[test]
fn nothing_is_measured_where_somebody_works() {
    let database = Server::shared().database();
    let url = database.url();
    database.execute("CREATE SCHEMA gristmill");
    let (ran, _folder) = bench(&["--tracker", &url]);
    ran.expect_refusal(4, "is not empty", "a database without a tracker");
    let (ran, _folder) = bench(&["--tracker", "sqlite:here"]);
    ran.expect_refusal(2, "a data folder cannot be measured", "--folder");
    let (ran, _folder) = bench(&["--tracker", &url, "--history", "9"]);
    ran.expect_refusal(2, "a history is made on SQLite alone", "leave `--history`");
}
