//! Errors as people see them: one clear sentence, a hint, an exit code.
//!
//! Owns the hint and the code of every error of the crates below. Never prints.

use std::fmt;
use std::io;

use gristmill_sandbox::Error as SandboxError;
use gristmill_scheduler::Error as SchedulerError;
use gristmill_tracker::Error as TrackerError;

use crate::exit::Exit;
use crate::format::bytes;
use crate::limits;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error that is still to be printed.
    Told {
        /// How the binary ends.
        exit: Exit,
        /// One sentence: a lower-case fragment.
        message: String,
        /// A hint.
        hint: Option<String>,
    },
    /// Everything is already printed.
    Said(Exit),
    /// The reader of the output has gone. That is no error: `gristmill items audit | head`.
    PipeClosed,
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told { exit, message: message.into(), hint: None }
    }

    /// The same failure with a hint.
    pub(crate) fn hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Told { exit, message, .. } => Self::Told { exit, message, hint: Some(text.into()) },
            other => other,
        }
    }

    /// How the binary ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Told { exit, .. } | Self::Said(exit) => *exit,
            Self::PipeClosed => Exit::Ok,
        }
    }

    /// The failure of a write to the standard output.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::of_machine("the output cannot be written", error),
        }
    }

    /// The machine refused something: no fault of a job, and no bug.
    pub(crate) fn of_machine(what: impl fmt::Display, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::FileTooLarge {
            return TrackerError::FileTooLarge.into();
        }
        let hint = limits::hint(error).unwrap_or("look at the limits of this process: `ulimit -a`");
        Self::new(Exit::Internal, format!("{what}: {error}")).hint(hint)
    }
}

impl From<TrackerError> for Failure {
    fn from(error: TrackerError) -> Self {
        if let TrackerError::Machine { what, source } = &error {
            return Self::of_machine(what, source);
        }
        let exit = match &error {
            TrackerError::TooManyStages(_) => Exit::Job,
            TrackerError::UnknownOperation(_) | TrackerError::OperationState { .. } | TrackerError::BadUrl => {
                Exit::Usage
            }
            TrackerError::UnknownJob(_) | TrackerError::Stopped => Exit::Internal,
            _ => Exit::Data,
        };
        let hint = hint_of_file(&error).or_else(|| hint_of_server(&error)).unwrap_or_else(|| hint(&error));
        Self::new(exit, error.to_string()).hint(hint)
    }
}

/// The hint for a data folder.
fn hint_of_file(error: &TrackerError) -> Option<&'static str> {
    const WRITABLE: &str = "it has to be a folder that can be written: choose another one with --data";
    Some(match error {
        TrackerError::Missing(_) => {
            "say where it is with --data, or name the job by its file; `gristmill run` makes one"
        }
        TrackerError::Locked { .. } => "stop it first, or give this one a folder of its own with --data",
        TrackerError::Foreign(_) => {
            "choose another folder with --data: gristmill leaves files alone that are not its own"
        }
        TrackerError::Unsafe { .. } => {
            "it may have come from somebody else: look at it, and name a folder of your own with --data"
        }
        TrackerError::Schema(_) => "somebody else may have put it there, and changed more: use a backup that you trust",
        TrackerError::Damaged(_) => "put a copy of tracker.db back, or move the folder away to begin anew",
        TrackerError::ReadOnly(_) => WRITABLE,
        TrackerError::File { source, .. } => limits::hint(source).unwrap_or(WRITABLE),
        TrackerError::FileTooLarge => "raise that limit, and run again: what was settled is kept, the rest is run then",
        TrackerError::PathTooLong { .. } => "choose a shorter path with --data",
        TrackerError::Gone(_) => {
            "put the data folder back, or run again to begin anew: a folder in use is to be left where it is"
        }
        TrackerError::DiskFull => "free some space, and run again: what was settled is kept, the rest is run then",
        TrackerError::Busy => "try again when the other process (a backup?) is done with it",
        TrackerError::Blob(_) => "`gristmill doctor` tells what is missing; a backup may have it",
        TrackerError::Component(_) => "a run of a job with the same file puts it back; a backup may have it too",
        _ => return None,
    })
}

