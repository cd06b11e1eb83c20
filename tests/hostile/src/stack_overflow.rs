//! Recurses without end.

use std::hint::black_box;

use gristmill_guest::{Failure, Work};

pub(crate) fn run(_: &Work) -> Result<u64, Failure> {
    Ok(deeper(black_box(1)))
}

/// Multiplied by an odd number, an odd number is never 0. What follows the call keeps it from becoming a loop. Nothing
/// is in memory, so that the host's own stack ends first, and not the guest's.
#[inline(never)]
fn deeper(odd: u64) -> u64 {
    if odd == 0 { 0 } else { deeper(odd.wrapping_mul(3)).rotate_left(7) ^ odd }
}
