//! What the machine refuses: memory, threads, open files.
//!
//! Owns the distinction between such a refusal and a guest's fault. Never decides what follows from it.

use std::io;

use rustix::io::Errno;

/// The errors of a process that runs out of something, by its own limits or the machine's.
const REFUSALS: [Errno; 6] = [Errno::NOMEM, Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::FBIG, Errno::NOSPC];

/// The system's error, if an error of the engine comes from its refusal.
pub(crate) fn refusal(error: &wasmtime::Error) -> Option<io::Error> {
    let said = error.chain().find_map(|cause| {
        let by_library = || cause.downcast_ref::<io::Error>().and_then(Errno::from_io_error);
        cause.downcast_ref::<Errno>().copied().or_else(by_library)
    })?;
    REFUSALS.contains(&said).then(|| said.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_system_is_told_from_a_fault_of_the_guest() {
        let plain = wasmtime::Error::from(Errno::NOMEM);
        let wrapped = wasmtime::Error::from(io::Error::from(Errno::NOMEM)).context("mmap failed").context("a memory");
        for error in [plain, wrapped] {
            assert_eq!(refusal(&error).map(|refusal| refusal.kind()), Some(io::ErrorKind::OutOfMemory), "{error:?}");
        }
        let ours = wasmtime::Error::from(Errno::NOENT);
        let guest = wasmtime::Error::from(wasmtime::Trap::StackOverflow);
        assert!(refusal(&ours).is_none() && refusal(&guest).is_none());
    }
}
