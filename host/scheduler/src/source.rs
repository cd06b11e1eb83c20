//! Where a job's items come from: how far its discovery is, and when it goes on.
//!
//! Owns the cursor of the page at hand, what is tried again, and the end of a pass. Never asks for a page itself: the
//! dispatcher does, when the time has come.

use std::time::Duration;

use gristmill_model::{Counters, DeadReason, DiscoverTuning, Disposition, StageKey, Timestamp, decide};

use crate::discover::PageFailure;
use crate::trail::Trail;

/// How far discovery is.
pub(crate) enum Discovery {
    /// A page is being made or recorded.
    Running,
    /// The next page, or the next pass, starts then.
    Waiting { at: Timestamp, cursor: Option<String> },
    /// The last pass is over, or failed for good.
    Over,
}

/// The discovery of one job.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) tuning: DiscoverTuning,
    pub(crate) discovery: Discovery,
    failures: u32,
    /// The cursor of the page at hand, to ask for it again.
    pub(crate) cursor: Option<String>,
    trail: Trail,
    /// The page at hand leads nowhere: what it found is recorded, and then discovery is over.
    leads_nowhere: bool,
}

impl Source {
    pub(crate) fn new(name: &str, tuning: DiscoverTuning, cursor: Option<String>, now: Timestamp) -> Self {
        let mut trail = Trail::default();
        trail.step(cursor.as_deref());
        let discovery = Discovery::Waiting { at: now, cursor };
        Self { name: name.to_owned(), tuning, discovery, failures: 0, cursor: None, trail, leads_nowhere: false }
    }

    /// Takes in where a page leads. Returns its own cursor, that of the next page, and what is wrong with it: then it is
    /// not followed.
    pub(crate) fn follow(&mut self, next: Option<String>) -> (Option<String>, Option<String>, Option<&'static str>) {
        self.failures = 0;
        let fault = next.as_deref().and_then(|next| self.trail.fault(next));
        self.leads_nowhere = fault.is_some();
        let next = next.filter(|_| fault.is_none());
        (std::mem::replace(&mut self.cursor, next.clone()), next, fault)
    }

    /// Takes in that the page at hand is recorded. In a host that watches, a pass is followed by another.
    pub(crate) fn recorded(&mut self, now: Timestamp, watch: bool) {
        self.trail.step(self.cursor.as_deref());
        let every = self.tuning.every.filter(|_| watch && !self.leads_nowhere);
        self.discovery = match (self.cursor.take(), every) {
            (Some(cursor), _) => Discovery::Waiting { at: now, cursor: Some(cursor) },
            (None, Some(every)) => Discovery::Waiting { at: now + every, cursor: None },
            (None, None) => Discovery::Over,
        };
    }

    /// Takes in a failed page. Returns why discovery is over, or none if it is tried again.
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
            // A page that is skipped is an odd thing to say, and means that there is nothing to discover.
            Disposition::Done | Disposition::Skipped => {
                self.discovery = Discovery::Over;
                None
            }
        }
    }
}
