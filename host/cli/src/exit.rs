//! How the binary ends.
//!
//! Owns the one table of exit codes, and its text in `--help`. Never decides which code applies.

use std::fmt::Write;
use std::process::ExitCode;

/// How the binary ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command did what was asked.
    Ok,
    /// It ended, but something needs a person.
    Incomplete,
    /// The command line asks for something that does not exist.
    Usage,
    /// A job file or a component is wrong.
    Job,
    /// The data folder or its tracker cannot be used.
    Data,
    /// Anything else.
    Internal,
    /// Stopped at once.
    Interrupted,
}

impl Exit {
    /// Every way to end.
    pub(crate) const ALL: [Self; 7] =
        [Self::Ok, Self::Incomplete, Self::Usage, Self::Job, Self::Data, Self::Internal, Self::Interrupted];

    /// The code that the shell sees. Part of the interface: never changed, never reused.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Incomplete => 1,
            Self::Usage => 2,
            Self::Job => 3,
            Self::Data => 4,
            Self::Internal => 5,
            // As shells report a process that a signal ended: 128 and the number of SIGINT.
            Self::Interrupted => 130,
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "what was asked is done; also a run that was stopped, and gave back what it had not finished",
            Self::Incomplete => {
                "something is left: dead stages, a failed discovery, an unfinished operation, a difference for the doctor"
            }
            Self::Usage => "the command line is wrong, or names a job, an item or a stage that is not known",
            Self::Job => "a job file, a component or a handler's source is wrong",
            Self::Data => {
                "the data folder or the database cannot be used: locked, missing, damaged, unsafe, read-only, of a newer version, full"
            }
            Self::Internal => "a bug in gristmill, or a machine that cannot run it",
            Self::Interrupted => {
                "stopped at once, by a second signal or before anything was run; the next run goes on from there"
            }
        }
    }

    /// The table that `--help` ends with.
    pub(crate) fn table() -> String {
        let mut table = "Exit codes:\n".to_owned();
        for exit in Self::ALL {
            let _ = writeln!(table, "  {:>3}  {}", exit.code(), exit.meaning());
        }
        table
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_as_documented() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 130]);
        for exit in Exit::ALL {
            assert!(Exit::table().contains(&format!("{:>3}  {}", exit.code(), exit.meaning())));
        }
    }
}
