//! Charges what is no number; the contract says that the call traps.

use gristmill_guest::{Failure, Work, charge};

pub(crate) fn run(_: &Work) -> Result<&'static str, Failure> {
    charge("tokens", f64::NAN);
    Ok("charged")
}
