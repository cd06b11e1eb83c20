//! What goes into a tracker and comes out of it.
//!
//! Owns the plain records of both traits. Nothing in here does anything.

use std::collections::HashMap;
use std::time::Duration;

use gristmill_model::{
    AttemptId, Counters, Dag, DeadReason, Digest, Disposition, Fence, HostId, ItemId, ItemStatus, JobId, Masks, Need,
    Outcome, RetryPolicy, StageBit, StageId, StageKey, State, Timestamp, VersionId,
};

/// A process that runs jobs.
#[derive(Clone, Debug)]
pub struct HostInfo {
    /// The machine's name, for people.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub app_version: String,
    /// When it started.
    pub now: Timestamp,
}

/// A job as its file declares it.
#[derive(Clone, Debug)]
pub struct JobRegistration {
    /// The job's name.
    pub name: String,
    /// The spec's identity.
    pub spec_id: Digest,
    /// The file's text, without secrets.
    pub yaml: String,
    /// In the order of the file.
    pub stages: Vec<StageRegistration>,
    /// When.
    pub now: Timestamp,
}

/// A stage as its job's file declares it.
#[derive(Clone, Debug)]
pub struct StageRegistration {
    /// The stage's name.
    pub name: String,
    /// What it needs, by position.
    pub needs: Vec<Need>,
    /// Its version.
    pub version: Digest,
    /// The canonical hash of its component.
    pub component: Digest,
    /// The hash of the component's bytes as they are.
    pub component_raw: Digest,
    /// The component's size in bytes.
    pub component_size: u64,
    /// Where the component came from.
    pub source: String,
    /// A version that its author declared.
    pub declared: Option<String>,
}

/// What a tracker made of a registration.
#[derive(Clone, Debug)]
pub struct RegisteredJob {
    /// The job.
    pub id: JobId,
    /// In the order of the registration.
    pub stages: Vec<RegisteredStage>,
    /// The DAG by bits.
    pub dag: Dag,
    /// The DAG was edited: `reconcile` is due from behind this item on, before anything else is done with the job.
    pub reconcile: Option<ItemId>,
    /// Where the last pass of discovery was interrupted; none: it came to its end, or there was none.
    pub cursor: Option<String>,
}

/// A stage and its current version.
#[derive(Clone, Copy, Debug)]
pub struct RegisteredStage {
    /// The stage.
    pub id: StageId,
    /// Its current version.
    pub version: VersionId,
}

/// A page of discovered items.
#[derive(Clone, Debug)]
pub struct Upsert {
    /// The job.
    pub job: JobId,
    /// The items.
    pub items: Vec<NewItem>,
    /// Where the next page starts; none: the pass is over.
    pub cursor: Option<String>,
    /// When.
    pub now: Timestamp,
}

/// A discovered item.
#[derive(Clone, Debug)]
pub struct NewItem {
    /// Unique in its job.
    pub key: String,
    /// JSON.
    pub data: String,
    /// The hash of `data`.
    pub data_hash: Digest,
    /// Higher runs sooner.
    pub priority: i32,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upserted {
    /// Items that were not known.
    pub new: u64,
    /// Items whose data differs now.
    pub changed: u64,
    /// Items that cost no write.
    pub unchanged: u64,
}

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
    /// How long a lease may be held, whatever the heartbeat says.
    pub lease: Duration,
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
    /// A host whose last heartbeat is older has vanished. On SQLite, where the lock says that no other host can be
    /// alive, that is any time.
    pub heartbeat_before: Timestamp,
    /// How many leases at most.
    pub leases_max: u32,
    /// What a lost attempt leads to, by stage. Another stage has the default policy.
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

/// A job.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Its stages in the order of the file, the retired ones left out.
    pub stages: Vec<(StageId, String)>,
}

/// A job's counters.
#[derive(Clone, Debug, Default)]
pub struct JobStats {
    /// How many items have which status.
    pub items: HashMap<ItemStatus, u64>,
    /// In the order of the job file.
    pub stages: Vec<StageStats>,
    /// What was charged since the beginning, by meter.
    pub charges: Vec<(String, f64)>,
}

