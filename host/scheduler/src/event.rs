//! What the dispatcher hears, and what it says.
//!
//! Owns the two lists. Never decides anything.

use gristmill_model::JobId;
use gristmill_tracker::{Lease, Lost, Outlook, Release, Round, RoundDone, Upsert, Upserted};

use crate::discover::PageResult;
use crate::disk::Disk;
use crate::workers::Finished;

/// Something that happened.
pub(crate) enum Event {
    /// A thread finished attempts.
    Finished(Finished),
    /// The tracker settled and claimed.
    Round(RoundDone),
    /// Work was given back.
    Released,
    /// A handler answered with a page.
    Page(PageResult),
    /// So much of the job is ready that no page is asked for now.
    Backlogged(JobId),
    /// The tracker recorded a page.
    Upserted(JobId, Upserted),
    /// Waiting work became ready.
    Promoted(u64),
    /// What waits, and what is under way here and elsewhere.
    Outlook(Outlook),
    /// Vanished hosts lost their work.
    Reaped(Lost),
    /// Somebody else wrote to the tracker.
    Changed,
    /// How much room the disk has now.
    Disk(Disk),
    /// Time has passed.
    Woken,
    /// Somebody asked the host to stop.
    Stop,
}

/// Something to do.
pub(crate) enum Command {
    Round(Round),
    Run(Lease),
    Release(Vec<Release>),
    /// Ask for the page of that cursor, unless more than so much of the job is ready.
    Ask(JobId, Option<String>, u32),
    Upsert(Upsert),
    Promote(u32),
    Look,
    /// Let the threads give back what they have not begun.
    StopWorkers,
}
