//! Waits in the host for a time that never comes: no instruction of the guest runs that could be interrupted.
#![expect(clippy::disallowed_methods, reason = "that is the attack")]

use std::time::Duration;

use gristmill_guest::{Failure, Work};

pub(crate) fn run(_: &Work) -> Result<(), Failure> {
    loop {
        std::thread::sleep(Duration::from_hours(24 * 365));
    }
}
