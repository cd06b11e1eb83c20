//! Database servers that cannot be used as they are: read-only, full, in another encoding, silent.
//!
//! Owns the sentence and the hint of each. Uses a real server, set up by `ALTER`, and a socket where none answers.

use std::net::TcpListener;

use gristmill_test_postgres::{Database, Server};
use rustix::process::Signal;

use crate::job::{Job, chain};
use crate::support::components;

const PASSWORD: &str = "between-us";

fn job(url: String) -> Job {
    Job::on(url, &chain(&components().noop, 20))
}

fn set(database: &Database<'_>, setting: &str) {
    database.execute(&format!("ALTER DATABASE {} SET {setting}", database.name()));
}

#[test]
fn a_database_that_may_only_be_read_is_told_as_that() {
    let database = Server::shared().database();
    let job = job(database.url());
    job.run(&[]).expect(0);
    set(&database, "default_transaction_read_only = on");
    let (says, hint) = ("the database cannot be written", "default_transaction_read_only = off");
    job.run(&[]).expect_refusal(4, says, hint);
    job.gristmill(&["cancel", "job.yaml", "item-00000000", "--why", "test"]).expect_refusal(4, says, hint);
    job.gristmill(&["status", "job.yaml"]).expect(0);
}

#[test]
fn a_statement_timeout_of_the_database_ends_no_statement_of_ours() {
    let database = Server::shared().database();
    set(&database, "statement_timeout = '5ms'");
    let job = job(database.url());
    job.run(&[]).expect(0);
    assert_eq!(job.audit()["done"], 60);
}

#[test]
fn a_server_that_takes_no_more_connections_is_told_as_that() {
    let database = Server::shared().database();
    let role = format!("crowd_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0"));
    let job = job(database.url().replacen("gristmill:", &format!("{role}:"), 1));
    for command in ["run", "status"] {
        let ran = job.gristmill(&[command, "job.yaml"]);
        ran.expect_refusal(4, "takes no more connections: too many connections for role", "max_connections");
    }
    // With few, a host waits for its turn.
    let name = database.name();
    database.execute(&format!("ALTER ROLE {role} CONNECTION LIMIT 3; GRANT CREATE ON DATABASE {name} TO {role}"));
    job.run(&[]).expect(0);
    assert_eq!(job.audit()["done"], 60);
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_database_of_another_encoding_is_refused_before_the_first_text() {
    let server = Server::shared().database();
    let latin = format!("{}_latin1", server.name());
    server.execute(&format!("CREATE DATABASE {latin} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"));
    let job = job(server.url().replace(server.name(), &latin));
    job.run(&[]).expect_refusal(4, "is encoded in LATIN1, and gristmill needs UTF8", "createdb --encoding=UTF8");
    server.execute(&format!("DROP DATABASE {latin}"));
}

#[test]
fn a_server_that_says_nothing_is_waited_for_aloud() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let job = job(format!("postgres://somebody:{PASSWORD}@{address}/x?sslmode=disable"));
    let mut host = job.start(&[]);
    host.says(&format!("postgres://somebody@{address}/x does not answer: waiting for it, 28 s more at most"));
    host.signal(Signal::INT);
    let ran = host.finish().expect(130);
    assert!(ran.err.contains("stopped before anything was run"), "{}", ran.err);
    assert!(!ran.err.contains(PASSWORD), "{}", ran.err);
}
