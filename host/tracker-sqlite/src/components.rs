//! The bytes of components.
//!
//! Owns `components/` in the data folder: a file each, named by the hash of its bytes, complete before the row that
//! says so is committed, and verified each time it is read. Never decides which component a stage has.

use std::fs;

use gristmill_model::{Digest, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::blobs::{Blobs, UNFINISHED, failed};
use super::open::schema;
use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::records::{JobRegistration, StageRegistration, Swept};
use gristmill_tracker::sql::NEEDED_COMPONENTS;
use gristmill_tracker::{Error, check_component, distinct_components};

/// Since which schema components are kept.
const SCHEMA: i64 = 6;

/// Records the components of a job, and keeps the bytes that came along.
pub(super) fn store(session: &Session<'_>, job: &JobRegistration) -> Result<(), Fail> {
    distinct_components(&job.stages).try_for_each(|stage| store_one(session, stage, job.now))
}

fn store_one(session: &Session<'_>, stage: &StageRegistration, now: Timestamp) -> Result<(), Fail> {
    let connection = session.connection;
    connection.execute(
        "INSERT INTO components (hash, raw_hash, size, source, added_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
        (&stage.component.0[..], &stage.component_raw.0[..], stage.component_size as i64, &stage.source, now.0),
    )?;
    let Some(bytes) = &stage.component_bytes else { return Ok(()) };
    check_component(stage.component, stage.component_raw, bytes)?;
    // Missing or damaged: it is kept anew.
    match read(connection, &session.blobs, stage.component) {
        Ok(Some(_)) => Ok(()),
        Ok(None) | Err(Fail(Error::Component(_))) => keep(session, stage.component, stage.component_raw, bytes),
        Err(fail) => Err(fail),
    }
}

/// Makes the file, and says in the row that it is there. Other bytes of the same canonical hash take the place of what
/// the row named before.
fn keep(session: &Session<'_>, hash: Digest, raw: Digest, bytes: &[u8]) -> Result<(), Fail> {
    session.blobs.components().write(&raw, bytes)?;
    session.connection.execute(
        "UPDATE components SET raw_hash = ?2, size = ?3, kept = 1 WHERE hash = ?1",
        (&hash.0[..], &raw.0[..], bytes.len() as i64),
    )?;
    Ok(())
}

/// Keeps the bytes of a component whose row is there: those that it names.
pub(super) fn import(session: &Session<'_>, hash: Digest, bytes: &[u8]) -> Result<(), Fail> {
    let raw: Option<[u8; 32]> = session
        .connection
        .prepare_cached("SELECT raw_hash FROM components WHERE hash = ?1")?
        .query_row([&hash.0[..]], |row| row.get(0))
        .optional()?;
    let raw = Digest(raw.ok_or(Error::Component(hash))?);
    check_component(hash, raw, bytes)?;
    keep(session, hash, raw, bytes)
}

/// Reads the bytes of a component, and compares them with their hash; none: it is not known, or not kept.
pub(super) fn read(connection: &Connection, blobs: &Blobs, hash: Digest) -> Result<Option<Vec<u8>>, Fail> {
    let raw = connection
        .prepare_cached("SELECT raw_hash FROM components WHERE hash = ?1 AND kept = 1")?
        .query_row([&hash.0[..]], |row| row.get(0).map(Digest))
        .optional()?;
    let Some(raw) = raw else { return Ok(None) };
    Ok(Some(blobs.components().bytes(&raw).ok_or(Error::Component(hash))?))
}

/// Shows the bytes of each component that is kept, with their hash: in a database of any schema.
pub(super) fn each_kept(
    connection: &Connection,
    blobs: &Blobs,
    mut each: impl FnMut(Digest, &[u8]) -> Result<(), Fail>,
) -> Result<(), Fail> {
    if schema(connection)? < SCHEMA {
        return Ok(());
    }
    let mut statement = connection.prepare("SELECT hash, raw_hash FROM components WHERE kept = 1")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (hash, raw) = (Digest(row.get(0)?), Digest(row.get(1)?));
        let bytes = blobs.components().bytes(&raw).ok_or(Error::Component(hash))?;
        each(raw, &bytes)?;
    }
    Ok(())
}

/// Says of the components that nothing needs that their bytes are not kept. Their files are still there.
pub(super) fn forget(session: &mut Session<'_>) -> Result<(), Fail> {
    session.write_tally()?;
    let sql = format!("UPDATE components SET kept = 0 WHERE kept = 1 AND hash NOT IN ({NEEDED_COMPONENTS})");
    session.connection.execute(&sql, [])?;
    Ok(())
}

/// Removes the files that no component is said to have: of those that were forgotten, and of registrations that were
/// not committed. Files are written in transactions as this one is, so none is on its way, in any process.
pub(super) fn sweep(session: &Session<'_>) -> Result<Swept, Fail> {
    let mut swept = Swept::default();
    let mut named = session.connection.prepare_cached("SELECT 1 FROM components WHERE raw_hash = ?1 AND kept = 1")?;
    for path in session.blobs.components().all()? {
        swept.looked += 1;
        let is_unfinished = path.extension().is_some_and(|extension| extension == UNFINISHED);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let goes = match name.parse::<Digest>() {
            Ok(raw) => !named.exists([&raw.0[..]])?,
            Err(_) => is_unfinished,
        };
        let Some(metadata) = fs::symlink_metadata(&path).ok().filter(|_| goes) else { continue };
        fs::remove_file(&path).map_err(|source| failed("cannot remove", &path, source))?;
        swept.removed += 1;
        swept.bytes += metadata.len();
    }
    Ok(swept)
}

/// Shows each component whose bytes are needed and said to be kept, and whether they are whole.
pub(super) fn each_needed(
    connection: &Connection,
    blobs: &Blobs,
    mut each: impl FnMut(Digest, bool),
) -> Result<(), Fail> {
    let sql = format!("SELECT hash, raw_hash FROM components WHERE kept = 1 AND hash IN ({NEEDED_COMPONENTS})");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (hash, raw) = (Digest(row.get(0)?), Digest(row.get(1)?));
        each(hash, blobs.components().bytes(&raw).is_some());
    }
    Ok(())
}
