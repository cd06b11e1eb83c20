//! The state machine of one stage of one item.
//!
//! Owns every legal step. Nothing moves a stage in any other way: the tracker's random sequences check each step that
//! they see. Never decides *which* step an outcome takes: see `outcome`.

use thiserror::Error;

/// The state of a stage of an item. A blocked stage has nothing stored: no queue row, no bit in any mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Its needs are not settled.
    Blocked,
    /// May be claimed.
    Ready,
    /// Claimed by a host, under a fence.
    Leased,
    /// Will be ready at a known time: after a backoff, or when the handler asked to be called again.
    Waiting,
    /// Has a result.
    Done,
    /// Does not apply to its item.
    Skipped,
    /// Failed for good.
    Dead,
    /// Its item was cancelled.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Blocked,
        Self::Ready,
        Self::Leased,
        Self::Waiting,
        Self::Done,
        Self::Skipped,
        Self::Dead,
        Self::Cancelled,
    ];

    /// The number that databases store. Part of the schema: never changed, never reused.
    pub const fn code(self) -> i64 {
        match self {
            Self::Blocked => 0,
            Self::Ready => 1,
            Self::Leased => 2,
            Self::Waiting => 3,
            Self::Done => 4,
            Self::Skipped => 5,
            Self::Dead => 6,
            Self::Cancelled => 7,
        }
    }

    /// The state of that number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// The name that people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What can happen to a stage of an item. A stage in the queue may still have an older output, which counts again when
/// the stage leaves the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Its needs are settled.
    Release,
    /// A host claimed it.
    Claim,
    /// An attempt returned an output.
    Succeed,
    /// An attempt said that the stage does not apply. Or the stage needs an output that will never exist; then its own
    /// older output is given up too.
    Skip,
    /// An attempt failed or was lost, and another one is due.
    Postpone,
    /// An attempt failed or was lost, and there will be no other.
    Die,
    /// Its host gave it back, uncharged.
    GiveBack,
    /// Its time has come.
    Promote,
    /// A person cancelled the item. A leased stage may finish, and is cancelled if it comes back without an outcome.
    Cancel,
    /// A person restored the cancelled item.
    Restore,
    /// A person wants a dead stage tried again.
    Redrive,
    /// A person wants a dead stage with an older output tried again. That output counts until there is a new one.
    Revive,
    /// A settled stage runs again: a person asked for it, or its item's data or an output that it needs changed.
    Reprocess,
    /// It leaves the queue and has no older outcome. The job was edited, an outcome that it needs is gone, or the queue
    /// is rebuilt.
    Withdraw,
    /// It leaves the queue, and its older output counts again.
    KeepDone,
    /// It leaves the queue, and it was skipped before.
    KeepSkipped,
    /// Its outcome is deleted, since its stage is in no job file any more.
    Forget,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 17] = [
        Self::Release,
        Self::Claim,
        Self::Succeed,
        Self::Skip,
        Self::Postpone,
        Self::Die,
        Self::GiveBack,
        Self::Promote,
        Self::Cancel,
        Self::Restore,
        Self::Redrive,
        Self::Revive,
        Self::Reprocess,
        Self::Withdraw,
        Self::KeepDone,
        Self::KeepSkipped,
        Self::Forget,
    ];
}

/// An event that cannot happen to a stage in that state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a stage that is {} cannot take {event:?}", state.name())]
pub struct IllegalTransition {
    /// Where the stage stood.
    pub state: State,
    /// What was asked of it.
    pub event: Event,
}

