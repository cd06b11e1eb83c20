//! Reads and writes whole tables, to move a tracker to another backend.
//!
//! Owns reading and writing tables as they are, by `tables::TABLES`, and the last numbers given out. Counters are
//! summed over their slots when they are read, and written into the first slot. Never interprets a row.

use tokio_postgres::types::ToSql;

use super::fail::Fail;
use super::tx::{Lock, Tx};
use gristmill_tracker::Error;
use gristmill_tracker::tables::{Cell, Column, Row, Sequences, Table};

/// The tables with sequential numbers, in addition to hosts and leases.
const NUMBERED: [&str; 8] = ["jobs", "versions", "item_data", "pages", "attempts", "costs", "operations", "events"];

fn names(table: &Table) -> String {
    table.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The SQL source of a table's rows.
fn source(table: &Table) -> String {
    let keys = table.columns[..table.key].iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    match table.name {
        "stage_counts" | "item_counts" | "version_counts" => {
            // Rows of zeros are left out: each backend may or may not have them.
            let name = table.name;
            format!("(SELECT {keys}, sum(n)::bigint AS n FROM {name} GROUP BY {keys} HAVING sum(n) <> 0) AS summed")
        }
        "cost_rollups" => format!(
            "(SELECT {keys}, sum(amount) AS amount, sum(n)::bigint AS n FROM {} GROUP BY {keys}) AS summed",
            table.name
        ),
        name => name.to_owned(),
    }
}

fn is_counter(table: &Table) -> bool {
    source(table).starts_with('(')
}

fn parameter(cell: &Cell) -> Result<&(dyn ToSql + Sync), Fail> {
    match cell {
        Cell::Int(number) => Ok(number),
        Cell::Real(number) => Ok(number),
        Cell::Text(text) => Ok(text),
        Cell::Bytes(bytes) => Ok(bytes),
        Cell::Null => Err(Error::Damaged("a key is null".to_owned()).into()),
    }
}

/// Reads a row in the order of its table's columns.
pub(super) fn read(table: &Table, row: &tokio_postgres::Row) -> Row {
    let cell = |(place, (_, column)): (usize, &(&str, Column))| match column {
        Column::Int => row.get::<_, Option<i64>>(place).map(Cell::Int),
        Column::Real => row.get::<_, Option<f64>>(place).map(Cell::Real),
        Column::Text => row.get::<_, Option<String>>(place).map(Cell::Text),
        Column::Bytes => row.get::<_, Option<Vec<u8>>>(place).map(Cell::Bytes),
    };
    table.columns.iter().enumerate().map(|column| cell(column).unwrap_or(Cell::Null)).collect()
}

pub(super) async fn export(tx: &Tx<'_>, table: &Table, after: Option<&Row>, limit: u32) -> Result<Vec<Row>, Fail> {
    let keys = table.columns[..table.key].iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let places = (2..2 + table.key).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ");
    let behind = if after.is_some() { format!("WHERE ({keys}) > ({places})") } else { String::new() };
    let sql = format!("SELECT {} FROM {} {behind} ORDER BY {keys} LIMIT $1", names(table), source(table));
    let limit = i64::from(limit);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&limit];
    for cell in after.into_iter().flat_map(|row| &row[..table.key]) {
        parameters.push(parameter(cell)?);
    }
    Ok(tx.query(&sql, &parameters).await?.iter().map(|row| read(table, row)).collect())
}

/// A column of rows, as Postgres takes it.
fn column(rows: &[Row], place: usize, column: Column) -> Box<dyn ToSql + Sync> {
    let cells = rows.iter().map(|row| row.get(place).unwrap_or(&Cell::Null));
    match column {
        Column::Int => {
            Box::new(cells.map(|cell| if let Cell::Int(n) = cell { Some(*n) } else { None }).collect::<Vec<_>>())
        }
        Column::Real => {
            Box::new(cells.map(|cell| if let Cell::Real(n) = cell { Some(*n) } else { None }).collect::<Vec<_>>())
        }
        Column::Text => Box::new(
            cells
                .map(
                    |cell| if let Cell::Text(text) = cell { Some(super::write::text(text).into_owned()) } else { None },
                )
                .collect::<Vec<_>>(),
        ),
        Column::Bytes => Box::new(
            cells
                .map(|cell| if let Cell::Bytes(bytes) = cell { Some(bytes.clone()) } else { None })
                .collect::<Vec<_>>(),
        ),
    }
}

pub(super) async fn import(tx: &Tx<'_>, table: &Table, rows: &[Row]) -> Result<(), Fail> {
    tx.begin(Lock::Alone, None).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let types = table.columns.iter().enumerate().map(|(place, (_, column))| {
        let kind = match column {
            Column::Int => "bigint",
            Column::Real => "float8",
            Column::Text => "text",
            Column::Bytes => "bytea",
        };
        format!("${}::{kind}[]", place + 1)
    });
    let (names, types) = (names(table), types.collect::<Vec<_>>().join(", "));
    let sql = if is_counter(table) {
        format!("INSERT INTO {} ({names}, slot) SELECT *, 0 FROM unnest({types})", table.name)
    } else {
        format!("INSERT INTO {} ({names}) SELECT * FROM unnest({types})", table.name)
    };
    let columns: Vec<Box<dyn ToSql + Sync>> =
        table.columns.iter().enumerate().map(|(place, (_, kind))| column(rows, place, *kind)).collect();
    let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(AsRef::as_ref).collect();
    tx.execute(&sql, &parameters).await?;
    if table.name == "stages" {
        // The DAGs have changed now.
        tx.execute("UPDATE jobs SET generation = generation + 1", &[]).await?;
    }
    Ok(())
}

pub(super) async fn sequences(tx: &Tx<'_>) -> Result<Sequences, Fail> {
    const LAST: &str = "SELECT (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM leases_fence_seq),
        (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM hosts_id_seq)";
    let row = tx.query_one(LAST, &[]).await?;
    Ok(Sequences { fence: row.get(0), host: row.get(1) })
}

pub(super) async fn set_sequences(tx: &Tx<'_>, sequences: Sequences) -> Result<(), Fail> {
    tx.begin(Lock::Alone, None).await?;
    for (sequence, last) in [("leases_fence_seq", sequences.fence), ("hosts_id_seq", sequences.host)] {
        tx.execute(
            &format!("SELECT setval('gristmill.{sequence}', greatest($1::bigint, 1), $1::bigint > 0)"),
            &[&last],
        )
        .await?;
    }
    for table in NUMBERED {
        let sql = format!(
            "SELECT setval('gristmill.{table}_id_seq', greatest(last, 1), last > 0)
             FROM (SELECT coalesce(max(id), 0) AS last FROM {table}) AS given"
        );
        tx.execute(&sql, &[]).await?;
    }
    Ok(())
}
