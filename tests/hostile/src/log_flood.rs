//! Logs 64 MiB through the host, and as much to stdout and stderr.

use std::io::Write;

use gristmill_guest::{Failure, Work, log};

const LINE_BYTES: usize = 1 << 10;
const LINES: usize = (64 << 20) / LINE_BYTES;

pub(crate) fn run(_: &Work) -> Result<usize, Failure> {
    let line = "l".repeat(LINE_BYTES);
    let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr().lock());
    for _ in 0..LINES {
        log::info(&line);
        // A host may refuse more; the flood goes on.
        let _refused = (writeln!(stdout, "{line}"), writeln!(stderr, "{line}"));
    }
    Ok(LINES)
}
