//! Finds and opens a tracker.
//!
//! Owns the search for it (the command line, the environment, the job file's folder), and the ways to open it: to
//! read, to operate beside a host, or as a host. Never shows a password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gristmill_tracker::{Reader, Tracker, refuse_hosts_at_work};
use gristmill_tracker_postgres::{Access, PostgresOptions, PostgresTracker};
use gristmill_tracker_sqlite::{SqliteOptions, SqliteReader, SqliteTracker, Synchronous};

use crate::context::Context;
use crate::data;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::passwords;

/// The environment variable with the tracker's location.
pub(crate) const VARIABLE: &str = "GRISTMILL_TRACKER";
const SQLITE: &str = "sqlite:";
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];
/// How long a command tries to reach a server. A person can then try again.
const PATIENCE: Duration = Duration::from_secs(20);
/// A host of a shared database that sent no heartbeat for this long is not at work.
const HOST_SILENCE: Duration = Duration::from_secs(60);
/// Its text in `--help`.
pub(crate) const URL_HELP: &str = "`sqlite:FOLDER`, or `postgres://USER@HOST/DATABASE`";

/// Where a tracker is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// In a data folder.
    Folder(PathBuf),
    /// In a Postgres database, by its URL.
    Postgres(String),
}

impl Location {
    /// Parses a location that a person wrote.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if POSTGRES.iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self::Postgres(passwords::complete(text)));
        }
        match text.strip_prefix(SQLITE) {
            Some(folder) if !folder.is_empty() => Ok(Self::Folder(PathBuf::from(folder))),
            // The text may contain a password, so it is not repeated.
            _ => Err(Failure::new(Exit::Usage, "that is not where a tracker can be")
                .hint(format!("it is written {URL_HELP}"))),
        }
    }

    /// The tracker of a command line: from `--tracker`, else `--data`, else the environment, else the data folder
    /// beside the job's file or in the current folder.
    pub(crate) fn of(context: &Context, job_file: Option<&Path>) -> Result<Self, Failure> {
        if let Some(text) = &context.tracker {
            return Self::parse(text);
        }
        let by_environment = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
        match by_environment.filter(|_| context.data.is_none()) {
            Some(text) => Self::parse(&text),
            None => data::folder(context, job_file).map(Self::Folder),
        }
    }

    /// Opens it to read.
    pub(crate) fn read(&self, context: &Context) -> Result<Box<dyn Reader>, Failure> {
        Ok(match self {
            Self::Folder(folder) => Box::new(SqliteReader::open(folder)?),
            Self::Postgres(url) => connect(url, Access::Operator, context)?,
        })
    }

    /// Opens it to change something, even while a host is at work. It must exist.
    pub(crate) fn operate(&self, context: &Context) -> Result<Box<dyn Tracker>, Failure> {
        Ok(match self {
            Self::Folder(folder) => {
                Box::new(SqliteTracker::open_beside(folder, SqliteOptions::default(), context.clock.now())?)
            }
            Self::Postgres(url) => connect(url, Access::Operator, context)?,
        })
    }

    /// Opens it as a host does, so that no other host is at work meanwhile. On Postgres, where hosts share a database,
    /// the caller must ensure that. A missing tracker is created.
    pub(crate) fn hold(&self, context: &Context) -> Result<Box<dyn Tracker>, Failure> {
        Ok(match self {
            Self::Folder(folder) => {
                Box::new(SqliteTracker::open(folder, SqliteOptions::default(), context.clock.now())?)
            }
            Self::Postgres(url) => connect(url, Access::Host, context)?,
        })
    }

    /// The same, and fails if hosts share the database and one is at work.
    pub(crate) async fn hold_alone(&self, context: &Context) -> Result<Box<dyn Tracker>, Failure> {
        let held = self.hold(context)?;
        if self.folder().is_none() {
            let reader: &dyn Reader = held.as_ref();
            refuse_hosts_at_work(reader, context.clock.now(), HOST_SILENCE).await?;
        }
        Ok(held)
    }

    /// Opens it for a host; a missing tracker is created. `patience` is how long a write waits for a tracker that is
    /// away or held by another process.
    pub(crate) fn host(
        &self,
        synchronous: Synchronous,
        patience: Duration,
        context: &Context,
    ) -> Result<Arc<dyn Tracker>, Failure> {
        let now = context.clock.now();
        Ok(match self {
            Self::Folder(folder) => {
                Arc::new(SqliteTracker::open(folder, SqliteOptions { synchronous, patience }, now)?)
            }
            Self::Postgres(url) => Arc::new(PostgresTracker::connect(
                url,
                PostgresOptions { patience, ..PostgresOptions::default() },
                now,
            )?),
        })
    }

    /// Whether both are the same tracker, however they are spelled.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(one), Self::Folder(other)) => data::real(one) == data::real(other),
            _ => self == other,
        }
    }

    /// The data folder, for what only a data folder can do.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Postgres(_) => None,
        }
    }
}

fn connect(url: &str, access: Access, context: &Context) -> Result<Box<dyn Tracker>, Failure> {
    let options = PostgresOptions { access, patience: PATIENCE, ..PostgresOptions::default() };
    Ok(Box::new(PostgresTracker::connect(url, options, context.clock.now())?))
}

/// For people, without secrets.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

/// `postgres://host/database`: user, password and options are left out.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    // A password may contain a `/` or an `@`, so everything before the last `@` is left out.
    let place = rest.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_is_in_a_folder_or_a_database() {
        assert!(matches!(Location::parse("sqlite:a/b"), Ok(Location::Folder(folder)) if folder == Path::new("a/b")));
        assert!(
            matches!(Location::parse("postgres://h/d"), Ok(Location::Postgres(url)) if url.starts_with("postgres://h/d"))
        );
        assert!(matches!(Location::parse("postgresql:///d"), Ok(Location::Postgres(_))));
        for wrong in ["", "a/b", "sqlite:", "mysql://h/d", "postgres:h"] {
            assert_eq!(Location::parse(wrong).err().map(|failure| failure.exit()), Some(Exit::Usage), "{wrong}");
        }
    }

    #[test]
    fn no_password_is_shown() {
        let shown = |url: &str| Location::Postgres(url.to_owned()).to_string();
        assert_eq!(shown("postgres://ann:secret@db:5432/grist?sslmode=require"), "postgres://db:5432/grist");
        assert_eq!(shown("postgres://ann:se@cret@db/grist"), "postgres://db/grist");
        assert_eq!(shown("postgres://ann:se/cret@db/grist"), "postgres://db/grist");
        assert_eq!(shown("postgres:///grist?password=secret"), "postgres:///grist");
    }
}
