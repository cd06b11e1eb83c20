//! Computes for about as many milliseconds as the item's data says (`{"ms": 50}`), without asking any clock.

use std::hint::black_box;

use gristmill_guest::{Failure, Work};
use serde::Deserialize;

/// Rounds in a millisecond on the machine where this was measured: near enough for a test that wants work to last.
const ROUNDS_A_MS: u64 = 900_000;

#[derive(Deserialize)]
struct Wanted {
    ms: u64,
}

pub(crate) fn run(work: &Work) -> Result<u64, Failure> {
    let Wanted { ms } = work.data()?;
    Ok(spin(ms.saturating_mul(ROUNDS_A_MS)))
}

/// A result that depends on every round, so that none can be left out.
pub(crate) fn spin(rounds: u64) -> u64 {
    (0..rounds).fold(1, |state, round| black_box(state ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
