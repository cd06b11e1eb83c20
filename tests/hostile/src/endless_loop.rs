//! Never returns.

use std::hint::black_box;

use gristmill_guest::{Failure, Work};

pub(crate) fn run(_: &Work) -> Result<u64, Failure> {
    let mut count = 0_u64;
    while black_box(true) {
        count = black_box(count.wrapping_add(1));
    }
    Ok(count)
}
