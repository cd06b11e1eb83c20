//! The dispatcher's input and output.
//!
//! Owns the list of events and the list of commands. Never decides anything.

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
    /// Too many stages of the job are ready, so no page was asked for.
    Backlogged(JobId),
    /// The tracker recorded a page.
    Upserted(JobId, Upserted),
    /// Waiting work became ready.
    Promoted(u64),
    /// The tracker's answer: what waits, and what is leased here and elsewhere.
    Outlook(Outlook),
    /// Work of vanished hosts was reaped.
    Reaped(Lost),
    /// Somebody else wrote to the tracker.
    Changed,
    /// The free disk space crossed a threshold.
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
    /// Ask for the page of this cursor, unless more stages of the job than this number are ready.
    Ask(JobId, Option<String>, u32),
    Upsert(Upsert),
    Promote(u32),
    Look,
    /// Let the threads give back what they have not begun.
    StopWorkers,
}
