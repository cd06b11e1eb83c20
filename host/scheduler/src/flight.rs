//! The work that a host has claimed and not settled.
//!
//! Owns its count, by lease, and its bytes: the inputs of attempts, and the results that wait to be settled. Never
//! decides what to claim.

use std::collections::HashMap;

use gristmill_model::{Fence, StageKey};
use gristmill_tracker::{Claim, Lease, Release};

use crate::pace::ATTEMPTS_IN_FLIGHT_MAX;

/// The claimed work, its count and its bytes.
pub(crate) struct Flight {
    /// The unsettled members of each lease, to give back what a host that ends still holds.
    leases: HashMap<Fence, Vec<StageKey>>,
    /// How many attempts run or wait for a thread: bounded, so that the channel to the threads never fills.
    attempts: usize,
    /// Bytes of the attempts' inputs, and of results that are not settled yet.
    bytes: u64,
    /// Nothing is claimed while `bytes` is at least this.
    bytes_max: u64,
    /// The largest value of `bytes` so far, for the summary.
    peak: u64,
}

impl Flight {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { leases: HashMap::new(), attempts: 0, bytes: 0, bytes_max, peak: 0 }
    }

    /// Adds a lease. Returns how many attempts and input bytes it has.
    pub(crate) fn begin(&mut self, lease: &Lease) -> (usize, u64) {
        let (attempts, bytes) = (lease.claims.len(), lease.claims.iter().map(Claim::bytes).sum());
        self.attempts += attempts;
        self.hold(bytes);
        self.leases.insert(lease.fence, lease.claims.iter().map(|claim| claim.key).collect());
        (attempts, bytes)
    }

    /// Records that `attempts` attempts are over. They got `input` bytes and returned `output` bytes.
    pub(crate) fn finish(&mut self, attempts: usize, input: u64, output: u64) {
        self.attempts -= attempts;
        self.settled(input);
        self.hold(output);
    }

    fn hold(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.peak = self.peak.max(self.bytes);
    }

    /// Records that results of so many bytes are settled.
    pub(crate) fn settled(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Removes members of a lease that are being settled or given back.
    pub(crate) fn forget(&mut self, fence: Fence, keys: &[StageKey]) {
        if let Some(held) = self.leases.get_mut(&fence) {
            if held.len() <= keys.len() {
                self.leases.remove(&fence);
            } else {
                held.retain(|key| !keys.contains(key));
            }
        }
    }

    /// The work that is claimed and neither settled nor given back: a host that must end now gives it back.
    pub(crate) fn held(&self) -> Vec<Release> {
        self.leases.iter().map(|(fence, keys)| Release { fence: *fence, keys: keys.clone() }).collect()
    }

    /// How many attempts run or wait for a thread.
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

    /// How many bytes of one stage may be in flight, so that a stage with large inputs leaves room for others.
    pub(crate) const fn stage_bytes_max(&self) -> u64 {
        self.bytes_max.div_ceil(2)
    }
}
