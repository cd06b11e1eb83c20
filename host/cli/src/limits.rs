//! The machine's limits for this process.
//!
//! Owns the check of the limits when a command starts, and the hint for each thing that the system refuses. Raises only
//! the limit of open files. Never changes the others: somebody chose them.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::context::runtime;
use crate::exit::Exit;
use crate::failure::Failure;

/// The smallest limit of open files that a command can work with: for the tracker, the event loops, and grants.
const FILES_MIN: u64 = 64;

/// Prepares the process for its limits.
pub(crate) fn prepare() -> Result<(), Failure> {
    let files = open_files();
    if files < FILES_MIN {
        let message = format!("this process may open {files} files, and gristmill needs {FILES_MIN}");
        return Err(Failure::new(Exit::Internal, message).hint("raise the limit of open files (`ulimit -n`)"));
    }
    outlive_large_files()
}

/// Raises the limit of open files as far as possible, and returns it. It is low only for programs that use `select`.
fn open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if raised.is_ok() { maximum } else { current }.unwrap_or(u64::MAX)
}

/// Lets a write beyond the limit of a file's size fail with an error. Otherwise SIGXFSZ would end the process silently.
fn outlive_large_files() -> Result<(), Failure> {
    let runtime = runtime()?;
    let _guard = runtime.enter();
    // The handler stays when this is dropped.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))
        .map(drop)
        .map_err(|error| Failure::of_machine("a signal cannot be handled", &error))
}

/// The hint for an error of the system.
pub(crate) fn hint(error: &io::Error) -> Option<&'static str> {
    Some(match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => "raise the limit of threads (`ulimit -u`), or ask for fewer with --workers",
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit of open files (`ulimit -n`)",
        Some(Errno::FBIG) => "raise the limit of a file's size (`ulimit -f`)",
        Some(Errno::NOSPC | Errno::DQUOT) => "free some space",
        Some(Errno::NAMETOOLONG) => "choose a shorter path",
        Some(Errno::NOMEM) => OUT_OF_MEMORY,
        None if error.kind() == io::ErrorKind::OutOfMemory => OUT_OF_MEMORY,
        _ => return None,
    })
}

const OUT_OF_MEMORY: &str = "free some memory, raise the limit of this process (`ulimit -v`), or use fewer --workers";

/// The system's refusal, if a library panicked because of one. The panic then quotes an error of the system.
pub(crate) fn refusal(panic: &str) -> Option<io::Error> {
    const FORMS: [&str; 2] = ["Os { code: ", "(os error "];
    const REFUSALS: [Errno; 4] = [Errno::NOMEM, Errno::AGAIN, Errno::MFILE, Errno::NFILE];
    let code = FORMS.iter().find_map(|form| panic.split_once(form)).map(|(_, rest)| rest)?;
    let end = code.find(|letter: char| !letter.is_ascii_digit())?;
    let error = Errno::from_raw_os_error(code[..end].parse().ok()?);
    REFUSALS.contains(&error).then(|| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_because_of_a_limit_is_told_from_a_bug() {
        let tokio =
            "failed to create UnixStream: Os { code: 24, kind: Uncategorized, message: \"Too many open files\" }";
        let threads = "OS can't spawn worker thread: Resource temporarily unavailable (os error 11)";
        for (panic, says) in [(tokio, "ulimit -n"), (threads, "ulimit -u")] {
            let refused = refusal(panic).unwrap();
            assert!(hint(&refused).unwrap().contains(says), "{refused}");
        }
        for bug in ["index out of bounds", "no file: Os { code: 2, kind: NotFound }", "(os error )"] {
            assert!(refusal(bug).is_none(), "{bug}");
        }
    }
}
