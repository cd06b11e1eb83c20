//! How an attempt can end, and what that leads to.
//!
//! Owns the list of outcomes, and the decision whether a stage is done, tried again or dead. Whatever a guest does is
//! one of these outcomes, never an error of the host. Never writes: it returns a `Disposition`, which the tracker
//! records.

use std::time::Duration;

use crate::{RetryPolicy, StageKey};

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It returned an output.
    Done,
    /// It said that the stage does not apply.
    Skipped,
    /// It said `retry`.
    Retry,
    /// It said `later`.
    Later,
    /// It said `permanent`.
    Permanent,
    /// It trapped: a panic, an unreachable, a division by zero, a stack overflow.
    Trap,
    /// It ran longer than its limit.
    Timeout,
    /// It wanted more memory than its limit.
    Memory,
    /// Its output is larger than its limit, or is not JSON.
    BadOutput,
    /// Its host vanished.
    Lost,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Skipped,
        Self::Retry,
        Self::Later,
        Self::Permanent,
        Self::Trap,
        Self::Timeout,
        Self::Memory,
        Self::BadOutput,
        Self::Lost,
    ];

    /// The number that databases store. Part of the schema: never changed, never reused.
    pub const fn code(self) -> i64 {
        match self {
            Self::Done => 1,
            Self::Skipped => 2,
            Self::Retry => 3,
            Self::Later => 4,
            Self::Permanent => 5,
            Self::Trap => 6,
            Self::Timeout => 7,
            Self::Memory => 8,
            Self::BadOutput => 9,
            Self::Lost => 10,
        }
    }

    /// The outcome of that number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.code() == code)
    }

    /// The name that people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Retry => "retry",
            Self::Later => "later",
            Self::Permanent => "permanent",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::BadOutput => "bad-output",
            Self::Lost => "lost",
        }
    }
}

/// How often a stage of an item was tried without success, before the current attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Attempts that failed.
    pub attempts: u32,
    /// Attempts that were lost with their host.
    pub lost: u32,
    /// Attempts that said `later`.
    pub deferrals: u32,
}

impl Counters {
    /// The counters after one more attempt with that outcome.
    pub const fn after(self, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Later => Self { deferrals: self.deferrals.saturating_add(1), ..self },
            Outcome::Lost => Self { lost: self.lost.saturating_add(1), ..self },
            _ => Self { attempts: self.attempts.saturating_add(1), ..self },
        }
    }
}

/// Why a stage is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadReason {
    /// It failed as often as the job allows.
    Exhausted,
    /// Trying again cannot help.
    Permanent,
    /// It was lost with its host as often as the job allows.
    Poison,
    /// It said `later` as often, or as long, as the job allows.
    Deferred,
    /// It broke a limit of the host, and would do so again.
    Guard,
    /// It was not run: its input is damaged in the tracker.
    Damaged,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Exhausted, Self::Permanent, Self::Poison, Self::Deferred, Self::Guard, Self::Damaged];

    /// The number that databases store. Part of the schema: never changed, never reused.
    pub const fn code(self) -> i64 {
        match self {
            Self::Exhausted => 1,
            Self::Permanent => 2,
            Self::Poison => 3,
            Self::Deferred => 4,
            Self::Guard => 5,
            Self::Damaged => 6,
        }
    }

    /// The reason of that number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The name that people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Permanent => "permanent",
            Self::Poison => "poison",
            Self::Deferred => "deferred",
            Self::Guard => "guard",
            Self::Damaged => "damaged",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// What an outcome leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The stage has its result.
    Done,
    /// The stage is skipped.
    Skipped,
    /// Another attempt, after this long.
    Wait(Duration),
    /// No other attempt.
    Dead(DeadReason),
}

/// Decides what the outcome of an attempt leads to. `before` has the counts before this attempt. `after` is how long
/// the handler asked to wait: it replaces the backoff, up to the policy's maximum. `age` is the time since the stage
/// first became ready. A `pure` stage that traps or outgrows a limit is not retried, since it would do so again.
pub fn decide(
    outcome: Outcome,
    after: Option<Duration>,
    before: Counters,
    age: Duration,
    policy: &RetryPolicy,
    key: StageKey,
    pure: bool,
) -> Disposition {
    let counted = before.after(outcome);
    let delay = |failures| after.map_or_else(|| policy.backoff.delay(failures, key), |d| d.min(policy.backoff.max));
    match outcome {
        Outcome::Done => Disposition::Done,
        Outcome::Skipped => Disposition::Skipped,
        Outcome::Permanent => Disposition::Dead(DeadReason::Permanent),
        Outcome::Trap if pure => Disposition::Dead(DeadReason::Permanent),
        Outcome::Memory | Outcome::BadOutput if pure => Disposition::Dead(DeadReason::Guard),
        Outcome::Lost => decide_lost(before, policy, key),
        Outcome::Later if counted.deferrals >= policy.max_deferrals || age >= policy.max_deferral_age => {
            Disposition::Dead(DeadReason::Deferred)
        }
        Outcome::Later => Disposition::Wait(delay(counted.deferrals)),
        Outcome::Retry | Outcome::Trap | Outcome::Timeout | Outcome::Memory | Outcome::BadOutput => {
            if counted.attempts >= policy.max_attempts {
                Disposition::Dead(DeadReason::Exhausted)
            } else {
                Disposition::Wait(delay(counted.attempts))
            }
        }
    }
}

