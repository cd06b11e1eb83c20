//! When to try again.
//!
//! Owns the backoff formula. Its jitter comes from a hash and not from a generator, so that a simulation can be
//! replayed and two hosts agree. Never reads an outcome: see `outcome`.

use std::time::Duration;

use crate::{Digest, StageKey};

/// How far delays are spread, so that stages that failed together are not retried together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Anywhere from zero to the delay.
    Full,
    /// From half the delay to the delay.
    Equal,
    /// Exactly the delay.
    None,
}

/// Exponential backoff: `min(max, base × factor^(attempt − 1))`, then jitter.
/// The three jitters are those of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub base: Duration,
    /// What each further failure multiplies it by: at least 1.
    pub factor: f64,
    /// No delay is longer.
    pub max: Duration,
    /// How the delay is spread.
    pub jitter: Jitter,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(2), factor: 2.0, max: Duration::from_secs(600), jitter: Jitter::Full }
    }
}

impl Backoff {
    /// The delay after the `failures`-th failure (from 1) of this stage of this item. The same arguments give the
    /// same delay.
    pub fn delay(&self, failures: u32, key: StageKey) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let longest = self.max.as_secs_f64();
        // `min` also takes care of an overflow to infinity.
        let full = (self.base.as_secs_f64() * self.factor.powi(exponent)).min(longest);
        let spread = match self.jitter {
            Jitter::None => return Duration::from_secs_f64(full),
            Jitter::Full => full,
            Jitter::Equal => full / 2.0,
        };
        let seed = Digest::of_fields("gristmill jitter", [&key.0.to_le_bytes()[..], &failures.to_le_bytes()]);
        // 53 bits fill a double's mantissa: a fraction in [0, 1).
        let fraction = (seed.as_u64() >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(full - spread * fraction)
    }
}

/// How often a stage may be tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Failed attempts before the stage is dead: at least 1.
    pub max_attempts: u32,
    /// How many attempts may be lost with their host before the stage is dead as poison.
    pub max_lost: u32,
    /// How often a handler may say `later` before the stage is dead.
    pub max_deferrals: u32,
    /// How long after it first became ready a handler may go on saying `later` before the stage is dead.
    pub max_deferral_age: Duration,
    /// The delay between attempts.
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            max_lost: 3,
            max_deferrals: 100,
            max_deferral_age: Duration::from_hours(7 * 24),
            backoff: Backoff::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: StageKey = StageKey(77);

    #[test]
    fn without_jitter_the_delay_doubles_up_to_the_maximum() {
        let backoff = Backoff { jitter: Jitter::None, max: Duration::from_secs(15), ..Backoff::default() };
        let delays: Vec<u64> = (1..=5).map(|n| backoff.delay(n, KEY).as_secs()).collect();
        assert_eq!(delays, [2, 4, 8, 15, 15]);
        assert_eq!(backoff.delay(u32::MAX, KEY).as_secs(), 15);
    }

    #[test]
    fn full_jitter_uses_its_whole_range() {
        let backoff = Backoff { base: Duration::from_secs(100), ..Backoff::default() };
        let delays: Vec<f64> = (0..1000).map(|n| backoff.delay(1, StageKey(n)).as_secs_f64()).collect();
        let mean = delays.iter().sum::<f64>() / 1000.0;
        assert!((45.0..55.0).contains(&mean), "mean of a uniform spread over 100 s: {mean}");
        assert!(delays.iter().any(|d| *d < 5.0) && delays.iter().any(|d| *d > 95.0));
    }

    proptest! {
        #[test]
        fn a_delay_is_repeatable_and_within_its_bounds(
            failures in 1u32..10_000,
            key in any::<i64>(),
            base_ms in 0u64..100_000,
            factor in 1.0f64..10.0,
            max_ms in 0u64..10_000_000,
            kind in 0..3,
        ) {
            let jitter = [Jitter::Full, Jitter::Equal, Jitter::None][kind as usize];
            let max = Duration::from_millis(max_ms);
            let backoff = Backoff { base: Duration::from_millis(base_ms), factor, max, jitter };
            let delay = backoff.delay(failures, StageKey(key));
            prop_assert_eq!(delay, backoff.delay(failures, StageKey(key)));
            prop_assert!(delay <= max);
            if jitter == Jitter::Equal {
                let full = Backoff { jitter: Jitter::None, ..backoff }.delay(failures, StageKey(key));
                prop_assert!(delay + Duration::from_micros(1) >= full / 2);
            }
        }
    }
}
