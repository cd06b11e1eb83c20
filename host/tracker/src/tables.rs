//! The tables, for moving a tracker from one backend to another.
//!
//! Owns the list of tables and columns: every fact, the queue and all history. Both backends have the same logical
//! schema, so a row of one is a row of the other. Never reads or writes a row.

use gristmill_model::Digest;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// A whole number.
    Int,
    /// A real number.
    Real,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// None.
    Null,
    /// A whole number.
    Int(i64),
    /// A real number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A row, in the order of its table's columns.
pub type Row = Vec<Cell>;

/// A table that is moved.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns. The first `key` of them are its key, in whose order it is read.
    pub columns: &'static [(&'static str, Column)],
    /// How many of its columns are its key.
    pub key: usize,
}

/// The last numbers given out. The tables do not show them if their last rows were deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sequences {
    /// Fences.
    pub fence: i64,
    /// Hosts.
    pub host: i64,
}

/// The hash of a row, to compare what was read with what was written.
pub fn row_hash(row: &Row) -> Digest {
    let mut fields: Vec<(u8, Vec<u8>)> = Vec::with_capacity(row.len());
    for cell in row {
        fields.push(match cell {
            Cell::Null => (0, Vec::new()),
            Cell::Int(number) => (1, number.to_le_bytes().to_vec()),
            Cell::Real(number) => (2, number.to_bits().to_le_bytes().to_vec()),
            Cell::Text(text) => (3, text.as_bytes().to_vec()),
            Cell::Bytes(bytes) => (4, bytes.clone()),
        });
    }
    let kinds: Vec<u8> = fields.iter().map(|(kind, _)| *kind).collect();
    Digest::of_fields("gristmill row", std::iter::once(&kinds[..]).chain(fields.iter().map(|(_, bytes)| &bytes[..])))
}

use Column::{Bytes, Int, Real, Text};

/// Every table that is moved, in an order in which a row comes after the rows that it refers to. Leases are not moved:
/// no host is at work while a tracker moves, and the work of vanished hosts is given back before.
pub static TABLES: [Table; 21] = [
    table("jobs", 1, &[("id", Int), ("name", Text), ("spec_id", Bytes), ("created_at", Int), ("reconciled", Int)]),
    table("job_specs", 2, &[("job_id", Int), ("spec_id", Bytes), ("number", Int), ("yaml", Text), ("loaded_at", Int)]),
    table(
        "stages",
        1,
        &[
            ("id", Int),
            ("job_id", Int),
            ("name", Text),
            ("place", Int),
            ("needs", Int),
            ("outputs", Int),
            ("version_id", Int),
            ("retired_at", Int),
        ],
    ),
    table("components", 1, &[("hash", Bytes), ("raw_hash", Bytes), ("size", Int), ("source", Text), ("added_at", Int)]),
    table(
        "versions",
        1,
        &[
            ("id", Int),
            ("stage_id", Int),
            ("digest", Bytes),
            ("component_hash", Bytes),
            ("declared", Text),
            ("created_at", Int),
        ],
    ),
    table(
        "hosts",
        1,
        &[
            ("id", Int),
            ("name", Text),
            ("pid", Int),
            ("app_version", Text),
            ("started_at", Int),
            ("heartbeat_at", Int),
            ("ended_at", Int),
        ],
    ),
    table(
        "items",
        1,
        &[
            ("id", Int),
            ("job_id", Int),
            ("done", Int),
            ("skipped", Int),
            ("dead", Int),
            ("live", Int),
            ("stale", Int),
            ("priority", Int),
            ("cancelled_at", Int),
        ],
    ),
    table(
        "item_data",
        1,
        &[
            ("id", Int),
            ("job_id", Int),
            ("discovered_at", Int),
            ("changed_at", Int),
            ("key", Text),
            ("data_hash", Bytes),
            ("seen_hash", Bytes),
            ("data", Text),
        ],
    ),
    table("pages", 1, &[("id", Int), ("job_id", Int), ("at", Int), ("n", Int), ("source", Text), ("cursor", Text)]),
    table("sightings", 2, &[("item_id", Int), ("data_hash", Bytes), ("page_id", Int)]),
    table(
        "item_stages",
        1,
        &[
            ("key", Int),
            ("state", Int),
            ("reason", Int),
            ("attempts", Int),
            ("lost", Int),
            ("deferrals", Int),
            ("settled_at", Int),
            ("last_attempt", Int),
            ("version_id", Int),
            ("input_hash", Bytes),
            ("output_hash", Bytes),
            ("output", Text),
            ("error", Text),
        ],
    ),
    table("cursors", 1, &[("job_id", Int), ("cursor", Text), ("updated_at", Int)]),
    table(
        "queue",
        1,
        &[
            ("key", Int),
            ("stage_id", Int),
            ("state", Int),
            ("claim_key", Int),
            ("due_at", Int),
            ("attempts", Int),
            ("lost", Int),
            ("deferrals", Int),
            ("last_attempt", Int),
            ("first_due_at", Int),
            ("operation_id", Int),
        ],
    ),
    table(
        "attempts",
        1,
        &[
            ("id", Int),
            ("key", Int),
            ("stage_id", Int),
            ("prev", Int),
            ("outcome", Int),
            ("host_id", Int),
            ("fence", Int),
            ("queued_at", Int),
            ("started_at", Int),
            ("ended_at", Int),
            ("version_id", Int),
            ("memory_bytes_max", Int),
            ("input_hash", Bytes),
            ("spec", Int),
            ("operation_id", Int),
            ("error", Text),
            ("log", Text),
        ],
    ),
    table("costs", 1, &[("id", Int), ("attempt_id", Int), ("meter", Text), ("amount", Real)]),
    table("cost_rollups", 3, &[("stage_id", Int), ("meter", Text), ("day", Int), ("amount", Real), ("n", Int)]),
    table(
        "operations",
        1,
        &[
            ("id", Int),
            ("kind", Text),
            ("job_id", Int),
            ("filter", Text),
            ("state", Int),
            ("planned", Int),
            ("done", Int),
            ("most", Int),
            ("rate", Real),
            ("position", Int),
            ("next_at", Int),
            ("actor", Text),
            ("why", Text),
            ("created_at", Int),
            ("updated_at", Int),
        ],
    ),
    table(
        "events",
        1,
        &[
            ("id", Int),
            ("at", Int),
            ("kind", Text),
            ("job_id", Int),
            ("item_id", Int),
            ("operation_id", Int),
            ("data", Text),
        ],
    ),
    table("stage_counts", 2, &[("stage_id", Int), ("state", Int), ("n", Int)]),
    table("item_counts", 2, &[("job_id", Int), ("status", Int), ("n", Int)]),
    table("version_counts", 1, &[("version_id", Int), ("n", Int)]),
];

const fn table(name: &'static str, key: usize, columns: &'static [(&'static str, Column)]) -> Table {
    Table { name, columns, key }
}
