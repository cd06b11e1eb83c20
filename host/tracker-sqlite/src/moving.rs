//! Reads and writes whole tables, to move a tracker to another backend.
//!
//! Owns reading and writing rows as they are, with large outputs in full. Never interprets a row.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use gristmill_model::Digest;

use super::blobs::Blobs;
use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::records::Output;
use gristmill_tracker::tables::{Cell, Row, Sequences, Table};

/// A cell as SQLite takes it.
struct Bound<'a>(&'a Cell);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Cell::Null => ValueRef::Null,
            Cell::Int(number) => ValueRef::Integer(*number),
            Cell::Real(number) => ValueRef::Real(*number),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn cell(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Integer(number) => Cell::Int(number),
        Value::Real(number) => Cell::Real(number),
        Value::Text(text) => Cell::Text(text),
        Value::Blob(bytes) => Cell::Bytes(bytes),
    }
}

fn names(table: &Table, count: usize) -> String {
    table.columns[..count].iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn parameters(count: usize) -> String {
    (1..=count).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ")
}

/// The columns of a table's outputs: their hash and their text.
fn output_columns(table: &Table) -> Option<(usize, usize)> {
    let place = |wanted| table.columns.iter().position(|(name, _)| *name == wanted);
    Some((place("output_hash")?, place("output")?))
}

pub(super) fn export(
    connection: &Connection,
    blobs: &Blobs,
    table: &Table,
    after: Option<&Row>,
    limit: u32,
) -> Result<Vec<Row>, Fail> {
    let (columns, key) = (names(table, table.columns.len()), names(table, table.key));
    let after = after.map_or(&[][..], |row| &row[..table.key]);
    // A counter of zero is the same as none.
    let counted = if table.name.ends_with("_counts") { "n <> 0" } else { "true" };
    let behind = match after.len() {
        0 => "true".to_owned(),
        count => format!("({key}) > ({})", parameters(count)),
    };
    let sql = format!("SELECT {columns} FROM {} WHERE {counted} AND {behind} ORDER BY {key} LIMIT {limit}", table.name);
    let mut rows: Vec<Row> = connection
        .prepare_cached(&sql)?
        .query_map(params_from_iter(after.iter().map(Bound)), |row| {
            (0..table.columns.len()).map(|place| row.get::<_, Value>(place).map(cell)).collect()
        })?
        .collect::<Result<_, _>>()?;
    if let Some((hash, output)) = output_columns(table) {
        for row in &mut rows {
            if let (Cell::Bytes(bytes), Cell::Text(text)) = (&row[hash], &row[output])
                && text.is_empty()
                && let Some(digest) = Digest::from_slice(bytes)
            {
                row[output] = Cell::Text(blobs.read(&digest)?);
            }
        }
    }
    Ok(rows)
}

pub(super) fn import(session: &Session<'_>, table: &Table, rows: &[Row]) -> Result<(), Fail> {
    let columns = table.columns.len();
    let sql = format!("INSERT INTO {} ({}) VALUES ({})", table.name, names(table, columns), parameters(columns));
    let mut statement = session.connection.prepare_cached(&sql)?;
    for row in rows {
        let mut row = row.clone();
        if let Some((hash, output)) = output_columns(table)
            && let Cell::Bytes(bytes) = &row[hash]
            && let Some(hash) = Digest::from_slice(bytes)
            && let Cell::Text(text) = &mut row[output]
        {
            let full = Output { text: std::mem::take(text), hash };
            session.blobs.stored(&full)?.clone_into(text);
        }
        statement.execute(params_from_iter(row.iter().map(Bound)))?;
    }
    Ok(())
}

pub(super) fn sequences(connection: &Connection) -> Result<Sequences, Fail> {
    let last = |table: &str| {
        connection
            .prepare_cached("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1")?
            .query_row([table], |row| row.get(0))
    };
    Ok(Sequences { fence: last("leases")?, host: last("hosts")? })
}

pub(super) fn set_sequences(session: &Session<'_>, sequences: Sequences) -> Result<(), Fail> {
    for (table, last) in [("leases", sequences.fence), ("hosts", sequences.host)] {
        session.connection.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [table])?;
        session.connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (table, last))?;
    }
    Ok(())
}