impl JobStats {
    /// All items.
    pub fn total(&self) -> u64 {
        self.items.values().sum()
    }

    /// How many stages of items are in one of these states.
    pub fn in_states(&self, states: &[State]) -> u64 {
        self.stages.iter().flat_map(|stage| states.iter().map(|state| stage.count(*state))).sum()
    }
}

/// A stage's counters.
#[derive(Clone, Debug)]
pub struct StageStats {
    /// The stage.
    pub id: StageId,
    /// Its name.
    pub name: String,
    /// Its current version.
    pub version: Option<Digest>,
    /// How many results name another version than the current one.
    pub other_versions: u64,
    /// How many items are in which state, the blocked ones left out.
    pub states: HashMap<State, u64>,
}

impl StageStats {
    /// How many items are in that state.
    pub fn count(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }
}

/// Which items to list.
#[derive(Clone, Debug)]
pub struct ItemsFilter {
    /// The job.
    pub job: JobId,
    /// Of this status alone.
    pub status: Option<ItemStatus>,
    /// Whose key starts with this.
    pub prefix: String,
    /// Behind this one.
    pub after: ItemId,
    /// How many at most.
    pub limit: u32,
}

/// An item in a list.
#[derive(Clone, Debug)]
pub struct ItemRow {
    /// The item.
    pub id: ItemId,
    /// Its key.
    pub key: String,
    /// Its status.
    pub status: ItemStatus,
    /// Its masks.
    pub masks: Masks,
    /// When it was found.
    pub discovered_at: Timestamp,
    /// When its data changed last.
    pub changed_at: Timestamp,
}

/// An item with all that is known about it.
#[derive(Clone, Debug)]
pub struct ItemDetail {
    /// As in a list.
    pub row: ItemRow,
    /// Its data.
    pub data: String,
    /// Its priority.
    pub priority: i32,
    /// In the order of the job file.
    pub stages: Vec<ItemStageDetail>,
}

/// A stage of an item.
#[derive(Clone, Debug)]
pub struct ItemStageDetail {
    /// The stage's name.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// Why it is dead.
    pub reason: Option<DeadReason>,
    /// When it will be ready, where it waits.
    pub due_at: Option<Timestamp>,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// What was counted.
    pub counters: Counters,
    /// The version of its result.
    pub version: Option<Digest>,
    /// Whether that is the current one.
    pub current: bool,
    /// Its output.
    pub output: Option<String>,
    /// What went wrong, or why it was skipped.
    pub error: Option<String>,
    /// The stages it needs that are not settled.
    pub blocked_by: Vec<String>,
    /// Its attempts, the newest first.
    pub attempts: Vec<AttemptRow>,
}

/// A result in a list.
#[derive(Clone, Debug)]
pub struct ResultRow {
    /// The item.
    pub item: ItemId,
    /// Its key.
    pub item_key: String,
    /// The stage's output.
    pub output: String,
}

/// Which attempts to list.
#[derive(Clone, Debug)]
pub struct AttemptsFilter {
    /// The job.
    pub job: JobId,
    /// Of this stage alone.
    pub stage: Option<StageId>,
    /// With this outcome alone.
    pub outcome: Option<Outcome>,
    /// How many at most.
    pub limit: u32,
}

/// A recorded attempt.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// The attempt.
    pub id: AttemptId,
    /// The item's key.
    pub item_key: String,
    /// The stage's name.
    pub stage: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The host that ran it.
    pub host: HostId,
    /// When it became ready.
    pub queued_at: Timestamp,
    /// When it began, if its host told.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The version that ran.
    pub version: Option<Digest>,
    /// The most linear memory it had.
    pub memory_bytes_max: Option<u64>,
    /// What went wrong.
    pub error: Option<String>,
    /// What it logged.
    pub log: Option<String>,
    /// What it was charged, by meter.
    pub charges: Vec<(String, f64)>,
}
