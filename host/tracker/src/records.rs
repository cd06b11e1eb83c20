//! What goes into a tracker and comes out of it.
//!
//! Owns the plain records of both traits. Nothing in here does anything.

use std::collections::HashMap;
use std::time::Duration;

use gristmill_model::{
    AttemptId, Counters, Dag, DeadReason, Digest, Disposition, Expiring, Fence, HostId, ItemId, ItemStatus, JobId,
    Masks, Need, OperationId, Outcome, Rediscovery, RetryPolicy, StageBit, StageId, StageKey, State, Timestamp,
    VersionId,
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

/// Items that were found.
#[derive(Clone, Debug)]
pub struct Upsert {
    /// The job.
    pub job: JobId,
    /// The items. A key may come more than once: each is a sighting, in this order.
    pub items: Vec<NewItem>,
    /// Who found them.
    pub source: Source,
    /// What becomes of those that are known.
    pub rediscovery: Rediscovery,
    /// When.
    pub now: Timestamp,
}

/// Who found items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A page of discovery. It is committed together with the cursor behind it.
    Page {
        /// What the page was asked for with.
        cursor: Option<String>,
        /// Where the next page starts; none: the pass is over.
        next: Option<String>,
    },
    /// Somebody who is not discovery, by name: 1 to 64 bytes. The cursor stays where it is.
    Named(String),
}

impl Source {
    /// The name that is kept with a sighting.
    pub fn name(&self) -> &str {
        match self {
            Self::Page { .. } => "discover",
            Self::Named(name) => name,
        }
    }

    /// The cursor that is kept with a sighting.
    pub fn cursor(&self) -> Option<&str> {
        match self {
            Self::Page { cursor, .. } => cursor.as_deref(),
            Self::Named(_) => None,
        }
    }
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
    /// What a component merged it into, where the job asks for that and the item is known with other data.
    pub merged: Option<Merged>,
}

/// What a component made of known and new data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// JSON.
    pub data: String,
    /// The hash of the known data that it was made from. If that is no longer what is known, the whole batch is
    /// refused (`Error::Overtaken`), and nothing is written.
    pub replaces: Digest,
}

/// What is known of an item that was found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownItem {
    /// The item's key.
    pub key: String,
    /// Its data.
    pub data: String,
    /// The hash of its data.
    pub data_hash: Digest,
    /// The hash of the data with which it was seen last. Equal to what is found now: nothing is new.
    pub seen_hash: Digest,
}

/// That an item was seen with certain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who saw it.
    pub source: String,
    /// On which page.
    pub cursor: Option<String>,
    /// When it was last seen so.
    pub at: Timestamp,
    /// The hash of what was seen.
    pub data_hash: Digest,
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
    /// How many items are in which state, the blocked ones left out. A result that is being redone counts as what it
    /// is, and its work in the queue counts as well.
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
    /// With which data it was seen, the newest first.
    pub sightings: Vec<Sighting>,
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
    /// The lease that it ran under.
    pub fence: Fence,
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

/// Items of a job that a person wants left alone, or taken up again.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// The job.
    pub job: JobId,
    /// Their keys.
    pub keys: Vec<String>,
    /// Take them up again.
    pub undo: bool,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: Timestamp,
}

/// What became of a cancellation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Items that were changed. The others were so already.
    pub changed: u64,
    /// Their stages that are running, and are let finish.
    pub running: u64,
    /// Keys of no item.
    pub unknown: Vec<String>,
}

/// Which dead stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadFilter {
    /// The job.
    pub job: JobId,
    /// Of this stage alone.
    pub stage: Option<StageId>,
    /// For this reason alone.
    pub reason: Option<DeadReason>,
    /// Whose error contains this, to the letter.
    pub error: Option<String>,
    /// Dead since before then.
    pub before: Option<Timestamp>,
    /// Of these items alone, by key; none: of any.
    pub keys: Option<Vec<String>>,
}

impl DeadFilter {
    /// All dead stages of a job.
    pub fn all(job: JobId) -> Self {
        Self { job, stage: None, reason: None, error: None, before: None, keys: None }
    }
}

/// A dead stage of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadRow {
    /// The stage of the item.
    pub key: StageKey,
    /// The item's key.
    pub item_key: String,
    /// The stage's name.
    pub stage: String,
    /// Why.
    pub reason: DeadReason,
    /// What was counted.
    pub counters: Counters,
    /// Since when.
    pub settled_at: Timestamp,
    /// What went wrong.
    pub error: Option<String>,
}

