//! Allocates without end, and writes to what it gets.

use std::hint::black_box;

use gristmill_guest::{Failure, Work};

pub(crate) fn run(_: &Work) -> Result<usize, Failure> {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    while black_box(true) {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
    Ok(hoard.len())
}
