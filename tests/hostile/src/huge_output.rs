//! Returns a JSON text of 64 MiB.

use gristmill_guest::{Failure, Work};

pub(crate) fn run(_: &Work) -> Result<String, Failure> {
    Ok("o".repeat(64 << 20))
}
