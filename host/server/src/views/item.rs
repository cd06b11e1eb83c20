//! An item as JSON.
//!
//! Owns the views of an item, its stages and its attempts. Never copies a text, since an output may be large.

use gristmill_model::{Counters, DeadReason};
use gristmill_tracker::{AttemptRow, ItemDetail, ItemRow, ItemStageDetail, JobRow, Sighting};
use serde::Serialize;

use super::{JsonText, Sums, Time};

/// A page of items.
#[derive(Clone, Debug, Serialize)]
pub struct ItemsPage<'a> {
    /// The items, by number.
    pub items: Vec<ItemView<'a>>,
    /// The `after` of the next page; none if this is the last page.
    pub next: Option<i64>,
}

impl<'a> ItemsPage<'a> {
    /// A page of the first `limit` of these items. If there are more, the next page begins after the last of them.
    pub fn new(job: &'a JobRow, rows: &'a [ItemRow], limit: usize) -> Self {
        let shown = &rows[..rows.len().min(limit)];
        let next = if rows.len() > limit { shown.last().map(|row| row.id.0) } else { None };
        Self { items: shown.iter().map(|row| ItemView::new(job, row)).collect(), next }
    }
}

/// An item in a list.
#[derive(Clone, Debug, Serialize)]
pub struct ItemView<'a> {
    /// Its job's name.
    pub job: &'a str,
    /// Its key, unique in its job.
    pub item: &'a str,
    /// Its status.
    pub status: &'static str,
    /// The stages that have a result.
    pub done: Vec<&'a str>,
    /// The stages that do not apply to it.
    pub skipped: Vec<&'a str>,
    /// The stages that failed for good.
    pub dead: Vec<&'a str>,
    /// The stages that are ready, leased or waiting.
    pub live: Vec<&'a str>,
    /// The stages that are done or skipped, and shall run again.
    pub stale: Vec<&'a str>,
    /// When it was found.
    pub discovered_at: Time,
    /// When its data changed last.
    pub changed_at: Time,
}

impl<'a> ItemView<'a> {
    /// The view of an item of that job.
    pub fn new(job: &'a JobRow, row: &'a ItemRow) -> Self {
        let named = |mask: u64| {
            let in_mask = job.stages.iter().filter(move |(id, _)| id.bit().mask() & mask != 0);
            in_mask.map(|(_, name)| name.as_str()).collect()
        };
        Self {
            job: &job.name,
            item: &row.key,
            status: row.status.name(),
            done: named(row.masks.done),
            skipped: named(row.masks.skipped),
            dead: named(row.masks.dead),
            live: named(row.masks.live),
            stale: named(row.masks.stale),
            discovered_at: Time(row.discovered_at),
            changed_at: Time(row.changed_at),
        }
    }
}

/// An item with all that is known about it.
#[derive(Clone, Debug, Serialize)]
pub struct ItemDetailView<'a> {
    /// Its job's name.
    pub job: &'a str,
    /// Its key, unique in its job.
    pub item: &'a str,
    /// Its status.
    pub status: &'static str,
    /// When it was found.
    pub discovered_at: Time,
    /// When its data changed last.
    pub changed_at: Time,
    /// Higher runs sooner.
    pub priority: i32,
    /// Its data; null if it is too large for a page.
    pub data: Option<JsonText<'a>>,
    /// The length of its data, in bytes.
    pub data_bytes: usize,
    /// Its sightings, the newest first.
    pub sightings: Vec<SightingView<'a>>,
    /// In the order of the job file.
    pub stages: Vec<ItemStageView<'a>>,
}

impl<'a> ItemDetailView<'a> {
    /// The view of an item of the job of that name.
    pub fn new(job: &'a str, item: &'a ItemDetail) -> Self {
        Self {
            job,
            item: &item.row.key,
            status: item.row.status.name(),
            discovered_at: Time(item.row.discovered_at),
            changed_at: Time(item.row.changed_at),
            priority: item.priority,
            data: Some(JsonText(&item.data)),
            data_bytes: item.data.len(),
            sightings: item.sightings.iter().map(SightingView::from).collect(),
            stages: item.stages.iter().map(ItemStageView::from).collect(),
        }
    }

    /// The same without its data if that is larger than `bytes_max`. `data_bytes` still gives its length.
    pub fn cut(mut self, bytes_max: usize) -> Self {
        self.data = self.data.filter(|data| data.0.len() <= bytes_max);
        self
    }
}

