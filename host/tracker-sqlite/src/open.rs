//! Opens a database file.
//!
//! Owns the pragmas, the migrations, and the lock that stops a second host. Never reads or writes a job's data.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gristmill_model::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::blobs::failed;
use super::folder::{self, FILE_MODE};
use super::schema::expect_ours;
use super::{SqliteOptions, Synchronous};
use crate::fail::Fail;
use gristmill_tracker::Error;

/// "grml": marks a file as ours.
const APPLICATION_ID: i64 = 0x6772_6d6c;
/// How long a statement waits for another process's transaction.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The database's name in the data folder.
pub(super) const FILE: &str = "tracker.db";
/// The longest path of a database: SQLite's own limit (`MAX_PATHNAME`), minus endings that are sometimes added.
const PATH_BYTES_MAX: usize = 512 - "-journal".len() - ".unfinished".len();
/// The lock's name in the data folder.
pub(super) const LOCK: &str = "host.lock";
/// The largest content of a lock file: a process id.
const LOCK_BYTES_MAX: u64 = 32;

/// Forward only, numbered from 1, each in one transaction. What has landed is never edited.
pub(super) const MIGRATIONS: [(&str, &str); 6] = [
    ("first", include_str!("../migrations/0001_first.sql")),
    ("complete", include_str!("../migrations/0002_complete.sql")),
    ("ranges", include_str!("../migrations/0003_ranges.sql")),
    ("apart", include_str!("../migrations/0004_apart.sql")),
    ("history", include_str!("../migrations/0005_history.sql")),
    ("components", include_str!("../migrations/0006_components.sql")),
];

/// The path of a data folder's database.
pub(super) fn database(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Refuses a database whose path SQLite would refuse without saying why.
pub(super) fn check_length(path: &Path) -> Result<(), Fail> {
    // Measured as SQLite does: from the root, with links resolved.
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let whole = folder.map_or_else(|| std::path::absolute(path), |folder| Ok(folder.join(FILE)));
    match whole {
        Ok(path) if path.as_os_str().len() > PATH_BYTES_MAX => {
            Err(Error::PathTooLong { bytes: path.as_os_str().len(), max: PATH_BYTES_MAX, path }.into())
        }
        _ => Ok(()),
    }
}

/// The identity of a file, independent of its name; none if there is no such file.
pub(super) fn identity(path: &Path) -> Result<Option<(u64, u64)>, Fail> {
    match std::fs::metadata(path) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(failed("cannot look at", path, source).into()),
    }
}

