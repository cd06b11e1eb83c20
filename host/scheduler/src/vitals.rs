//! Whether this host, its clock and its tracker are well.
//!
//! Owns the rhythm of heartbeats, which a jump of the wall clock does not disturb, and the decision whether this host
//! may now judge others. Never asks the time: callers pass it.

use std::time::Duration;

use gristmill_model::Timestamp;

/// The longest time between two heartbeats.
const BEAT_MAX: Duration = Duration::from_secs(5);
/// How many heartbeats a host may miss before its work is reaped.
const MISSES: u32 = 6;
/// A larger difference between the wall clock and the steady clock is a jump, not drift.
const JUMP: Duration = Duration::from_secs(2);

/// Heartbeats and clocks. Times of the steady clock are durations since the host began.
pub(crate) struct Vitals {
    /// The time between two heartbeats.
    beat: Duration,
    /// When the next one is due, by the steady clock.
    next: Duration,
    /// Both clocks at the last heartbeat, to notice a jump or a sleep.
    last: (Timestamp, Duration),
}

/// What a heartbeat found out about the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Whether this host may reap others.
    pub(crate) may_reap: bool,
    /// How far the wall clock jumped since the last heartbeat, and whether it jumped ahead.
    pub(crate) jump: Option<(Duration, bool)>,
}

impl Vitals {
    /// `takeover_after` is how long after its last heartbeat a host counts as vanished.
    pub(crate) fn new(takeover_after: Duration, now: Timestamp) -> Self {
        let beat = (takeover_after / MISSES).min(BEAT_MAX);
        Self { beat, next: beat, last: (now, Duration::ZERO) }
    }

    /// When the next heartbeat is due.
    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    /// Compares the two clocks at a heartbeat.
    pub(crate) fn beat(&mut self, wall: Timestamp, steady: Duration) -> Beat {
        let passed = steady.saturating_sub(self.last.1);
        let expected = self.last.0 + passed;
        let (ahead, back) = (wall.since(expected), expected.since(wall));
        let jump = if ahead > JUMP { Some((ahead, true)) } else { (back > JUMP).then_some((back, false)) };
        // A host that was itself asleep for some beats cannot judge the others yet. It does so at the next beat.
        let was_asleep = passed > self.beat * 3;
        self.last = (wall, steady);
        self.next = steady + self.beat;
        Beat { may_reap: !was_asleep, jump }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_quick_takeover_means_quick_heartbeats() {
        assert_eq!(Vitals::new(seconds(30), Timestamp(0)).next(), seconds(5));
        assert_eq!(Vitals::new(seconds(600), Timestamp(0)).next(), seconds(5));
        assert_eq!(Vitals::new(seconds(3), Timestamp(0)).next(), Duration::from_millis(500));
    }

    #[test]
    fn a_clock_that_jumps_ahead_keeps_nobody_from_judging_others() {
        let begin = Timestamp(0);
        let mut vitals = Vitals::new(seconds(30), begin);
        assert_eq!(vitals.beat(begin + seconds(5), seconds(5)), Beat { may_reap: true, jump: None });
        let jumped = vitals.beat(begin + HOUR + seconds(10), seconds(10));
        assert_eq!(
            jumped,
            Beat { may_reap: true, jump: Some((HOUR, true)) },
            "hosts are judged by the tracker's clock"
        );
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_delay_a_heartbeat() {
        let begin = Timestamp(0) + HOUR * 2;
        let mut vitals = Vitals::new(seconds(30), begin);
        let jumped = vitals.beat(begin + seconds(5) - HOUR, seconds(5));
        assert_eq!(jumped, Beat { may_reap: true, jump: Some((HOUR, false)) });
        assert_eq!(vitals.next(), seconds(10));
    }

    #[test]
    fn a_host_that_was_asleep_does_not_judge_at_once() {
        let begin = Timestamp(0);
        let mut vitals = Vitals::new(seconds(30), begin);
        assert!(!vitals.beat(begin + seconds(60), seconds(60)).may_reap);
        assert!(vitals.beat(begin + seconds(65), seconds(65)).may_reap);
    }
}
