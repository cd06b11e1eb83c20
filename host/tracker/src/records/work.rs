//! The records of a host at work: what it claims, settles, gives back, and loses.

use std::collections::HashMap;

use gristmill_model::{
    Counters, Digest, Disposition, Fence, HostId, Outcome, RetryPolicy, StageBit, StageId, StageKey, Timestamp,
    VersionId,
};

/// A round: what one host settles and claims in one transaction.
#[derive(Clone, Debug)]
pub struct Round {
    /// The host.
    pub host: HostId,
    /// When.
    pub now: Timestamp,
    /// The finished attempts, by lease.
    pub settlements: Vec<Settlement>,
    /// The work to claim, by stage.
    pub claims: Vec<ClaimRequest>,
}

/// Finished attempts of one lease.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The lease: attempts are recorded only if it still holds their work.
    pub fence: Fence,
    /// The attempts.
    pub completions: Vec<Completion>,
}

/// One finished attempt, with everything that is recorded about it.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The stage of the item.
    pub key: StageKey,
    /// The version that ran.
    pub version: VersionId,
    /// How it ended.
    pub outcome: Outcome,
    /// What that leads to: the host decides, the tracker records.
    pub disposition: Disposition,
    /// The output: present if and only if the disposition is `Done`.
    pub output: Option<Output>,
    /// The hash of its input, which shows later whether the result is still up to date.
    pub input_hash: Digest,
    /// What went wrong, or why it was skipped.
    pub error: Option<String>,
    /// What it logged.
    pub log: Option<String>,
    /// When it became ready.
    pub ready_at: Timestamp,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The most linear memory it had, in bytes.
    pub memory_bytes_max: u64,
    /// What it was charged, by meter.
    pub charges: Vec<(String, f64)>,
}

impl Completion {
    /// How many bytes its texts have.
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

/// A request for work of one stage.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest {
    /// The stage.
    pub stage: StageId,
    /// How many at most.
    pub limit: u32,
    /// How many claims each lease has: one thread runs them in a row.
    pub chunk: u32,
    /// How many bytes of data and needed outputs to claim. Claiming stops once there are so many, but at least one is
    /// claimed. This bounds the host's memory.
    pub bytes: u64,
}

/// The result of a round.
#[derive(Clone, Debug, Default)]
pub struct RoundDone {
    /// Completions that were recorded.
    pub applied: u64,
    /// Completions whose fence did not match. They were dropped.
    pub late: u64,
    /// Stages that became ready.
    pub released: u64,
    /// The claimed work.
    pub leases: Vec<Lease>,
    /// The requested stages that had less ready work than requested.
    pub drained: Vec<StageId>,
    /// Attempts that the tracker refused to record, and why. Their stages are dead.
    pub refused: Vec<(StageKey, String)>,
}

impl RoundDone {
    /// Adds the result of another part of the same round.
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
    /// The number that every write to this work must match.
    pub fence: Fence,
    /// The stage.
    pub stage: StageId,
    /// The work.
    pub claims: Vec<Claim>,
}

/// One claimed stage of an item, with the whole input of its attempt.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The stage of the item.
    pub key: StageKey,
    /// How often it was tried without success before: decides about retries.
    pub counters: Counters,
    /// When it became ready.
    pub ready_at: Timestamp,
    /// When it first became ready, before any attempt: the age of deferrals is counted from then.
    pub first_ready_at: Timestamp,
    /// The item's key.
    pub item_key: String,
    /// The item's data.
    pub data: String,
    /// The hash of `data`.
    pub data_hash: Digest,
    /// When the item was discovered: the virtual clock stands there.
    pub discovered_at: Timestamp,
    /// The outputs of the stages that it needs, by bit; skipped ones are absent.
    pub upstream: Vec<Upstream>,
    /// What cannot be read of it, and why. Then it must not run, and other fields may be empty.
    pub damage: Option<String>,
}

impl Claim {
    /// How many bytes its data and needed outputs have.
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

/// Which hosts to reap.
#[derive(Clone, Debug)]
pub struct Reap {
    /// The host that asks. It is never reaped itself.
    pub host: HostId,
    /// When.
    pub now: Timestamp,
    /// Another host whose last heartbeat is older has vanished, and loses its leases. A host that sends heartbeats
    /// keeps its leases, however long they take. If a lock proves that no other host can be alive, this is
    /// `Timestamp(i64::MAX)`, so that no clock matters.
    pub heartbeat_before: Timestamp,
    /// How many leases at most.
    pub leases_max: u32,
    /// The retry policies of the stages that this host runs. A lost attempt of another stage is only counted, and a
    /// host that runs that stage decides whether it is dead.
    pub policies: HashMap<StageId, RetryPolicy>,
}

/// The result of reaping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Leases that were taken away.
    pub leases: u64,
    /// Attempts that were charged as lost.
    pub attempts: u64,
    /// How many of those left a dead stage.
    pub dead: u64,
}
