//! What a person is told when a database cannot be used: one clear error each, and never the password.

use std::time::Duration;

use gristmill_model::{ItemStatus, Masks};
use gristmill_test_postgres::Server;

use super::super::reader::status_case;
use super::super::{Access, PostgresOptions};
use super::{open, options};
use gristmill_tracker::Error;

const PASSWORD: &str = "between-us";

/// The error of an attempt to open, whose text names no password.
fn refused(url: &str, options: PostgresOptions) -> Error {
    let error = open(url, options).err().expect("a refusal");
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains(PASSWORD) && !text.contains("secret"), "{text}");
    }
    error
}

#[test]
fn a_url_that_is_none_is_refused_without_being_quoted() {
    for url in [
        "",
        "/tmp/tracker.db",
        "mysql://a:secret@b/c",
        "postgres://a:secret@b:port/c",
        "postgres://a:secret@b/c?ssl=secret",
    ] {
        assert!(matches!(refused(url, options()), Error::BadUrl), "{url}");
    }
}

#[test]
fn what_is_wrong_with_a_server_is_said() {
    let server = Server::shared();
    let database = server.database();
    let wrong = database.url().replace(PASSWORD, "secret");
    assert!(matches!(refused(&wrong, options()), Error::Login(_)));
    assert!(matches!(refused(&server.url("no_such_database"), options()), Error::NoDatabase(_)));
    let nobody = format!("postgres://gristmill:{PASSWORD}@127.0.0.1:1/x?sslmode=disable");
    match refused(&nobody, options()) {
        Error::Unreachable { place, why } => {
            assert_eq!(place, "postgres://gristmill@127.0.0.1:1/x");
            assert!(why.contains("refused"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_without_tls_is_refused_where_tls_is_required() {
    let url = Server::shared().database().url();
    for mode in ["require", "verify-full"] {
        let url = url.replace("sslmode=disable", &format!("sslmode={mode}"));
        assert!(matches!(refused(&url, options()), Error::Tls { .. }), "{mode}");
    }
    let database = Server::shared().database();
    open(&database.url().replace("sslmode=disable", "sslmode=prefer"), options()).expect("prefer is content without");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let url = format!("postgres://gristmill:{PASSWORD}@{address}/x?sslmode=disable");
    let options = PostgresOptions { answer_within: Duration::from_millis(200), ..options() };
    assert!(matches!(refused(&url, options), Error::Unreachable { .. }));
}

#[test]
fn a_replica_and_a_user_without_rights_are_refused() {
    let database = Server::shared().database();
    drop(open(&database.url(), options()).expect("a tracker"));
    let role = format!("reader_{}", database.name());
    database.execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; GRANT USAGE ON SCHEMA gristmill TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA gristmill TO {role}"
    ));
    let url = database.url().replace("gristmill:", &format!("{role}:"));
    assert!(matches!(refused(&url, options()), Error::Denied(_)));
    open(&url, PostgresOptions { access: Access::Operator, ..options() }).expect("it may read");
    let stranger = format!("stranger_{}", database.name());
    database.execute(&format!("CREATE ROLE {stranger} LOGIN PASSWORD '{PASSWORD}'"));
    let url = database.url().replace("gristmill:", &format!("{stranger}:"));
    assert!(matches!(refused(&url, options()), Error::Denied(_)));
    database.execute(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name()));
    assert!(matches!(refused(&database.url(), options()), Error::ReadOnlyDatabase(_)));
}

#[test]
fn a_newer_an_older_a_foreign_and_a_missing_schema_are_told_apart() {
    let operator = PostgresOptions { access: Access::Operator, ..options() };
    let database = Server::shared().database();
    assert!(matches!(refused(&database.url(), operator), Error::Missing(_)));
    database.execute("CREATE SCHEMA gristmill");
    drop(open(&database.url(), options()).expect("an empty schema is as good as none"));
    drop(open(&database.url(), operator).expect("an operator"));
    database.execute("INSERT INTO gristmill.migrations VALUES (99, 'later', '9', 1)");
    assert!(matches!(refused(&database.url(), options()), Error::Newer { found: 99, .. }));
    database.execute("DELETE FROM gristmill.migrations");
    assert!(matches!(refused(&database.url(), operator), Error::Older { found: 0, .. }));
    let database = Server::shared().database();
    database.execute("CREATE SCHEMA gristmill; CREATE TABLE gristmill.flour (x INT)");
    assert!(matches!(refused(&database.url(), options()), Error::Foreign(_)));
    assert!(matches!(refused(&database.url(), operator), Error::Foreign(_)));
}

#[test]
fn the_status_is_the_same_in_rust_and_in_sql() {
    let database = Server::shared().database();
    let case = status_case().replace("$2::bigint", "mask::bigint");
    let sql = format!(
        "SELECT {case} FROM (
            SELECT (n & 3)::bigint AS done, (n >> 2 & 3)::bigint AS skipped, (n >> 4 & 3)::bigint AS dead,
                (n >> 6 & 3)::bigint AS live, (n >> 8 & 3)::bigint AS stale,
                CASE WHEN n >> 10 = 1 THEN 1 END AS cancelled_at, mask, n
            FROM generate_series(0, 2047) AS n, generate_series(1, 3) AS mask
         ) AS items ORDER BY n, mask"
    );
    let mut codes = database.query(&sql).into_iter();
    let mut seen = std::collections::HashSet::new();
    for packed in 0..1u64 << 11 {
        let field = |place: u32| packed >> (2 * place) & 3;
        let masks = Masks { done: field(0), skipped: field(1), dead: field(2), live: field(3), stale: field(4) };
        for all in 1..4u64 {
            let status = ItemStatus::of(masks, all, packed >> 10 == 1);
            assert_eq!(codes.next(), Some(status.code().to_string()), "{masks:?} of {all}");
            seen.insert(status);
        }
    }
    assert_eq!((seen.len(), codes.next()), (ItemStatus::ALL.len(), None), "every status was seen");
}
