//! Checks that a database's schema is ours.
//!
//! Owns the comparison with what the migrations make. A database may come with a backup or a checkout: a trigger in it
//! could change rows unnoticed, and a view or another table could replace ours. Never repairs a schema.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use gristmill_model::Timestamp;
use rusqlite::Connection;

use super::open::{MIGRATIONS, migrate};
use crate::fail::Fail;
use gristmill_tracker::Error;

/// Tables that SQLite's `ANALYZE` adds: statistics, which at most change the choice of an index.
const FIGURES: [&str; 2] = ["sqlite_stat1", "sqlite_stat4"];

/// The SQL text of each entry, by kind and name, with single blanks.
type Schema = BTreeMap<(String, String), String>;

/// Refuses a schema that the first `number` migrations do not make.
pub(super) fn expect_ours(connection: &Connection, number: i64) -> Result<(), Fail> {
    static EXPECTED: [OnceLock<Schema>; MIGRATIONS.len() + 1] = [const { OnceLock::new() }; MIGRATIONS.len() + 1];
    let number = usize::try_from(number).map_err(|_| Error::Schema(format!("its number is {number}")))?;
    let expected = if let Some(expected) = EXPECTED[number].get() {
        expected
    } else {
        let made = make(number)?;
        EXPECTED[number].get_or_init(|| made)
    };
    let found = read(connection)?;
    let named = |(kind, name): &(String, String)| format!("{kind} `{name}`");
    if let Some(foreign) = found.keys().find(|entry| !expected.contains_key(entry)) {
        return Err(Error::Schema(format!("{} is not its own", named(foreign))).into());
    }
    match expected.iter().find(|(entry, sql)| found.get(*entry) != Some(sql)) {
        Some((changed, _)) => Err(Error::Schema(format!("{} is missing or another one", named(changed))).into()),
        None => Ok(()),
    }
}

fn make(number: usize) -> Result<Schema, Fail> {
    let mut connection = Connection::open_in_memory()?;
    migrate(&mut connection, &MIGRATIONS[..number], Timestamp(0))?;
    read(&connection)
}

fn read(connection: &Connection) -> Result<Schema, Fail> {
    let mut statement = connection.prepare("SELECT type, name, coalesce(sql, '') FROM sqlite_schema")?;
    let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get::<_, String>(2)?)))?;
    let mut schema = Schema::new();
    for row in rows {
        let (entry, sql): ((String, String), String) = row?;
        if entry.0 != "table" || !FIGURES.contains(&entry.1.as_str()) {
            schema.insert(entry, sql.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    Ok(schema)
}
