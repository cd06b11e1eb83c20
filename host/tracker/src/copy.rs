//! Moving a tracker from one backend to another.
//!
//! Owns the order of a copy, and its verification: both sides are read again, and compared row by row. Never takes a
//! lock: the caller ensures that no host is at work on either side.

use std::time::Duration;

use gristmill_model::{Digest, Timestamp};

use crate::tables::{Cell, Row, TABLES, Table, row_hash};
use crate::{ComponentBytes, Error, Reader, Tracker};

/// The most rows that are read and written at once.
const PAGE_ROWS_MAX: u32 = 5000;
/// How many rows at first, since rows may be large.
const PAGE_ROWS_FIRST: u32 = 100;
/// Roughly how many bytes a page of rows may have.
const PAGE_BYTES: usize = 16 << 20;
/// How many hosts an error names.
const HOSTS_NAMED_MAX: usize = 3;

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The tables, with how many rows each has.
    pub tables: Vec<(&'static str, u64)>,
}

/// What a copy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyProgress {
    /// Whether it now reads both sides again.
    pub verifying: bool,
    /// The table.
    pub table: &'static str,
    /// The table's index, from 0.
    pub place: usize,
    /// How many of its rows are done.
    pub rows: u64,
}

/// Copies everything that is known into an empty tracker, the bytes of components as well, and verifies it. `place` names the target in errors.
///
/// # Errors
/// If the target holds anything (`NotEmpty`), work of the source is leased (`InUse`), a component of the source is
/// damaged (`Component`), or the copy differs from its source (`Differs`). What was written until then stays: the target is to be emptied before another try.
pub async fn copy(
    from: &dyn Reader,
    to: &dyn Tracker,
    place: &str,
    progress: &mut (dyn FnMut(CopyProgress) + Send),
) -> Result<Copied, Error> {
    for table in &TABLES {
        if !to.export(table, None, 1).await?.is_empty() {
            return Err(Error::NotEmpty(place.to_owned()));
        }
    }
    let leases = from.outlook().await?.leases;
    if leases > 0 {
        return Err(Error::InUse(format!("work is leased, in {leases} batches")));
    }
    for (number, table) in TABLES.iter().enumerate() {
        let (mut pages, mut rows) = (Pages::new(table), 0);
        while let Some(page) = pages.next(from).await? {
            rows += page.len() as u64;
            let components = components_of(table, &page);
            to.import(table, page).await?;
            for hash in components {
                if let Some(bytes) = from.component(hash).await? {
                    to.import_component(hash, ComponentBytes(bytes.into())).await?;
                }
            }
            progress(CopyProgress { verifying: false, table: table.name, place: number, rows });
        }
    }
    to.set_sequences(from.sequences().await?).await?;
    verify(from, to, progress).await
}

async fn verify(
    from: &dyn Reader,
    to: &dyn Tracker,
    progress: &mut (dyn FnMut(CopyProgress) + Send),
) -> Result<Copied, Error> {
    let mut tables = Vec::with_capacity(TABLES.len());
    for (number, table) in TABLES.iter().enumerate() {
        let mut tell = |rows| progress(CopyProgress { verifying: true, table: table.name, place: number, rows });
        let expected = fold(from, table, &mut tell).await?;
        let found = fold(to, table, &mut |_| {}).await?;
        if found != expected {
            return Err(Error::Differs { table: table.name, expected: expected.0, found: found.0 });
        }
        tables.push((table.name, expected.0));
    }
    let (expected, found) = (from.sequences().await?, to.sequences().await?);
    if found != expected {
        return Err(Error::Differs { table: "sequences", expected: 1, found: 1 });
    }
    Ok(Copied { tables })
}

/// The components that are rows of a page.
fn components_of(table: &Table, page: &[Row]) -> Vec<Digest> {
    if table.name != "components" {
        return Vec::new();
    }
    let hash = |row: &Row| if let Cell::Bytes(hash) = &row[0] { Digest::from_slice(hash) } else { None };
    page.iter().filter_map(hash).collect()
}

