//! What can go wrong with a tracker.
//!
//! Owns the one error type of all backends; each backend translates the codes of its own database (`fail.rs`). Never
//! prints, and never decides what happens next.

use std::path::{Path, PathBuf};

use gristmill_model::Digest;
use thiserror::Error;

use crate::records::OperationState;

/// What can go wrong with a tracker.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no tracker in that place.
    #[error("there is no tracker at {}", .0.display())]
    Missing(PathBuf),
    /// Another host runs this tracker.
    #[error("another host runs on {}{}", data.display(), pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// The data folder.
        data: PathBuf,
        /// The other host's process, if it is known.
        pid: Option<u32>,
    },
    /// The file is no SQLite database, or not one of ours.
    #[error("{} is not a gristmill tracker", .0.display())]
    Foreign(PathBuf),
    /// The database is damaged.
    #[error("the tracker's database is damaged: {0}")]
    Damaged(String),
    /// A data folder, or an entry in it, is not what gristmill makes. Using it might do harm elsewhere.
    #[error("{} {what}, and is not used as a part of the data folder", path.display())]
    Unsafe {
        /// Which one.
        path: PathBuf,
        /// What it is: "is a symbolic link".
        what: &'static str,
    },
    /// The schema of a database has something that no migration made.
    #[error("the tracker's schema is not as gristmill makes it: {0}")]
    Schema(String),
    /// The database was made by a newer gristmill.
    #[error("the tracker has schema {found}, and this gristmill knows none beyond {known}")]
    Newer {
        /// The schema in the file.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The data folder cannot be written.
    #[error("the tracker cannot be written: {0}")]
    ReadOnly(String),
    /// A file would be larger than this process may write.
    #[error("a file would be larger than this process may write (ulimit -f)")]
    FileTooLarge,
    /// The path of a database is longer than SQLite takes.
    #[error("the path of the tracker has {bytes} bytes, and may have {max}: {}", path.display())]
    PathTooLong {
        /// The path, from the root.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// The database was taken away while it was in use.
    #[error("{} was removed or replaced while it was in use", .0.display())]
    Gone(PathBuf),
    /// The machine refuses what the tracker needs.
    #[error("{what}: {source}")]
    Machine {
        /// What the machine refused: "a thread could not be started".
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("the disk that holds the tracker is full")]
    DiskFull,
    /// Another process holds the database too long.
    #[error("the tracker is held by another process")]
    Busy,
    /// Something could not be done with a file of the data folder.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What: "cannot make".
        what: &'static str,
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A job has had more stages than fit in a mask.
    #[error("job `{0}` has had 63 stages in its life, and no more fit")]
    TooManyStages(String),
    /// A job that is not registered with this tracker.
    #[error("job {0} is not registered with this host")]
    UnknownJob(i64),
    /// An item changed while a component merged its data. It must be read and merged again.
    #[error("item `{0}` was changed by somebody else meanwhile")]
    Overtaken(String),
    /// There is no such operation.
    #[error("there is no operation {0}")]
    UnknownOperation(i64),
    /// An operation cannot go from one state to another.
    #[error("operation {id} is {}, and cannot become {}", from.name(), to.name())]
    OperationState {
        /// Which one.
        id: i64,
        /// Where it stands.
        from: OperationState,
        /// What was asked.
        to: OperationState,
    },
    /// The target of a copy is not empty.
    #[error("the tracker at {0} is not empty")]
    NotEmpty(String),
    /// A copy differs from its source.
    #[error("table `{table}` differs from what it was copied from: {found} rows in place of {expected}{}", if found == expected { ", with other contents" } else { "" })]
    Differs {
        /// Which one.
        table: &'static str,
        /// How many rows it has.
        found: u64,
        /// How many it should have.
        expected: u64,
    },
    /// A host is at work.
    #[error("a host is at work on this tracker ({0})")]
    InUse(String),
    /// The tracker's schema is older, and only a host may migrate it.
    #[error("the tracker has schema {found}, and this gristmill needs {known}")]
    Older {
        /// The schema in the database.
        found: i64,
        /// The one that this program needs.
        known: i64,
    },
    /// A large output is missing, or does not match its hash.
    #[error("the blob {0} is missing or damaged")]
    Blob(Digest),
    /// The bytes of a component are missing, or do not match their hash.
    #[error("the component {0} is missing or damaged")]
    Component(Digest),
    /// A component is larger than a tracker keeps.
    #[error("a component has {bytes} bytes, and a tracker keeps {max} at most")]
    ComponentTooLarge {
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        max: u64,
    },
    /// A row has a value that gristmill never writes.
    #[error("a row of the tracker is damaged: {0}")]
    DamagedRow(String),
    /// The thread that writes has ended.
    #[error("the tracker has stopped")]
    Stopped,
    /// The URL of a database cannot be read.
    #[error("the database's URL is not of the form postgres://user:password@host:port/database?sslmode=require")]
    BadUrl,
    /// A database server does not answer.
    #[error("{place} cannot be reached: {why}")]
    Unreachable {
        /// The server, without the password.
        place: String,
        /// What the system or the server says.
        why: String,
    },
    /// A database server offers no TLS, or none that can be trusted.
    #[error("{place} cannot be reached by TLS: {why}")]
    Tls {
        /// The server, without the password.
        place: String,
        /// What the system or the server says.
        why: String,
    },
    /// A password would go over a network without TLS.
    #[error("the password for {place} would go over the network in clear")]
    Plain {
        /// The server, without the password.
        place: String,
    },
    /// A database server does not let this user in.
    #[error("the login was refused: {0}")]
    Login(String),
    /// A database server has no such database.
    #[error("there is no such database: {0}")]
    NoDatabase(String),
    /// The user of a database may not do this.
    #[error("the database's user has not the rights: {0}")]
    Denied(String),
    /// The database server allows this user only to read.
    #[error("the database cannot be written: {0}")]
    ReadOnlyDatabase(String),
    /// A database server takes no more connections.
    #[error("{place} takes no more connections: {why}")]
    TooManyConnections {
        /// The server, without the password.
        place: String,
        /// What the server says.
        why: String,
    },
    /// A database cannot hold every text.
    #[error("{place} is encoded in {found}, and gristmill needs UTF8")]
    Encoding {
        /// The database, without the password.
        place: String,
        /// Its encoding.
        found: String,
    },
    /// A database server is too old.
    #[error("{place} is PostgreSQL {major}, and gristmill needs 14 or newer")]
    OldServer {
        /// The server, without the password.
        place: String,
        /// Its major version.
        major: i32,
    },
    /// Any other error of the database.
    #[error("the tracker's database failed: {0}")]
    Sql(String),
}

impl Error {
    /// Whether the database refused the statement or its data, and would refuse it again.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Sql(_) | Self::DamagedRow(_) | Self::Blob(_))
    }

    /// Whether only this row or file is damaged, and the rest of the tracker can be used.
    pub const fn is_local_damage(&self) -> bool {
        matches!(self, Self::DamagedRow(_) | Self::Blob(_))
    }

    /// An entry of a data folder that gristmill did not make.
    pub fn unsafe_file(path: &Path, what: &'static str) -> Self {
        Self::Unsafe { path: path.to_owned(), what }
    }
}