/// The hint for a database server.
fn hint_of_server(error: &TrackerError) -> Option<&'static str> {
    Some(match error {
        TrackerError::BadUrl => "a password with `@`, `/` or `:` in it is written %40, %2F, %3A",
        TrackerError::Unreachable { .. } => "see that the server is up, and that its name and port are right",
        TrackerError::Tls { .. } => {
            "set up TLS on the server, or reach it by a tunnel that ends on this machine; without a password, `?sslmode=prefer` goes on in clear"
        }
        TrackerError::Plain { .. } => {
            "leave `sslmode` out, and set up TLS on the server; or reach it by a tunnel that ends on this machine"
        }
        TrackerError::Login(_) => {
            "name the user in the URL; the password comes from PGPASSWORD, a passfile (~/.pgpass) or GRISTMILL_TRACKER"
        }
        TrackerError::NoDatabase(_) => "`createdb` makes one; gristmill makes its schema in it",
        TrackerError::Denied(_) => "grant them, or use another user: it makes and writes the schema `gristmill`",
        TrackerError::ReadOnlyDatabase(_) => {
            "name the primary in the URL, or set default_transaction_read_only = off for the user or the database"
        }
        TrackerError::TooManyConnections { .. } => {
            "raise max_connections, or the CONNECTION LIMIT of the user or the database: a host takes up to 9"
        }
        TrackerError::Encoding { .. } => {
            "make another database: `createdb --encoding=UTF8 --template=template0`; `gristmill tracker copy` fills it"
        }
        TrackerError::OldServer { .. } => "use a newer server",
        _ => return None,
    })
}

/// The hint for everything else.
fn hint(error: &TrackerError) -> &'static str {
    match error {
        TrackerError::Newer { .. } => "use the gristmill that made it, or choose another folder with --data",
        TrackerError::Older { .. } => "`gristmill run` brings it up to date once the other host has ended",
        TrackerError::Sql(_) => "nothing that was settled is lost: look at the disk, and run again",
        TrackerError::TooManyStages(_) => "give the job a new name: it then starts from the beginning",
        TrackerError::Overtaken(_) => "run again: it is read and merged anew",
        TrackerError::UnknownOperation(_) => "`gristmill operations` lists them",
        TrackerError::OperationState { .. } => "`gristmill operations` tells where each one stands",
        TrackerError::NotEmpty(_) => "name a new one: nothing is ever written over",
        TrackerError::InUse(_) => {
            "stop every host first; what one that vanished held is given back by `gristmill run`, or by `gristmill doctor --rebuild`"
        }
        TrackerError::Differs { .. } => "see that nobody writes to either of them, empty the copy, and copy again",
        _ => "nothing that was settled is lost: run again",
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        if let SandboxError::Machine { source } = &error {
            return Self::of_machine(&error, source);
        }
        let exit = if matches!(error, SandboxError::Engine { .. }) { Exit::Internal } else { Exit::Job };
        let failure = Self::new(exit, with_sources(&error));
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<SchedulerError> for Failure {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Tracker(error) => error.into(),
            SchedulerError::Sandbox(error) => error.into(),
            SchedulerError::Job { .. } => Self::new(Exit::Job, error.to_string()),
            SchedulerError::Thread(source) => Self::of_machine("a thread could not be started", &source),
            SchedulerError::Held { .. } => Self::new(Exit::Internal, error.to_string())
                .hint("does what a stage is granted lie on a disk or a network that does not answer? What had not begun is given back"),
            SchedulerError::TraceFile { ref source, .. } => {
                let hint = limits::hint(source).unwrap_or("name a file in a folder that can be written");
                Self::new(Exit::Usage, error.to_string()).hint(hint)
            }
            SchedulerError::DiskLow { min_free_bytes, .. } => {
                let free = bytes(min_free_bytes);
                Self::new(Exit::Data, error.to_string()).hint(format!(
                    "free some space, and run again: what was settled is kept. {free} are to stay free, as --min-free says"
                ))
            }
            SchedulerError::Stopped => {
                Self::new(Exit::Internal, error.to_string()).hint("nothing that was settled is lost: run again")
            }
        }
    }
}

/// An error with its causes: `cannot read x.wasm: permission denied`.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
