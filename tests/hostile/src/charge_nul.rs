//! Charges to a meter whose name no database holds.

use gristmill_guest::{Failure, Work, charge};

pub(crate) fn run(_: &Work) -> Result<(), Failure> {
    charge("a\0b", 1.0);
    Ok(())
}
