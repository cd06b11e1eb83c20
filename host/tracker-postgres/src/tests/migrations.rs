//! A schema that an older gristmill made.

use gristmill_test_postgres::Server;

use super::{open, options};
use gristmill_test_tracker::conformance::{block_on, older};
use gristmill_tracker::Error;

/// Trackers that their host left when it was killed, with items in every state, by the number of their schema.
const OLDER: [(i64, &str); 2] = [
    (1, include_str!("../../../../tests/fixtures/tracker-postgres-schema-1.sql")),
    (2, include_str!("../../../../tests/fixtures/tracker-postgres-schema-2.sql")),
];

#[test]
fn a_schema_with_items_in_every_state_is_migrated_with_its_contents_and_goes_on() {
    for (number, older) in OLDER {
        let database = Server::shared().database();
        database.execute(older);
        let operator = super::PostgresOptions { access: super::super::Access::Operator, ..options() };
        assert!(
            matches!(open(&database.url(), operator), Err(Error::Older { found, .. }) if found == number),
            "an operator migrates nothing"
        );
        let tracker = open(&database.url(), options()).expect("a migrated tracker");
        block_on(older::it_has_its_contents_and_goes_on(&tracker));
    }
}

#[test]
fn a_migrated_schema_is_that_of_a_new_database() {
    let columns = "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
            || coalesce(column_default, '') || is_identity
        FROM information_schema.columns WHERE table_schema = 'gristmill'
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'gristmill'
        UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'gristmill'::regnamespace
        UNION ALL SELECT relname || ' ' || relkind::text || ' ' || coalesce(reloptions::text, '') FROM pg_class
            WHERE relnamespace = 'gristmill'::regnamespace ORDER BY 1";
    let new = Server::shared().database();
    drop(open(&new.url(), options()).expect("a tracker"));
    for (_, older) in OLDER {
        let old = Server::shared().database();
        old.execute(older);
        drop(open(&old.url(), options()).expect("a migrated tracker"));
        assert_eq!(old.query(columns), new.query(columns));
    }
}
