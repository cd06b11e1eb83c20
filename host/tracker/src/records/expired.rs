//! Rows that are old enough to delete, with the rows that belong to them.
//!
//! Owns the archived form of a row: the columns of its table by name, and the rows that belong to it. Codes and times
//! (microseconds, UTC) are the database's numbers, a hash is hexadecimal, and JSON stays a text, so that no digit
//! changes. Never reads an archive.

use gristmill_model::Digest;
use serde::{Serialize, Serializer};

/// A row that is old enough to delete.
#[derive(Clone, Debug, PartialEq)]
pub enum ExpiredRow {
    /// An attempt.
    Attempt(Box<ExpiredAttempt>),
    /// A charge.
    Charge(ExpiredCharge),
    /// An event.
    Event(ExpiredEvent),
    /// An item.
    Item(Box<ExpiredItem>),
    /// A result of a stage that is no longer in its job's file.
    Result(Box<ExpiredResult>),
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpiredAttempt {
    /// Its number.
    pub id: i64,
    /// The stage of the item: `item << 6 | bit`.
    pub key: i64,
    /// The stage.
    pub stage_id: i64,
    /// The attempt of this stage of this item before it.
    pub prev: Option<i64>,
    /// How it ended: `Outcome::code`.
    pub outcome: i64,
    /// The host that ran it.
    pub host_id: i64,
    /// The lease that it ran under.
    pub fence: i64,
    /// When it became ready.
    pub queued_at: i64,
    /// When it began, if its host reported that.
    pub started_at: Option<i64>,
    /// When it ended.
    pub ended_at: i64,
    /// The version that ran.
    pub version_id: Option<i64>,
    /// The most linear memory it had, in bytes.
    pub memory_bytes_max: Option<i64>,
    /// The hash of what it was given.
    #[serde(serialize_with = "hex")]
    pub input_hash: Option<Digest>,
    /// The number of the spec of its job.
    pub spec: Option<i64>,
    /// The operation that wanted it.
    pub operation_id: Option<i64>,
    /// What went wrong.
    pub error: Option<String>,
    /// What it logged.
    pub log: Option<String>,
    /// What it was charged, in the order of the charges.
    pub charges: Vec<AttemptCharge>,
}

/// What an attempt was charged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptCharge {
    /// For what.
    pub meter: String,
    /// How much.
    pub amount: f64,
}

/// A charge that is deleted before its attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpiredCharge {
    /// Its number.
    pub id: i64,
    /// The attempt.
    pub attempt_id: i64,
    /// The stage of the attempt; none if the attempt does not exist.
    pub stage_id: Option<i64>,
    /// The stage of the item.
    pub key: Option<i64>,
    /// When the attempt ended.
    pub ended_at: Option<i64>,
    /// For what.
    pub meter: String,
    /// How much.
    pub amount: f64,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpiredEvent {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: i64,
    /// What.
    pub kind: String,
    /// The job it is about.
    pub job_id: Option<i64>,
    /// The item it is about.
    pub item_id: Option<i64>,
    /// The operation that it is part of.
    pub operation_id: Option<i64>,
    /// Its details: JSON.
    pub data: String,
}

/// An item, with its results and sightings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpiredItem {
    /// Its number.
    pub id: i64,
    /// Its job.
    pub job_id: i64,
    /// Its key.
    pub key: String,
    /// Mask of its stages that are done.
    pub done: i64,
    /// Mask of those that are skipped.
    pub skipped: i64,
    /// Mask of those that are dead.
    pub dead: i64,
    /// Mask of those in the queue.
    pub live: i64,
    /// Mask of those that shall run again.
    pub stale: i64,
    /// Its priority.
    pub priority: i64,
    /// When a person cancelled it.
    pub cancelled_at: Option<i64>,
    /// When it was found.
    pub discovered_at: i64,
    /// When its data changed last.
    pub changed_at: i64,
    /// The hash of its data.
    #[serde(serialize_with = "hex")]
    pub data_hash: Digest,
    /// The hash of the data that it was last seen with.
    #[serde(serialize_with = "hex")]
    pub seen_hash: Digest,
    /// Its data: JSON.
    pub data: String,
    /// Its results, by stage.
    pub stages: Vec<ExpiredOutcome>,
    /// Its sightings, the oldest first.
    pub sightings: Vec<ExpiredSighting>,
}

/// The latest settled outcome of a stage of an item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpiredOutcome {
    /// The stage of the item: `item << 6 | bit`.
    pub key: i64,
    /// Its state: `State::code`.
    pub state: i64,
    /// Why it is dead: `DeadReason::code`.
    pub reason: Option<i64>,
    /// Attempts that failed.
    pub attempts: i64,
    /// Attempts that were lost with their host.
    pub lost: i64,
    /// Attempts that said `later`.
    pub deferrals: i64,
    /// When it was settled.
    pub settled_at: i64,
    /// Its last attempt.
    pub last_attempt: Option<i64>,
    /// The version of its result.
    pub version_id: Option<i64>,
    /// The hash of its input.
    #[serde(serialize_with = "hex")]
    pub input_hash: Option<Digest>,
    /// The hash of its output.
    #[serde(serialize_with = "hex")]
    pub output_hash: Option<Digest>,
    /// Its output: JSON, in full.
    pub output: Option<String>,
    /// What went wrong, or why it was skipped.
    pub error: Option<String>,
}

/// A sighting: the item was found with certain data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpiredSighting {
    /// The item.
    pub item_id: i64,
    /// The hash of that data.
    #[serde(serialize_with = "hex")]
    pub data_hash: Digest,
    /// When it was last found with this data.
    pub at: i64,
    /// Who found it.
    pub source: String,
    /// The cursor of the page.
    pub cursor: Option<String>,
}

/// A result of a stage that is no longer in its job's file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpiredResult {
    /// The job.
    pub job_id: i64,
    /// The item's key.
    pub item: String,
    /// The stage's name.
    pub stage: String,
    /// The rest of it.
    #[serde(flatten)]
    pub outcome: ExpiredOutcome,
}

/// A hash, or none.
fn hex<S: Serializer>(hash: &(impl Copy + Into<Option<Digest>>), serializer: S) -> Result<S::Ok, S::Error> {
    match (*hash).into() {
        Some(hash) => serializer.collect_str(&hash),
        None => serializer.serialize_none(),
    }
}
