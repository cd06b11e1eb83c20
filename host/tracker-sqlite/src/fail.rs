//! Translates errors of SQLite.
//!
//! Owns the meaning of SQLite's error codes. Never decides what happens next.

use gristmill_tracker::Error;
use rusqlite::{Error as Sqlite, ErrorCode, ffi};
use rustix::process::{Resource, getrlimit};

/// An error of this crate's callers, inside the crate: `?` converts the driver's errors into it.
#[derive(Debug)]
pub(crate) struct Fail(pub(crate) Error);

impl std::fmt::Display for Fail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Fail> for Error {
    fn from(fail: Fail) -> Self {
        fail.0
    }
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        if matches!(
            error,
            Sqlite::FromSqlConversionFailure(..)
                | Sqlite::InvalidColumnType(..)
                | Sqlite::IntegralValueOutOfRange(..)
                | Sqlite::Utf8Error(..)
        ) {
            return Self(Error::DamagedRow(text));
        }
        Self(match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::DiskFull,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Error::ReadOnly(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Damaged(text),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy,
            Some(ErrorCode::SystemIoFailure) if is_beyond_file_limit(&error) => Error::FileTooLarge,
            _ => Error::Sql(text),
        })
    }
}

/// Whether a write failed because of the limit of a file's size. SQLite does not say so; without such a limit, the disk
/// is the reason.
fn is_beyond_file_limit(error: &rusqlite::Error) -> bool {
    const WRITES: [i32; 3] = [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_TRUNCATE, ffi::SQLITE_IOERR_SHMSIZE];
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    WRITES.contains(&code) && getrlimit(Resource::Fsize).current.is_some()
}
