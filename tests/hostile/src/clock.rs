//! Reads both clocks and random numbers: without a grant the first two stand still and the last repeat.
#![expect(clippy::disallowed_methods, reason = "reading clocks is the point")]

use std::hash::{BuildHasher, RandomState};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gristmill_guest::{Failure, Work};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Readings {
    /// Nanoseconds since 1970, as text, since a JSON number is not wide enough for some readers.
    wall_ns: String,
    /// How far each clock went between two readings with work in between.
    wall_step_ns: u128,
    monotonic_step_ns: u128,
    /// Two readings of what the standard library seeds its hash maps with.
    random: [String; 2],
}

pub(crate) fn run(_: &Work) -> Result<Readings, Failure> {
    let (monotonic, wall) = (Instant::now(), SystemTime::now());
    crate::spin_ms::spin(1_000_000);
    Ok(Readings {
        wall_ns: wall.duration_since(UNIX_EPOCH)?.as_nanos().to_string(),
        wall_step_ns: wall.elapsed()?.as_nanos(),
        monotonic_step_ns: monotonic.elapsed().as_nanos(),
        random: [random(), random()],
    })
}

fn random() -> String {
    format!("{:016x}", RandomState::new().hash_one(0))
}
