//! Rules: an attempt is lost with its host.
//!
//! Owns what is recorded of such an attempt, and what it leads to. It is then settled like any other. Never decides
//! which host has vanished.

use gristmill_model::{DeadReason, Digest, Disposition, Outcome, RetryPolicy, Timestamp, VersionId, decide_lost};

use super::Taken;
use crate::records::{Completion, Lost, Reap};

/// The completion of a lost attempt, of which almost nothing is known. If this host does not run the stage, it only
/// counts the loss, and a host that runs the stage decides whether it is dead.
pub fn lose(taken: &Taken, reap: &Reap, now: Timestamp) -> Completion {
    let unknown = RetryPolicy { max_lost: u32::MAX, ..RetryPolicy::default() };
    let policy = reap.policies.get(&taken.stage).unwrap_or(&unknown);
    Completion {
        key: taken.key,
        version: VersionId(0),
        outcome: Outcome::Lost,
        disposition: decide_lost(taken.counters, policy, taken.key),
        output: None,
        input_hash: Digest([0; 32]),
        error: Some("its host vanished".to_owned()),
        log: None,
        ready_at: now,
        started_at: now,
        ended_at: now,
        memory_bytes_max: 0,
        charges: Vec::new(),
    }
}

impl Lost {
    /// Counts an attempt that was lost.
    pub fn count(&mut self, completion: &Completion) {
        self.attempts += 1;
        self.dead += u64::from(completion.disposition == Disposition::Dead(DeadReason::Poison));
    }
}