/// Decides what a lost attempt leads to: its host stopped before it was settled.
pub fn decide_lost(before: Counters, policy: &RetryPolicy, key: StageKey) -> Disposition {
    let lost = before.after(Outcome::Lost).lost;
    if lost >= policy.max_lost {
        Disposition::Dead(DeadReason::Poison)
    } else {
        Disposition::Wait(policy.backoff.delay(lost, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backoff, Jitter};

    const KEY: StageKey = StageKey(77);

    fn policy() -> RetryPolicy {
        let backoff = Backoff { jitter: Jitter::None, ..Backoff::default() };
        let max_deferral_age = Duration::from_secs(60);
        RetryPolicy { max_attempts: 3, max_lost: 2, max_deferrals: 2, max_deferral_age, backoff }
    }

    fn run(outcome: Outcome, before: Counters) -> Disposition {
        decide(outcome, None, before, Duration::ZERO, &policy(), KEY, false)
    }

    #[test]
    fn attempts_deferrals_and_losses_have_caps_of_their_own() {
        let failed = |attempts| Counters { attempts, ..Counters::default() };
        assert_eq!(run(Outcome::Retry, failed(0)), Disposition::Wait(Duration::from_secs(2)));
        assert_eq!(run(Outcome::Retry, failed(1)), Disposition::Wait(Duration::from_secs(4)));
        assert_eq!(run(Outcome::Retry, failed(2)), Disposition::Dead(DeadReason::Exhausted));
        assert_eq!(run(Outcome::Later, failed(2)), Disposition::Wait(Duration::from_secs(2)));
        assert_eq!(
            run(Outcome::Later, Counters { deferrals: 1, ..failed(0) }),
            Disposition::Dead(DeadReason::Deferred)
        );
        assert_eq!(run(Outcome::Lost, failed(2)), Disposition::Wait(Duration::from_secs(2)));
        assert_eq!(run(Outcome::Lost, Counters { lost: 1, ..failed(0) }), Disposition::Dead(DeadReason::Poison));
    }

    #[test]
    fn a_handler_may_say_later_for_so_long() {
        let after = |seconds| {
            let age = Duration::from_secs(seconds);
            decide(Outcome::Later, None, Counters::default(), age, &policy(), KEY, false)
        };
        assert_eq!(after(59), Disposition::Wait(Duration::from_secs(2)));
        assert_eq!(after(60), Disposition::Dead(DeadReason::Deferred));
    }

    #[test]
    fn what_the_handler_asks_wins_within_the_maximum() {
        let before = Counters::default();
        let ask =
            |s| decide(Outcome::Retry, Some(Duration::from_secs(s)), before, Duration::ZERO, &policy(), KEY, false);
        assert_eq!(ask(77), Disposition::Wait(Duration::from_secs(77)));
        assert_eq!(ask(100_000), Disposition::Wait(Duration::from_secs(600)));
    }

    #[test]
    fn a_pure_stage_is_not_tried_again_where_it_would_fail_again() {
        for outcome in Outcome::ALL {
            let disposition = decide(outcome, None, Counters::default(), Duration::ZERO, &policy(), KEY, true);
            let dead = matches!(disposition, Disposition::Dead(DeadReason::Permanent | DeadReason::Guard));
            let same_again = [Outcome::Permanent, Outcome::Trap, Outcome::Memory, Outcome::BadOutput];
            assert_eq!(dead, same_again.contains(&outcome), "{outcome:?}: {disposition:?}");
        }
    }

    #[test]
    fn codes_are_unique_and_reversible() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_code(outcome.code()), Some(outcome));
        }
        for reason in DeadReason::ALL {
            assert_eq!(DeadReason::from_code(reason.code()), Some(reason));
        }
    }
}
