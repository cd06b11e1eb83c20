//! Errors as people meet them: one clear sentence, a hint, an exit code.
//!
//! Owns the hint and the code of every error of the crates below. Never prints.

use std::io;

use gristmill_sandbox::Error as SandboxError;
use gristmill_scheduler::Error as SchedulerError;
use gristmill_tracker::Error as TrackerError;

use crate::exit::Exit;
use crate::format::bytes;

/// Why a command ends without having done what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told.
    Told {
        /// How the binary ends.
        exit: Exit,
        /// One sentence: a lower-case fragment.
        message: String,
        /// What would help.
        hint: Option<String>,
    },
    /// Everything has been said already.
    Said(Exit),
    /// Whoever read the output has gone. That is no error: `gristmill items audit | head`.
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

    /// What became of writing to the standard output.
    pub(crate) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::new(Exit::Internal, format!("the output cannot be written: {error}")),
        }
    }
}

impl From<TrackerError> for Failure {
    fn from(error: TrackerError) -> Self {
        let (exit, hint) = match &error {
            TrackerError::Missing(_) => {
                (Exit::Data, "say where it is with --data, or name the job by its file; `gristmill run` makes one")
            }
            TrackerError::Locked { .. } => {
                (Exit::Data, "stop it first, or give this one a folder of its own with --data")
            }
            TrackerError::Foreign(_) => {
                (Exit::Data, "choose another folder with --data: gristmill leaves files alone that are not its own")
            }
            TrackerError::Damaged(_) => {
                (Exit::Data, "put a copy of tracker.db back, or move the folder away to begin anew")
            }
            TrackerError::Newer { .. } => {
                (Exit::Data, "use the gristmill that made it, or choose another folder with --data")
            }
            TrackerError::ReadOnly(_) | TrackerError::File { .. } => {
                (Exit::Data, "it has to be a folder that can be written: choose another one with --data")
            }
            TrackerError::DiskFull => {
                (Exit::Data, "free some space, and run again: what was settled is kept, the rest is run then")
            }
            TrackerError::Busy => (Exit::Data, "try again when the other process (a backup?) is done with it"),
            TrackerError::Sql(_) => (Exit::Data, "nothing that was settled is lost: look at the disk, and run again"),
            TrackerError::TooManyStages(_) => (Exit::Job, "give the job a new name: it then starts from the beginning"),
            TrackerError::Overtaken(_) => (Exit::Data, "run again: it is read and merged anew"),
            TrackerError::UnknownOperation(_) => (Exit::Usage, "`gristmill operations` lists them"),
            TrackerError::OperationState { .. } => (Exit::Usage, "`gristmill operations` tells where each one stands"),
            TrackerError::NotEmpty(_) => (Exit::Data, "name a new one: nothing is ever written over"),
            TrackerError::InUse(_) => (
                Exit::Data,
                "stop every host first; what one that vanished held is given back by `gristmill run`, or by `gristmill doctor --rebuild`",
            ),
            TrackerError::Differs { .. } => {
                (Exit::Data, "see that nobody writes to either of them, empty the copy, and copy again")
            }
            TrackerError::Older { .. } => {
                (Exit::Data, "`gristmill run` brings it up to date once the other host has ended")
            }
            TrackerError::BadUrl => (Exit::Usage, "a password with `@`, `/` or `:` in it is written %40, %2F, %3A"),
            TrackerError::Unreachable { .. } => {
                (Exit::Data, "see that the server is up, and that its name and port are right")
            }
            TrackerError::Login(_) => {
                (Exit::Data, "give user and password in the URL: the variable GRISTMILL_TRACKER keeps it out of sight")
            }
            TrackerError::NoDatabase(_) => (Exit::Data, "`createdb` makes one; gristmill makes its schema in it"),
            TrackerError::Denied(_) => {
                (Exit::Data, "grant them, or use another user: it makes and writes the schema `gristmill`")
            }
            TrackerError::OldServer { .. } => (Exit::Data, "use a newer server"),
            TrackerError::Blob(_) => (Exit::Data, "`gristmill doctor` tells what is missing; a backup may have it"),
            TrackerError::UnknownJob(_) | TrackerError::Stopped => {
                (Exit::Internal, "nothing that was settled is lost: run again")
            }
        };
        Self::new(exit, error.to_string()).hint(hint)
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
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
            SchedulerError::Thread(_) => {
                Self::new(Exit::Internal, error.to_string()).hint("this machine may be out of memory or processes")
            }
            SchedulerError::TraceFile { .. } => {
                Self::new(Exit::Usage, error.to_string()).hint("name a file in a folder that can be written")
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

/// An error with what caused it: `cannot read x.wasm: permission denied`.
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
