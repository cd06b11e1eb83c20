//! The discovery of one job: how far it is, and when it goes on.
//!
//! Owns the cursor of the current page, retries, and the end of a pass. Never asks for a page itself: the dispatcher
//! does, when it is time.

use std::time::Duration;

use gristmill_model::{Counters, DeadReason, DiscoverTuning, Disposition, StageKey, Timestamp, decide};

use crate::discover::PageFailure;
use crate::trail::Trail;

/// How far discovery is.
pub(crate) enum Discovery {
    /// A page is being made or recorded.
    Running,
    /// The next page, or the next pass, starts at this time.
    Waiting { at: Timestamp, cursor: Option<String> },
    /// The last pass is over, or failed for good.
    Over,
}

/// The discovery of one job.
pub(crate) struct Source {
    /// The job's name, for the summary and the log.
    pub(crate) name: String,
    /// How often discovery runs, how large its pages are, and how it is retried.
    pub(crate) tuning: DiscoverTuning,
    /// Whether a page is being made, or when the next one starts.
    pub(crate) discovery: Discovery,
    /// How often the current page failed in a row, for its retry policy.
    failures: u32,
    /// The cursor of the current page, to ask for it again.
    pub(crate) cursor: Option<String>,
    /// The cursors of this pass, to find a circle.
    trail: Trail,
    /// Whether the next cursor of the current page must not be followed. The page is still recorded, then discovery is
    /// over.
    leads_nowhere: bool,
}

impl Source {
    pub(crate) fn new(name: &str, tuning: DiscoverTuning, cursor: Option<String>, now: Timestamp) -> Self {
        let mut trail = Trail::default();
        trail.step(cursor.as_deref());
        let discovery = Discovery::Waiting { at: now, cursor };
        Self { name: name.to_owned(), tuning, discovery, failures: 0, cursor: None, trail, leads_nowhere: false }
    }

    /// Takes the next cursor of a page. Returns the page's own cursor, the next one, and why it must not be followed,
    /// if so.
    pub(crate) fn follow(&mut self, next: Option<String>) -> (Option<String>, Option<String>, Option<&'static str>) {
        self.failures = 0;
        let fault = next.as_deref().and_then(|next| self.trail.fault(next));
        self.leads_nowhere = fault.is_some();
        let next = next.filter(|_| fault.is_none());
        (std::mem::replace(&mut self.cursor, next.clone()), next, fault)
    }

    /// Records that the current page is committed. A host that watches starts another pass after the last page.
    pub(crate) fn recorded(&mut self, now: Timestamp, watch: bool) {
        self.trail.step(self.cursor.as_deref());
        let every = self.tuning.every.filter(|_| watch && !self.leads_nowhere);
        self.discovery = match (self.cursor.take(), every) {
            (Some(cursor), _) => Discovery::Waiting { at: now, cursor: Some(cursor) },
            (None, Some(every)) => Discovery::Waiting { at: now + every, cursor: None },
            (None, None) => Discovery::Over,
        };
    }

    /// Records that a page failed. Returns why discovery is over, or none if the page is tried again.
    pub(crate) fn fail(&mut self, failure: &PageFailure, now: Timestamp) -> Option<DeadReason> {
        let counters = Counters { attempts: self.failures, ..Counters::default() };
        let (key, age, policy) = (StageKey(0), Duration::ZERO, &self.tuning.retry);
        match decide(failure.outcome, failure.after, counters, age, policy, key, false) {
            Disposition::Wait(delay) => {
                self.failures = counters.after(failure.outcome).attempts;
                self.discovery = Discovery::Waiting { at: now + delay, cursor: self.cursor.take() };
                None
            }
            Disposition::Dead(reason) => {
                self.discovery = Discovery::Over;
                Some(reason)
            }
            // A handler that skips a page means that there is nothing to discover.
            Disposition::Done | Disposition::Skipped => {
                self.discovery = Discovery::Over;
                None
            }
        }
    }
}
