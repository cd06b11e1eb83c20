//! Backup and restore of a data folder.
//!
//! Owns a copy that is whole: the database as it is at one moment, and every large output and component that it names. A host may run
//! meanwhile. Never leaves half a copy behind that could be taken for a whole one.

use std::fs::{self, File};
use std::path::Path;

use gristmill_model::Digest;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::blobs::{Blobs, failed, sync_folder};
use super::components;
use super::folder::{self, UNFINISHED, expect_plain};
use super::open::{
    BUSY_TIMEOUT, FILE, HostLock, check_length, database, open_guarded, open_of_any_schema, with_suffix,
};
use crate::fail::Fail;
use gristmill_tracker::Error;

/// How many pages are copied at a time.
const STEP_PAGES: i32 = 1024;
/// How often a copy is begun: once more if a blob or a component was replaced and swept while it was made.
const TRIES_MAX: u32 = 2;

/// Copies the tracker of a data folder, large outputs and components included, into a folder that is not there or is empty. A host may
/// run meanwhile.
///
/// # Errors
/// If there is no tracker, the target holds something, a file cannot be written, or a large output or a component is
/// missing.
pub fn backup(data: &Path, target: &Path) -> Result<(), Error> {
    folder::expect_own(data)?;
    make_empty(target)?;
    for attempt in 1..=TRIES_MAX {
        let result = copy(&database(data), &Blobs::of(data), target);
        match result {
            Err(Fail(Error::Blob(_) | Error::Component(_))) if attempt < TRIES_MAX => {}
            result => return Ok(result?),
        }
    }
    unreachable!("the last try returns")
}

/// Makes a data folder from a backup.
///
/// # Errors
/// If the backup is damaged or lacks a large output or a component, the data folder holds a tracker, or a host is starting there.
pub fn restore(from: &Path, data: &Path) -> Result<(), Error> {
    Ok(restore_into(from, data)?)
}

fn restore_into(from: &Path, data: &Path) -> Result<(), Fail> {
    let source = database(from);
    expect_plain(from)?;
    {
        let connection = open_of_any_schema(&source)?;
        let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(Error::Damaged(verdict).into());
        }
        let blobs = Blobs::of(from);
        each_blob(&connection, |hash| Ok(blobs.read(&hash).map(drop)?))?;
        components::each_kept(&connection, &blobs, |_, _| Ok(()))?;
    }
    let _lock = HostLock::take(data)?;
    if database(data).exists() {
        return Err(Error::NotEmpty(data.display().to_string()).into());
    }
    copy(&source, &Blobs::of(from), data)
}

/// Copies a database and the outputs that it names. The database gets its final name last, when everything else is on
/// the disk.
fn copy(source: &Path, blobs: &Blobs, target: &Path) -> Result<(), Fail> {
    let unfinished = target.join(UNFINISHED);
    for leftover in [unfinished.clone(), with_suffix(&unfinished, "-journal"), with_suffix(&unfinished, "-wal")] {
        match fs::remove_file(&leftover) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("cannot remove", &leftover, source).into());
            }
            _ => {}
        }
    }
    let copied = copy_database(source, &unfinished)?;
    let to = Blobs::of(target);
    each_blob(&copied, |hash| Ok(to.write(&hash, blobs.read(&hash)?.as_bytes())?))?;
    components::each_kept(&copied, blobs, |raw, bytes| Ok(to.components().write(&raw, bytes)?))?;
    drop(copied);
    let named = target.join(FILE);
    File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, &named))
        .and_then(|()| sync_folder(target))
        .map_err(|source| failed("cannot write", &named, source).into())
}

fn copy_database(source: &Path, target: &Path) -> Result<Connection, Fail> {
    let from = open_of_any_schema(source)?;
    // A read transaction keeps the snapshot. Without it each commit of the host would restart the copy.
    let moment = from.unchecked_transaction()?;
    moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    folder::make_database(target)?;
    let mut to = open_guarded(target, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    to.busy_timeout(BUSY_TIMEOUT)?;
    {
        let backup = Backup::new(&from, &mut to)?;
        loop {
            match backup.step(STEP_PAGES)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => return Err(Error::Busy.into()),
            }
        }
    }
    // One file, without a log beside it.
    to.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    Ok(to)
}

fn each_blob(connection: &Connection, mut each: impl FnMut(Digest) -> Result<(), Fail>) -> Result<(), Fail> {
    let mut statement = connection
        .prepare("SELECT DISTINCT output_hash FROM item_stages WHERE output = '' AND output_hash IS NOT NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(Digest(row.get(0)?))?;
    }
    Ok(())
}

fn make_empty(target: &Path) -> Result<(), Fail> {
    check_length(&database(target))?;
    folder::make(target)?;
    let mut entries = fs::read_dir(target).map_err(|source| failed("cannot list", target, source))?;
    if entries.next().is_some() { Err(Error::NotEmpty(target.display().to_string()).into()) } else { Ok(()) }
}
