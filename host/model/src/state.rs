//! The state machine of one stage of one item.
//!
//! Owns every legal step. The tracker's statements are these steps in SQL, and nothing moves a stage in any other
//! way. Never decides *which* step an outcome takes: see `outcome`.

use thiserror::Error;

/// Where a stage of an item stands. Blocked is the absence of everything: no queue row, no bit in any mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Its needs are not settled.
    Blocked,
    /// May be claimed.
    Ready,
    /// Claimed by a host, under a fence.
    Leased,
    /// Will be ready at a known time: a backoff, or something it waits for.
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

/// What can happen to a stage of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Its last need was settled.
    Release,
    /// A host claimed it.
    Claim,
    /// An attempt returned an output.
    Succeed,
    /// An attempt said that the stage does not apply, or a needed output will never be there.
    Skip,
    /// An attempt failed or was lost, and another one is due.
    Postpone,
    /// An attempt failed or was lost, and there is no other.
    Die,
    /// Its host gives it back, uncharged.
    GiveBack,
    /// Its time has come.
    Promote,
    /// A person cancelled the item.
    Cancel,
    /// A person wants a dead stage tried again.
    Redrive,
    /// A person wants a settled stage run again.
    Reprocess,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 11] = [
        Self::Release,
        Self::Claim,
        Self::Succeed,
        Self::Skip,
        Self::Postpone,
        Self::Die,
        Self::GiveBack,
        Self::Promote,
        Self::Cancel,
        Self::Redrive,
        Self::Reprocess,
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

/// The state that follows, or why none does.
pub const fn transition(state: State, event: Event) -> Result<State, IllegalTransition> {
    Ok(match (state, event) {
        (State::Blocked, Event::Release)
        | (State::Leased, Event::GiveBack)
        | (State::Waiting, Event::Promote)
        | (State::Dead, Event::Redrive)
        | (State::Done | State::Skipped, Event::Reprocess) => State::Ready,
        (State::Ready, Event::Claim) => State::Leased,
        (State::Leased, Event::Succeed) => State::Done,
        (State::Leased | State::Blocked, Event::Skip) => State::Skipped,
        (State::Leased, Event::Postpone) => State::Waiting,
        (State::Leased, Event::Die) => State::Dead,
        // A leased stage is let finish: its attempt is paid for.
        (State::Blocked | State::Ready | State::Waiting, Event::Cancel) => State::Cancelled,
        (state, event) => return Err(IllegalTransition { state, event }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table, written out once more as a person would draw it: one line a legal step.
    const LEGAL: [(State, Event, State); 15] = [
        (State::Blocked, Event::Release, State::Ready),
        (State::Blocked, Event::Skip, State::Skipped),
        (State::Blocked, Event::Cancel, State::Cancelled),
        (State::Ready, Event::Claim, State::Leased),
        (State::Ready, Event::Cancel, State::Cancelled),
        (State::Leased, Event::Succeed, State::Done),
        (State::Leased, Event::Skip, State::Skipped),
        (State::Leased, Event::Postpone, State::Waiting),
        (State::Leased, Event::Die, State::Dead),
        (State::Leased, Event::GiveBack, State::Ready),
        (State::Waiting, Event::Promote, State::Ready),
        (State::Waiting, Event::Cancel, State::Cancelled),
        (State::Done, Event::Reprocess, State::Ready),
        (State::Skipped, Event::Reprocess, State::Ready),
        (State::Dead, Event::Redrive, State::Ready),
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

    #[test]
    fn codes_are_unique_and_reversible() {
        for state in State::ALL {
            assert_eq!(State::from_code(state.code()), Some(state));
        }
    }
}
