//! The work of the loop: what is claimed, settled, given back, and lost.

use std::collections::HashMap;

use gristmill_model::{
    Counters, Digest, Disposition, Fence, HostId, Outcome, RetryPolicy, StageBit, StageId, StageKey, Timestamp,
    VersionId,
};

/// Settlements and claims of one host.
#[derive(Clone, Debug)]
pub struct Round {
    /// The host.
    pub host: HostId,
    /// When.
    pub now: Timestamp,
    /// What is finished.
    pub settlements: Vec<Settlement>,
    /// What is wanted.
    pub claims: Vec<ClaimRequest>,
}

/// Attempts of one lease that are finished.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The lease.
    pub fence: Fence,
    /// The attempts.
    pub completions: Vec<Completion>,
}

/// One finished attempt.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The stage of the item.
    pub key: StageKey,
    /// The version that ran.
    pub version: VersionId,
    /// How it ended.
    pub outcome: Outcome,
    /// What that leads to.
    pub disposition: Disposition,
    /// The output: present if and only if the disposition is `Done`.
    pub output: Option<Output>,
    /// The hash of what it was given.
    pub input_hash: Digest,
    /// What went wrong, or why it was skipped.
    pub error: Option<String>,
    /// What it logged.
    pub log: Option<String>,
    /// Since when it was ready.
    pub ready_at: Timestamp,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The most linear memory it had.
    pub memory_bytes_max: u64,
    /// What it was charged, by meter.
    pub charges: Vec<(String, f64)>,
}

impl Completion {
    /// How many bytes of text it has.
    pub fn bytes(&self) -> u64 {
        let output = self.output.as_ref().map(|output| &output.text);
        let texts = output.into_iter().chain(&self.error).chain(&self.log).map(String::len);
        (texts.sum::<usize>() + self.charges.iter().map(|(meter, _)| meter.len()).sum::<usize>()) as u64
    }
}

/// A stage's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// JSON.
    pub text: String,
    /// The hash of `text`.
    pub hash: Digest,
}

/// A wish for work of one stage.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest {
    /// The stage.
    pub stage: StageId,
    /// How many at most.
    pub limit: u32,
    /// How many a lease: what one thread runs in a row.
    pub chunk: u32,
    /// How many bytes of data and of outputs that they need: no more are claimed once there are so many, and one is
    /// claimed whatever its size. It bounds what a host holds in memory.
    pub bytes: u64,
}

/// What became of a round.
#[derive(Clone, Debug, Default)]
pub struct RoundDone {
    /// Completions that were recorded.
    pub applied: u64,
    /// Completions whose fence did not match: dropped.
    pub late: u64,
    /// Stages that became ready.
    pub released: u64,
    /// New work.
    pub leases: Vec<Lease>,
    /// The requested stages of which less was there than wanted.
    pub drained: Vec<StageId>,
    /// Attempts that the tracker refused to record as they were, and why: their stages are dead.
    pub refused: Vec<(StageKey, String)>,
}

impl RoundDone {
    /// Adds what became of another part of the same round.
    pub fn add(&mut self, part: Self) {
        self.applied += part.applied;
        self.late += part.late;
        self.released += part.released;
        self.leases.extend(part.leases);
        self.drained.extend(part.drained);
        self.refused.extend(part.refused);
    }
}

/// A batch of claimed work.
#[derive(Clone, Debug)]
pub struct Lease {
    /// What every write to this work must name.
    pub fence: Fence,
    /// The stage.
    pub stage: StageId,
    /// The work.
    pub claims: Vec<Claim>,
}

/// One claimed stage of an item, with all that an attempt is given.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The stage of the item.
    pub key: StageKey,
    /// What was counted before.
    pub counters: Counters,
    /// Since when it was ready.
    pub ready_at: Timestamp,
    /// When it was ready for the first time, before any attempt.
    pub first_ready_at: Timestamp,
    /// The item's key.
    pub item_key: String,
    /// The item's data.
    pub data: String,
    /// The hash of `data`.
    pub data_hash: Digest,
    /// When the item was discovered.
    pub discovered_at: Timestamp,
    /// The outputs of the stages it needs, by bit; a skipped one is absent.
    pub upstream: Vec<Upstream>,
    /// What of it cannot be read in the tracker, and why: it is not to be run. The rest may be empty then.
    pub damage: Option<String>,
}

impl Claim {
    /// How many bytes of data and of outputs it has.
    pub fn bytes(&self) -> u64 {
        let outputs = self.upstream.iter().map(|upstream| upstream.output.text.len());
        (self.data.len() + outputs.sum::<usize>()) as u64
    }
}

/// The output of a needed stage.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// That stage.
    pub bit: StageBit,
    /// Its output.
    pub output: Output,
}

/// Leased work that is given back.
#[derive(Clone, Debug)]
pub struct Release {
    /// The lease.
    pub fence: Fence,
    /// The work.
    pub keys: Vec<StageKey>,
}

/// Which hosts to give up.
#[derive(Clone, Debug)]
pub struct Reap {
    /// Who asks: never reaped itself.
    pub host: HostId,
    /// When.
    pub now: Timestamp,
    /// Another host whose last heartbeat is older has vanished, and its leases with it. A host that beats keeps its leases,
    /// however long they take. Where a lock says that no other host can be alive, this is `Timestamp(i64::MAX)`: then no
    /// clock is asked.
    pub heartbeat_before: Timestamp,
    /// How many leases at most.
    pub leases_max: u32,
    /// What a lost attempt leads to, by stage. Another stage's loss is charged, and whoever runs it decides on its death.
    pub policies: HashMap<StageId, RetryPolicy>,
}

/// What reaping took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Leases that were taken.
    pub leases: u64,
    /// Attempts that were charged as lost.
    pub attempts: u64,
    /// Of those, the ones that are dead now.
    pub dead: u64,
}
