//! The summary of a run.
//!
//! Owns what a host reports about itself at its end. Never the truth about items: the tracker has that.

use std::collections::BTreeMap;
use std::time::Duration;

use gristmill_model::{Outcome, Timestamp};
use gristmill_tracker::Upserted;
use hdrhistogram::Histogram;

/// The summary of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// From the first event to the last.
    pub elapsed: Duration,
    /// How many items discovery found, by what became of them.
    pub discovered: Upserted,
    /// How many attempts ended with each outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// How many of them left a stage dead.
    pub dead: u64,
    /// How many completions came after their lease was taken away: they were dropped.
    pub late: u64,
    /// How many attempts were lost with another host, and charged.
    pub lost: u64,
    /// How many rounds the tracker committed.
    pub rounds: u64,
    /// When the last attempt was settled.
    pub settled_at: Option<Timestamp>,
    /// The most bytes of data and outputs that were in flight at once: claimed, or finished and not settled.
    pub in_flight_bytes_max: u64,
    /// The time of each attempt from ready to committed.
    pub latency: Latency,
    /// Whether somebody asked the host to stop before everything was done.
    pub interrupted: bool,
    /// Jobs whose discovery failed for good, and why.
    pub discovery_failures: Vec<(String, String)>,
}

impl Summary {
    /// All attempts.
    pub fn attempts(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

/// The longest time that is measured exactly, in microseconds; longer ones count as this.
const DAY_MICROS: u64 = 86_400_000_000;

/// A distribution of times, to two digits.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        // Two significant digits up to a day take a few kilobytes, however many times are recorded.
        let bounded = Histogram::new_with_bounds(1, DAY_MICROS, 2);
        Self(bounded.unwrap_or_else(|_| unreachable!("these bounds are within what a histogram allows")))
    }
}

impl Latency {
    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The time that `fraction` of all attempts did not exceed: 0.5 is the median.
    pub fn quantile(&self, fraction: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(fraction))
    }
}
