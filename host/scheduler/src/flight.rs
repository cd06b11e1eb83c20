//! What a host has claimed and not settled.
//!
//! Owns its count by lease, and its bytes: of the data and outputs that attempts are given, and of what is finished and
//! waits to be settled. Never says what to claim.

use std::collections::HashMap;

use gristmill_model::{Fence, StageKey};
use gristmill_tracker::{Claim, Lease, Release};

use crate::pace::ATTEMPTS_IN_FLIGHT_MAX;

/// See the module.
pub(crate) struct Flight {
    leases: HashMap<Fence, Vec<StageKey>>,
    /// With a thread, or on the way to one.
    attempts: usize,
    /// Of what attempts are given, and of what they made and is not settled yet.
    bytes: u64,
    /// The most that `bytes` may be when something is claimed.
    bytes_max: u64,
    /// The most that `bytes` ever was: a host tells it.
    peak: u64,
}

impl Flight {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { leases: HashMap::new(), attempts: 0, bytes: 0, bytes_max, peak: 0 }
    }

    /// Takes in a lease. Returns how many attempts and bytes it has.
    pub(crate) fn begin(&mut self, lease: &Lease) -> (usize, u64) {
        let (attempts, bytes) = (lease.claims.len(), lease.claims.iter().map(Claim::bytes).sum());
        self.attempts += attempts;
        self.hold(bytes);
        self.leases.insert(lease.fence, lease.claims.iter().map(|claim| claim.key).collect());
        (attempts, bytes)
    }

    /// Takes in that so many attempts are over, which were given `input` bytes and made `output` bytes.
    pub(crate) fn finish(&mut self, attempts: usize, input: u64, output: u64) {
        self.attempts -= attempts;
        self.settled(input);
        self.hold(output);
    }

    fn hold(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.peak = self.peak.max(self.bytes);
    }

    /// Takes in that so many bytes are with the tracker.
    pub(crate) fn settled(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Members of a lease are being settled or given back.
    pub(crate) fn forget(&mut self, fence: Fence, keys: &[StageKey]) {
        if let Some(held) = self.leases.get_mut(&fence) {
            if held.len() <= keys.len() {
                self.leases.remove(&fence);
            } else {
                held.retain(|key| !keys.contains(key));
            }
        }
    }

    /// What is claimed and neither settled nor given back: for a host that must end now.
    pub(crate) fn held(&self) -> Vec<Release> {
        self.leases.iter().map(|(fence, keys)| Release { fence: *fence, keys: keys.clone() }).collect()
    }

    /// How many attempts run, or are handed to threads.
    pub(crate) const fn attempts(&self) -> usize {
        self.attempts
    }

    /// The most bytes that were in flight at once.
    pub(crate) const fn peak(&self) -> u64 {
        self.peak
    }

    /// How many attempts may be claimed.
    pub(crate) const fn room(&self) -> usize {
        ATTEMPTS_IN_FLIGHT_MAX.saturating_sub(self.attempts)
    }

    /// How many bytes may be claimed.
    pub(crate) const fn bytes_room(&self) -> u64 {
        self.bytes_max.saturating_sub(self.bytes)
    }

    /// How many bytes of one stage may be in flight: one that is given much leaves room for others.
    pub(crate) const fn stage_bytes_max(&self) -> u64 {
        self.bytes_max.div_ceil(2)
    }
}
