//! How much to have in flight.
//!
//! Owns the window and the chunk of each stage, computed from the time that its attempts take. Fast handlers get long
//! chunks, slow ones nearly single attempts, so that a lease never covers much more than what runs. Never claims.

use std::time::Duration;

/// The most attempts of all stages that are claimed and not settled. It bounds the host's memory.
pub const ATTEMPTS_IN_FLIGHT_MAX: usize = 4096;
/// The most attempts in one chunk.
pub const CHUNK_MAX: u32 = 64;
/// How long a chunk should keep a thread busy.
const CHUNK_TIME: Duration = Duration::from_millis(5);
/// How long a stage's window should keep all threads busy: longer than a commit takes.
const WINDOW_TIME: Duration = Duration::from_millis(60);
/// The weight of a new measure in the running mean.
const WEIGHT: f64 = 0.2;

/// A running mean of the time that one attempt of a stage takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    mean_seconds: Option<f64>,
}

impl Pace {
    /// Learns that `attempts` attempts took `elapsed` on one thread.
    pub(crate) fn learn(&mut self, attempts: usize, elapsed: Duration) {
        if attempts == 0 {
            return;
        }
        let sample = elapsed.as_secs_f64() / attempts as f64;
        self.mean_seconds = Some(self.mean_seconds.map_or(sample, |mean| mean + WEIGHT * (sample - mean)));
    }

    /// How many attempts a chunk has. One, until a time is known.
    pub(crate) fn chunk(&self) -> u32 {
        self.fit(CHUNK_TIME).clamp(1, CHUNK_MAX as usize) as u32
    }

    /// How many attempts may be claimed and not settled.
    pub(crate) fn window(&self, threads: usize) -> usize {
        (self.fit(WINDOW_TIME) * threads).clamp(2 * threads, ATTEMPTS_IN_FLIGHT_MAX)
    }

    fn fit(&self, time: Duration) -> usize {
        self.mean_seconds.map_or(1, |mean| (time.as_secs_f64() / mean.max(1e-7)) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_handlers_are_fed_in_long_rows_and_slow_ones_one_by_one() {
        let paced = |attempt| {
            let mut pace = Pace::default();
            pace.learn(10, attempt * 10);
            (pace.chunk(), pace.window(2))
        };
        assert_eq!(paced(Duration::from_micros(10)), (CHUNK_MAX, ATTEMPTS_IN_FLIGHT_MAX));
        assert_eq!(paced(Duration::from_millis(1)), (5, 120));
        assert_eq!(paced(Duration::from_secs(30)), (1, 4));
        assert_eq!((Pace::default().chunk(), Pace::default().window(2)), (1, 4), "nothing is known yet");
    }

    #[test]
    fn the_mean_follows_a_handler_that_becomes_slow() {
        let mut pace = Pace::default();
        pace.learn(1000, Duration::from_millis(10));
        for _ in 0..20 {
            pace.learn(1, Duration::from_secs(1));
        }
        assert_eq!(pace.chunk(), 1);
    }
}
