//! Opening a database file.
//!
//! Owns the pragmas, the migrations and the lock that keeps a second host away. Never reads or writes a job's data.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gristmill_model::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{SqliteOptions, Synchronous};
use crate::Error;

/// "grml": says whose file this is.
const APPLICATION_ID: i64 = 0x6772_6d6c;
/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The database's name in the data folder.
const FILE: &str = "tracker.db";
/// The lock's name in the data folder.
const LOCK: &str = "host.lock";

/// Forward only, numbered from 1, each in one transaction. What has landed is never edited.
const MIGRATIONS: [(&str, &str); 2] = [
    ("first", include_str!("../../migrations/sqlite/0001_first.sql")),
    ("complete", include_str!("../../migrations/sqlite/0002_complete.sql")),
];

/// Where the database of a data folder is.
pub(super) fn database(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Opens the database for the host that holds the lock: makes it if it is not there, and migrates it.
pub(super) fn open_for_writing(data: &Path, options: SqliteOptions, now: Timestamp) -> Result<Connection, Error> {
    let path = database(data);
    let mut connection = Connection::open(&path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_owner(&connection, &path)?;
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {synchronous};
         PRAGMA foreign_keys = ON;
         PRAGMA wal_autocheckpoint = 4000;
         PRAGMA cache_size = -65536;
         PRAGMA temp_store = MEMORY;"
    ))?;
    migrate(&mut connection, now)?;
    Ok(connection)
}

/// Opens the database for reading alone. A reader never makes, migrates or changes anything.
pub(super) fn open_for_reading(data: &Path) -> Result<Connection, Error> {
    let path = database(data);
    if !path.exists() {
        return Err(Error::Missing(path));
    }
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_owner(&connection, &path)?;
    connection.pragma_update(None, "query_only", true)?;
    if schema(&connection)? == 0 {
        return Err(Error::Missing(path));
    }
    Ok(connection)
}

/// Refuses a file that is not ours, or that a newer gristmill made.
fn check_owner(connection: &Connection, path: &Path) -> Result<(), Error> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let owner = pragma("application_id").map_err(|error| match Error::from(error) {
        Error::Damaged(_) => Error::Foreign(path.to_owned()),
        other => other,
    })?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if owner != APPLICATION_ID && (owner != 0 || tables != 0) {
        return Err(Error::Foreign(path.to_owned()));
    }
    let found = schema(connection)?;
    let known = MIGRATIONS.len() as i64;
    if found > known { Err(Error::Newer { found, known }) } else { Ok(()) }
}

fn schema(connection: &Connection) -> Result<i64, Error> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn migrate(connection: &mut Connection, now: Timestamp) -> Result<(), Error> {
    let found = schema(connection)?;
    for (number, (name, sql)) in (1i64..).zip(MIGRATIONS) {
        if number <= found {
            continue;
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(
            "CREATE TABLE IF NOT EXISTS migrations (
                number INTEGER PRIMARY KEY, name TEXT NOT NULL, app_version TEXT NOT NULL, applied_at INTEGER NOT NULL
             ) STRICT;",
        )?;
        transaction.execute_batch(sql)?;
        transaction.execute(
            "INSERT INTO migrations (number, name, app_version, applied_at) VALUES (?1, ?2, ?3, ?4)",
            (number, name, env!("CARGO_PKG_VERSION"), now.0),
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Says that this process runs the host of a data folder. The system drops it with the process, however that ends.
#[derive(Debug)]
pub(super) struct HostLock {
    file: File,
}

impl HostLock {
    /// Takes the lock, or says who holds it. Makes the data folder if it is not there.
    pub(super) fn take(data: &Path) -> Result<Self, Error> {
        let path = data.join(LOCK);
        let failed = |path: &Path, source| Error::File { path: path.to_owned(), source };
        std::fs::create_dir_all(data).map_err(|source| failed(data, source))?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&path).map_err(|source| failed(&path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(Error::Locked { data: data.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&path, source)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|source| failed(&path, source))?;
        Ok(Self { file })
    }
}

impl Drop for HostLock {
    fn drop(&mut self) {
        // Empty the file first, so that nobody reads the number of a process that has ended.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}