/// How many rows a table has, and one hash of all of them in their order, and of which components are kept.
async fn fold(
    reader: &(impl Reader + ?Sized),
    table: &'static Table,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<(u64, Digest), Error> {
    let (mut rows, mut hash) = (0, Digest::of(table.name.as_bytes()));
    let mut pages = Pages::new(table);
    while let Some(page) = pages.next(reader).await? {
        rows += page.len() as u64;
        // They are verified as they are read: it is left to compare which of them are there.
        for component in components_of(table, &page) {
            let is_kept = [u8::from(reader.component(component).await?.is_some())];
            hash = Digest::of_fields("gristmill component", [&hash.0[..], &is_kept]);
        }
        for row in &page {
            hash = Digest::of_fields("gristmill table", [&hash.0[..], &row_hash(row).0]);
        }
        tell(rows);
    }
    Ok((rows, hash))
}

/// The pages of a table. Their number of rows depends on the size of the rows.
struct Pages {
    table: &'static Table,
    after: Option<Row>,
    rows: u32,
}

impl Pages {
    fn new(table: &'static Table) -> Self {
        Self { table, after: None, rows: PAGE_ROWS_FIRST }
    }

    async fn next(&mut self, reader: &(impl Reader + ?Sized)) -> Result<Option<Vec<Row>>, Error> {
        let page = reader.export(self.table, self.after.take(), self.rows).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = Some(last[..self.table.key].to_vec());
        self.rows = rows_next(self.rows, page.len(), page.iter().flatten().map(size).sum());
        Ok(Some(page))
    }
}

fn size(cell: &Cell) -> usize {
    match cell {
        Cell::Null | Cell::Int(_) | Cell::Real(_) => 8,
        Cell::Text(text) => text.len(),
        Cell::Bytes(bytes) => bytes.len(),
    }
}

/// How many rows the next page has: as many as fit if they are like the last ones, and at most twice as many as before.
fn rows_next(before: u32, rows: usize, bytes: usize) -> u32 {
    let fitting = PAGE_BYTES / (bytes / rows.max(1)).max(1);
    let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
    fitting.min(before.saturating_mul(2)).clamp(1, PAGE_ROWS_MAX)
}

/// Refuses a tracker on which a host is at work: a host that has not ended, and sent a heartbeat within `silence`
/// before `now`. This is for backends without a lock.
///
/// # Errors
/// `InUse`, with the names of the hosts, if any is at work; otherwise if the tracker cannot be read.
pub async fn refuse_hosts_at_work(reader: &dyn Reader, now: Timestamp, silence: Duration) -> Result<(), Error> {
    let hosts = &TABLES[TABLES.iter().position(|table| table.name == "hosts").unwrap_or_default()];
    let column = |name| hosts.columns.iter().position(|(column, _)| *column == name).unwrap_or_default();
    let (name, pid, heartbeat, ended) = (column("name"), column("pid"), column("heartbeat_at"), column("ended_at"));
    let mut pages = Pages::new(hosts);
    let (mut named, mut more) = (Vec::new(), 0);
    while let Some(page) = pages.next(reader).await? {
        for row in page {
            let (Cell::Null, Cell::Int(at)) = (&row[ended], &row[heartbeat]) else { continue };
            if now.since(Timestamp(*at)) > silence {
                continue;
            }
            match (&row[name], &row[pid]) {
                (Cell::Text(name), Cell::Int(pid)) if named.len() < HOSTS_NAMED_MAX => {
                    named.push(format!("{name}, process {pid}"));
                }
                _ => more += 1,
            }
        }
    }
    if more > 0 {
        named.push(format!("{more} more"));
    }
    if named.is_empty() { Ok(()) } else { Err(Error::InUse(named.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_large_as_their_rows_allow() {
        assert_eq!(rows_next(100, 100, 100 * 200), 200);
        assert_eq!(rows_next(4000, 4000, 4000 * 200), PAGE_ROWS_MAX);
        assert_eq!(rows_next(5000, 5000, 5000 << 20), 16);
        assert_eq!(rows_next(16, 16, 16 << 26), 1);
        assert_eq!(rows_next(1, 1, 0), 2);
    }
}