/// The state after an event.
///
/// # Errors
/// If the state machine has no such step.
pub const fn transition(state: State, event: Event) -> Result<State, IllegalTransition> {
    Ok(match (state, event) {
        (State::Blocked, Event::Release)
        | (State::Leased, Event::GiveBack)
        | (State::Waiting, Event::Promote)
        | (State::Done | State::Skipped, Event::Reprocess) => State::Ready,
        (State::Ready, Event::Claim) => State::Leased,
        (State::Leased, Event::Succeed)
        | (State::Dead, Event::Revive)
        | (State::Ready | State::Leased | State::Waiting, Event::KeepDone) => State::Done,
        // Stages of a cancelled item are skipped as a consequence too, so that nothing is left to do when it is
        // restored.
        (State::Leased | State::Blocked | State::Cancelled | State::Done, Event::Skip)
        | (State::Ready | State::Leased | State::Waiting, Event::KeepSkipped) => State::Skipped,
        (State::Leased, Event::Postpone) => State::Waiting,
        (State::Leased, Event::Die) => State::Dead,
        (State::Blocked | State::Ready | State::Leased | State::Waiting, Event::Cancel) => State::Cancelled,
        (State::Cancelled, Event::Restore)
        | (State::Dead, Event::Redrive)
        | (State::Ready | State::Leased | State::Waiting, Event::Withdraw)
        | (State::Done | State::Skipped | State::Dead, Event::Forget) => State::Blocked,
        (state, event) => return Err(IllegalTransition { state, event }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document that shows the steps to people.
    const ARCHITECTURE: &str = include_str!("../../../ARCHITECTURE.md");

    /// The table, written out a second time as a person would draw it: one line for each legal step.
    const LEGAL: [(State, Event, State); 32] = [
        (State::Blocked, Event::Release, State::Ready),
        (State::Blocked, Event::Skip, State::Skipped),
        (State::Blocked, Event::Cancel, State::Cancelled),
        (State::Ready, Event::Claim, State::Leased),
        (State::Ready, Event::Cancel, State::Cancelled),
        (State::Ready, Event::Withdraw, State::Blocked),
        (State::Ready, Event::KeepDone, State::Done),
        (State::Ready, Event::KeepSkipped, State::Skipped),
        (State::Leased, Event::Succeed, State::Done),
        (State::Leased, Event::Skip, State::Skipped),
        (State::Leased, Event::Postpone, State::Waiting),
        (State::Leased, Event::Die, State::Dead),
        (State::Leased, Event::GiveBack, State::Ready),
        (State::Leased, Event::Cancel, State::Cancelled),
        (State::Leased, Event::Withdraw, State::Blocked),
        (State::Leased, Event::KeepDone, State::Done),
        (State::Leased, Event::KeepSkipped, State::Skipped),
        (State::Waiting, Event::Promote, State::Ready),
        (State::Waiting, Event::Cancel, State::Cancelled),
        (State::Waiting, Event::Withdraw, State::Blocked),
        (State::Waiting, Event::KeepDone, State::Done),
        (State::Waiting, Event::KeepSkipped, State::Skipped),
        (State::Done, Event::Skip, State::Skipped),
        (State::Done, Event::Reprocess, State::Ready),
        (State::Done, Event::Forget, State::Blocked),
        (State::Skipped, Event::Reprocess, State::Ready),
        (State::Skipped, Event::Forget, State::Blocked),
        (State::Dead, Event::Redrive, State::Blocked),
        (State::Dead, Event::Revive, State::Done),
        (State::Dead, Event::Forget, State::Blocked),
        (State::Cancelled, Event::Skip, State::Skipped),
        (State::Cancelled, Event::Restore, State::Blocked),
    ];

    #[test]
    fn the_whole_product_of_states_and_events_is_as_drawn() {
        for state in State::ALL {
            for event in Event::ALL {
                let drawn = LEGAL.iter().find(|(from, on, _)| (*from, *on) == (state, event)).map(|(_, _, to)| *to);
                assert_eq!(transition(state, event).ok(), drawn, "{state:?} on {event:?}");
            }
        }
    }

    /// Every legal step, a line each: where it begins, what happens, where it ends.
    #[test]
    fn the_steps_are_shown_in_the_architecture() {
        for state in State::ALL {
            for event in Event::ALL {
                let Ok(next) = transition(state, event) else { continue };
                let line = format!("    {:<9} ── {:<11} ─▶ {}\n", state.name(), format!("{event:?}"), next.name());
                assert!(ARCHITECTURE.contains(&line), "it shows the step\n{line}");
            }
        }
        let shown = ARCHITECTURE.lines().filter(|line| line.split_whitespace().nth(1) == Some("──")).count();
        assert_eq!(shown, LEGAL.len(), "it shows no other step");
    }

    #[test]
    fn codes_are_unique_and_reversible() {
        for state in State::ALL {
            assert_eq!(State::from_code(state.code()), Some(state));
        }
    }
}