/// Opens the database for the host that holds the lock: creates it if needed, and migrates it.
pub(super) fn open_for_writing(data: &Path, options: SqliteOptions, now: Timestamp) -> Result<Connection, Fail> {
    let path = database(data);
    folder::make_database(&path)?;
    let mut connection =
        open_guarded(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| cannot("make", &path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_owner(&connection, &path)?;
    prepare(&connection, options).map_err(|error| cannot("write", &path, error))?;
    migrate(&mut connection, &MIGRATIONS, now)?;
    Ok(connection)
}

/// Opens the database beside a host: creates nothing, and migrates only if there is no host.
pub(super) fn open_beside(data: &Path, options: SqliteOptions, now: Timestamp) -> Result<Connection, Fail> {
    let path = database(data);
    if !path.exists() {
        return Err(Error::Missing(path).into());
    }
    check_length(&path)?;
    folder::make(data)?;
    let mut connection =
        open_guarded(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| cannot("write", &path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_owner(&connection, &path)?;
    let (found, known) = (schema(&connection)?, MIGRATIONS.len() as i64);
    if found == 0 {
        return Err(Error::Missing(path).into());
    }
    prepare(&connection, options).map_err(|error| cannot("write", &path, error))?;
    if found < known {
        let _lock = HostLock::take(data).map_err(|fail| match fail.0 {
            Error::Locked { .. } => Error::Older { found, known },
            other => other,
        })?;
        migrate(&mut connection, &MIGRATIONS, now)?;
    }
    Ok(connection)
}

fn prepare(connection: &Connection, options: SqliteOptions) -> rusqlite::Result<()> {
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
    ))
}

/// Opens the database only for reading. A reader never creates, migrates or changes anything.
pub(super) fn open_for_reading(data: &Path) -> Result<Connection, Fail> {
    let path = database(data);
    folder::expect_own(data)?;
    let connection = open_of_any_schema(&path)?;
    let (found, known) = (schema(&connection)?, MIGRATIONS.len() as i64);
    if found < known { Err(Error::Older { found, known }.into()) } else { Ok(connection) }
}

/// Opens a database for reading, even one that an older gristmill made.
pub(super) fn open_of_any_schema(path: &Path) -> Result<Connection, Fail> {
    if !path.exists() {
        return Err(Error::Missing(path.to_owned()).into());
    }
    check_length(path)?;
    let connection = open_readable(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_owner(&connection, path)?;
    connection.pragma_update(None, "query_only", true)?;
    if schema(&connection)? == 0 {
        return Err(Error::Missing(path.to_owned()).into());
    }
    Ok(connection)
}

/// Readers share memory with the writer, for which SQLite creates a file. If that is impossible, for example on a
/// read-only mount, nobody writes either, and the file can be read as it is; unless a writer left a part of it in the
/// log.
fn open_readable(path: &Path) -> Result<Connection, Fail> {
    let mut failure = None;
    for flags in [OpenFlags::SQLITE_OPEN_READ_WRITE, OpenFlags::SQLITE_OPEN_READ_ONLY] {
        match open_guarded(path, flags).and_then(readable) {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = Some(error),
        }
    }
    let unwritable = failure.filter(|error| {
        matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
        )
    });
    match unwritable {
        Some(error) if has_log(path) => Err(cannot("open", path, error).into()),
        Some(_) => open_immutable(path).map_err(|error| cannot("open", path, error).into()),
        // The caller will find any other fault again, and report it.
        None => Ok(open_guarded(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?),
    }
}

/// Returns the connection if it can read. Opening alone does not read the file.
fn readable(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

fn has_log(path: &Path) -> bool {
    std::fs::metadata(with_suffix(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// The path of a file that SQLite keeps beside a database.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    // Characters that would end the path in a URI.
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)?;
    guard(&connection)?;
    readable(connection)
}

/// Opens a file that may come from somebody else. SQLite refuses a link anywhere in a path, so it gets a path without
/// links. Only one thread at a time uses a connection, as its type ensures, so SQLite's own lock is turned off: that is
/// worth a tenth of a host's speed.
pub(super) fn open_guarded(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let real = match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    };
    let connection =
        Connection::open_with_flags(real, flags | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    guard(&connection)?;
    Ok(connection)
}

/// Makes sure that nothing in the file is run: our schema has no triggers and no views, and calls no functions of ours.
fn guard(connection: &Connection) -> rusqlite::Result<()> {
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, on)?;
    }
    connection.pragma_update(None, "cell_size_check", true)
}

/// The error for a refusal of the system, with what was tried.
fn cannot(what: &str, path: &Path, error: rusqlite::Error) -> Error {
    match Fail::from(error).0 {
        Error::ReadOnly(text) => Error::ReadOnly(format!("cannot {what} {}: {text}", path.display())),
        other => other,
    }
}

/// Refuses a file that is not ours, or that a newer gristmill made.
pub(super) fn check_owner(connection: &Connection, path: &Path) -> Result<(), Fail> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let owner = pragma("application_id").map_err(|error| match Fail::from(error).0 {
        Error::Damaged(_) => Error::Foreign(path.to_owned()),
        other => other,
    })?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if owner != APPLICATION_ID && (owner != 0 || tables != 0) {
        return Err(Error::Foreign(path.to_owned()).into());
    }
    let found = schema(connection)?;
    let known = MIGRATIONS.len() as i64;
    if found > known { Err(Error::Newer { found, known }.into()) } else { expect_ours(connection, found) }
}

pub(super) fn schema(connection: &Connection) -> Result<i64, Fail> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Migrates a database. Each migration is applied completely or not at all.
pub(super) fn migrate(connection: &mut Connection, migrations: &[(&str, &str)], now: Timestamp) -> Result<(), Fail> {
    let found = schema(connection)?;
    // One migration changes the text of the schema, which was already compared with ours.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    for (number, (name, sql)) in (1i64..).zip(migrations) {
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
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(())
}

/// A lock: this process runs the host of a data folder. The system drops it when the process ends, in whatever way.
#[derive(Debug)]
pub(super) struct HostLock {
    file: File,
}

impl HostLock {
    /// Takes the lock, or returns who holds it. Creates the data folder if needed.
    pub(super) fn take(data: &Path) -> Result<Self, Fail> {
        let path = data.join(LOCK);
        check_length(&database(data))?;
        folder::make(data)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(FILE_MODE);
        let opened = gristmill_files::open_unlinked(&mut options, &path);
        let mut file = opened.map_err(|source| failed("cannot make", &path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = (&file).take(LOCK_BYTES_MAX).read_to_string(&mut holder);
                let pid = read.ok().and_then(|_| holder.trim().parse().ok());
                return Err(Error::Locked { data: data.to_owned(), pid }.into());
            }
            Err(TryLockError::Error(source)) => return Err(failed("cannot lock", &path, source).into()),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|source| failed("cannot write", &path, source))?;
        Ok(Self { file })
    }
}

impl Drop for HostLock {
    fn drop(&mut self) {
        // Empties the file first, so that nobody reads the id of a process that has ended.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}
