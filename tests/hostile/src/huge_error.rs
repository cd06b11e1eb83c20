//! Fails with a message of 64 MiB, to see where the host cuts it.

use gristmill_guest::{Failure, Work};

pub(crate) fn run(_: &Work) -> Result<(), Failure> {
    Err(Failure::permanent("e".repeat(64 << 20)))
}