/// A sighting: the item was found with certain data.
#[derive(Clone, Debug, Serialize)]
pub struct SightingView<'a> {
    /// When it was last found with this data.
    pub at: Time,
    /// Who found it.
    pub source: &'a str,
    /// The cursor of the page; null for the first page, or for none.
    pub cursor: Option<&'a str>,
    /// The hash of the data.
    pub data_hash: String,
}

impl<'a> From<&'a Sighting> for SightingView<'a> {
    fn from(sighting: &'a Sighting) -> Self {
        Self {
            at: Time(sighting.at),
            source: &sighting.source,
            cursor: sighting.cursor.as_deref(),
            data_hash: sighting.data_hash.to_string(),
        }
    }
}

/// A stage of an item.
#[derive(Clone, Debug, Serialize)]
pub struct ItemStageView<'a> {
    /// The stage's name.
    pub stage: &'a str,
    /// Its state.
    pub state: &'static str,
    /// Why it is dead.
    pub reason: Option<&'static str>,
    /// When it will be ready, if it waits; since when it is ready, if it is ready or leased.
    pub due_at: Option<Time>,
    /// When it was settled.
    pub settled_at: Option<Time>,
    /// How often it was tried without success.
    pub counters: CountersView,
    /// The version of its result.
    pub version: Option<String>,
    /// Whether that is the stage's current version.
    pub current: bool,
    /// Its output; null if there is none, or if it is too large for a page.
    pub output: Option<JsonText<'a>>,
    /// The length of its output, in bytes.
    pub output_bytes: Option<u64>,
    /// What went wrong, or why it was skipped.
    pub error: Option<&'a str>,
    /// The stages it needs that are not settled.
    pub blocked_by: &'a [String],
    /// Its attempts, the newest first.
    pub attempts: Vec<AttemptView<'a>>,
}

impl<'a> From<&'a ItemStageDetail> for ItemStageView<'a> {
    fn from(stage: &'a ItemStageDetail) -> Self {
        Self {
            stage: &stage.name,
            state: stage.state.name(),
            reason: stage.reason.map(DeadReason::name),
            due_at: stage.due_at.map(Time),
            settled_at: stage.settled_at.map(Time),
            counters: stage.counters.into(),
            version: stage.version.map(|version| version.to_string()),
            current: stage.current,
            output: stage.output.as_deref().map(JsonText),
            output_bytes: stage.output_bytes,
            error: stage.error.as_deref(),
            blocked_by: &stage.blocked_by,
            attempts: stage.attempts.iter().map(AttemptView::from).collect(),
        }
    }
}

/// The counts that a retry policy limits.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CountersView {
    /// Attempts that failed.
    pub attempts: u32,
    /// Attempts that were lost with their host.
    pub lost: u32,
    /// Attempts that said `later`.
    pub deferrals: u32,
}

impl From<Counters> for CountersView {
    fn from(Counters { attempts, lost, deferrals }: Counters) -> Self {
        Self { attempts, lost, deferrals }
    }
}

/// A recorded attempt.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView<'a> {
    /// Its number in the tracker.
    pub attempt: i64,
    /// The item's key; null if the item was deleted.
    pub item: Option<&'a str>,
    /// The item's number in the tracker.
    pub item_number: i64,
    /// The stage's name.
    pub stage: &'a str,
    /// How it ended.
    pub outcome: &'static str,
    /// The number of the host that ran it.
    pub host: i64,
    /// The number of the lease that it ran under.
    pub fence: i64,
    /// When it became ready.
    pub queued_at: Time,
    /// When it began, if its host reported that.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Time,
    /// The version that ran.
    pub version: Option<String>,
    /// The most linear memory it had, in bytes.
    pub memory_bytes_max: Option<u64>,
    /// What went wrong.
    pub error: Option<&'a str>,
    /// What it logged.
    pub log: Option<&'a str>,
    /// What it was charged, by meter.
    pub charges: Sums<'a>,
}

impl<'a> From<&'a AttemptRow> for AttemptView<'a> {
    fn from(attempt: &'a AttemptRow) -> Self {
        Self {
            attempt: attempt.id.0,
            item: attempt.item_key.as_deref(),
            item_number: attempt.item.0,
            stage: &attempt.stage,
            outcome: attempt.outcome.name(),
            host: attempt.host.0,
            fence: attempt.fence.0,
            queued_at: Time(attempt.queued_at),
            started_at: attempt.started_at.map(Time),
            ended_at: Time(attempt.ended_at),
            version: attempt.version.map(|version| version.to_string()),
            memory_bytes_max: attempt.memory_bytes_max,
            error: attempt.error.as_deref(),
            log: attempt.log.as_deref(),
            charges: Sums::from(&attempt.charges[..]),
        }
    }
}
