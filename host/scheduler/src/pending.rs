//! What the dispatcher waits for: a round, waiting work, other hosts.
//!
//! Owns the states of these three. Never decides what follows from them.

use gristmill_model::Timestamp;

/// What the dispatcher remembers of the round that the tracker is busy with.
pub(crate) struct RoundInFlight {
    /// When each attempt that it settles became ready, to measure latencies after the commit.
    pub(crate) ready: Vec<Timestamp>,
    /// Whether it postpones work: then the time of the next waiting work must be asked again.
    pub(crate) postpones: bool,
    /// `ready_epoch` when the round began.
    pub(crate) epoch: u64,
    /// How many bytes it settles, which are in flight until it is done.
    pub(crate) bytes: u64,
}

/// What is known about other hosts. Work that they have leased may release more.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Others {
    /// Nothing is leased.
    Nobody,
    /// Something is leased, and it may be this host's own.
    Perhaps,
    /// Something is leased by another host.
    Somebody,
}

/// What is known about waiting work.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Due {
    /// Nothing: the tracker must be asked.
    Unknown,
    /// The tracker was asked, or is promoting. `quiet`: this host has held nothing since, so whatever is leased belongs
    /// to other hosts.
    Asked { quiet: bool },
    /// The next waiting work becomes ready at this time.
    At(Timestamp),
    /// No work is waiting.
    None,
}