/// An operation that a person asks for: dead stages are to be tried again.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// Which.
    pub filter: DeadFilter,
    /// How many at most.
    pub limit: u64,
    /// How many a second; none: as fast as may be.
    pub rate: Option<f64>,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When.
    pub now: Timestamp,
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationState {
    /// It goes on.
    Running,
    /// A person stopped it for now.
    Paused,
    /// It came to its end.
    Done,
    /// A person ended it.
    Cancelled,
}

impl OperationState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Done, Self::Cancelled];

    /// The number that databases store. Part of the schema: never changed, never reused.
    pub const fn code(self) -> i64 {
        match self {
            Self::Running => 1,
            Self::Paused => 2,
            Self::Done => 3,
            Self::Cancelled => 4,
        }
    }

    /// The state of that number.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// The name that people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether a person may move an operation from this state to that.
    pub const fn may_become(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::Running, Self::Paused | Self::Cancelled) | (Self::Paused, Self::Running | Self::Cancelled)
        )
    }
}

/// An operation.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationRow {
    /// The operation.
    pub id: OperationId,
    /// What it does: `redrive`.
    pub kind: String,
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub state: OperationState,
    /// How many stages it meant when it began.
    pub planned: u64,
    /// How many of them it has taken up.
    pub done: u64,
    /// How many at most.
    pub limit: u64,
    /// How many a second at most.
    pub rate: Option<f64>,
    /// Not before then, as its rate says.
    pub next_at: Timestamp,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub why: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last went on.
    pub updated_at: Timestamp,
}

/// Something that happened, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// What, in two words: `item.cancelled`.
    pub kind: String,
    /// The job it is about.
    pub job: Option<JobId>,
    /// More of it: JSON.
    pub data: String,
    /// When.
    pub now: Timestamp,
}

/// Which events to list.
#[derive(Clone, Debug)]
pub struct EventsFilter {
    /// About this job alone, and not about none.
    pub job: Option<JobId>,
    /// Of this kind alone, or of all that begin so, where it ends in a dot.
    pub kind: Option<String>,
    /// How many at most.
    pub limit: u32,
}

/// A recorded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its number: it only ever rises.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: String,
    /// The job it is about.
    pub job: Option<JobId>,
    /// The item it is about.
    pub item: Option<ItemId>,
    /// The operation that it is part of.
    pub operation: Option<OperationId>,
    /// More of it: JSON.
    pub data: String,
}

/// What waits, and what is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// When the next waiting stage will be ready; none if none waits.
    pub next_due: Option<Timestamp>,
    /// Leases, of all hosts.
    pub leases: u64,
}

/// Data that is old enough to go.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The job.
    pub job: JobId,
    /// What kind.
    pub what: Expiring,
    /// Older than this.
    pub before: Timestamp,
    /// Behind this number of its table, in whose order it is looked through. The newest attempt, event and item of a
    /// tracker are never old enough: a number must not be given out again.
    pub after: i64,
    /// How many rows are looked at, at most.
    pub limit: u32,
}

/// A page of data that is old enough to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpiredPage {
    /// The rows, by number.
    pub numbers: Vec<i64>,
    /// What they hold, a JSON object each.
    pub rows: Vec<String>,
    /// Where to go on; none: that was all.
    pub next: Option<i64>,
}

/// Data to delete: what `expired` found. What has changed since is left alone.
#[derive(Clone, Debug)]
pub struct Prune {
    /// The job.
    pub job: JobId,
    /// What kind.
    pub what: Expiring,
    /// Older than this.
    pub before: Timestamp,
    /// The rows, by number.
    pub numbers: Vec<i64>,
}

/// What a tracker's own examination found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// How many items were looked at.
    pub items: u64,
    /// How many blobs were looked at.
    pub blobs: u64,
    /// What differs: the first `DIFFERENCES_MAX` of it.
    pub differences: Vec<Difference>,
    /// How much differs.
    pub differences_total: u64,
}

/// How many differences an examination tells of.
pub const DIFFERENCES_MAX: usize = 1000;

/// Something that is not as the facts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind of thing: `stage count`, `mask`, `queue row without item`.
    pub kind: &'static str,
    /// Which one.
    pub place: String,
    /// What is stored.
    pub found: String,
    /// What the facts say.
    pub expected: String,
}
