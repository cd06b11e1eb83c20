//! Translates errors of Postgres.
//!
//! Owns the meaning of Postgres's error codes: which failures are worth another try, which need a check first, and
//! which are final. Never shows a password: the server's messages have none, and a URL is never part of a message.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use gristmill_tracker::Error;

/// Why one try of an operation failed.
#[derive(Debug)]
pub(super) enum Fail {
    /// The connection is gone, or does not answer. Its last commit may have succeeded.
    Broken(String),
    /// The transaction was rolled back without a fault of its own: a deadlock, or a race that another one won.
    Again(String),
    /// The server accepts no more connections for now.
    Full(String),
    /// Another try would fail in the same way.
    Refused(Error),
}

impl Fail {
    /// The error if nobody tries again.
    pub(super) fn told(self, place: &str) -> Error {
        let place = place.to_owned();
        match self {
            Self::Refused(error) => error,
            Self::Full(why) => Error::TooManyConnections { place, why },
            Self::Broken(why) | Self::Again(why) => Error::Unreachable { place, why },
        }
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<PoolError> for Fail {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<tokio_postgres::Error> for Fail {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            // The library itself refused, and would refuse again: for example a value with another type than its
            // parameter.
            let text = with_source(&error);
            if text.ends_with("password missing") {
                return Self::Refused(Error::Login("it wants a password, and no password was given".to_owned()));
            }
            let ours = ["error serializing", "error deserializing", "error encoding", "invalid column", "expected "];
            let is_ours = !error.is_closed() && ours.iter().any(|start| text.starts_with(start));
            return if is_ours { Self::Refused(Error::Sql(text)) } else { Self::Broken(text) };
        };
        let text = said.message().to_owned();
        let code = said.code();
        if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE]
            .contains(code)
        {
            return Self::Again(text);
        }
        if *code == SqlState::TOO_MANY_CONNECTIONS {
            return Self::Full(text);
        }
        // Class 08: connections. Class 57: an administrator, a crash, a server that starts or stops.
        let class = &code.code()[..2];
        if class == "08" || class == "57" || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT {
            return Self::Broken(text);
        }
        Self::Refused(match *code {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Error::Login(text),
            SqlState::INVALID_CATALOG_NAME => Error::NoDatabase(text),
            SqlState::READ_ONLY_SQL_TRANSACTION => Error::ReadOnlyDatabase(text),
            SqlState::INSUFFICIENT_PRIVILEGE => Error::Denied(text),
            SqlState::DISK_FULL => Error::DiskFull,
            SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => Error::Damaged(text),
            _ => Error::Sql(format!("{text} ({})", code.code())),
        })
    }
}

/// The library's error with its cause: only the cause says "connection refused".
pub(super) fn with_source(error: &tokio_postgres::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    let text = error.to_string();
    match source {
        Some(source) if !text.contains(&source) => format!("{text}: {source}"),
        _ => text,
    }
}
