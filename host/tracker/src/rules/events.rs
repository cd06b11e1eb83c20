//! The events that a tracker records by itself.
//!
//! Owns the kind of each, what it concerns, and its data. Never decides whether it happened.

use std::time::Duration;

use gristmill_model::{HostId, ItemId, JobId, OperationId, StageId, StageKey};
use serde_json::{Value, json};

use crate::records::{Cancel, DeadRow, HostInfo, JobRegistration, NewEvent, OperationRow, OperationState};
use crate::records::{Redrive, Restart, StageRegistration};

/// An event to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// What, in two words: `item.cancelled`.
    pub kind: &'a str,
    /// The job that it concerns, if any.
    pub job: Option<JobId>,
    /// The item of that job.
    pub item: Option<ItemId>,
    /// The operation that caused it.
    pub operation: Option<OperationId>,
    /// Its details: JSON.
    pub data: String,
}

impl<'a> Event<'a> {
    fn new(kind: &'a str, data: &Value) -> Self {
        Self { kind, job: None, item: None, operation: None, data: data.to_string() }
    }

    fn of(kind: &'a str, job: JobId, data: &Value) -> Self {
        Self { job: Some(job), ..Self::new(kind, data) }
    }
}

/// An event that a caller records.
impl<'a> From<&'a NewEvent> for Event<'a> {
    fn from(event: &'a NewEvent) -> Self {
        Self { kind: &event.kind, job: event.job, item: None, operation: None, data: event.data.clone() }
    }
}

/// A host started.
pub fn host_started(id: HostId, host: &HostInfo) -> Event<'static> {
    let HostInfo { name, pid, app_version, now: _ } = host;
    Event::new("host.started", &json!({ "host": id.0, "name": name, "pid": pid, "version": app_version }))
}

/// Another process held the database.
pub fn tracker_waited(waited: Duration) -> Event<'static> {
    Event::new("tracker.waited", &json!({ "seconds": waited.as_secs_f64() }))
}

/// A host that was reaped is alive.
pub fn host_back(id: HostId) -> Event<'static> {
    Event::new("host.back", &json!({ "host": id.0 }))
}

/// A host ended by itself.
pub fn host_ended(id: HostId) -> Event<'static> {
    Event::new("host.ended", &json!({ "host": id.0 }))
}

/// A host vanished, and was reaped.
pub fn host_lost(id: HostId) -> Event<'static> {
    Event::new("host.lost", &json!({ "host": id.0 }))
}

/// A job has another spec than before: a new one, or an earlier one.
pub fn spec_changed(id: JobId, job: &JobRegistration, is_new: bool) -> Event<'static> {
    let data = json!({ "spec": job.spec_id.to_string(), "stages": job.stages.len(), "new": is_new });
    Event::of("job.spec", id, &data)
}

/// A stage has another version than before: a new one, or an earlier one.
pub fn version_changed(id: StageId, stage: &StageRegistration, is_new: bool) -> Event<'static> {
    let data = json!({ "stage": stage.name, "version": stage.version.to_string(), "new": is_new });
    Event::of("stage.version", id.job(), &data)
}

/// An item was cancelled or restored.
pub fn cancelled(id: ItemId, key: &str, cancel: &Cancel) -> Event<'static> {
    let kind = if cancel.undo { "item.restored" } else { "item.cancelled" };
    let data = json!({ "item": key, "actor": cancel.actor, "why": cancel.why });
    Event { item: Some(id), ..Event::of(kind, cancel.job, &data) }
}

/// A stage was not run and is dead, because its input is damaged.
pub fn stage_damaged(key: StageKey, stage: StageId, error: Option<&str>) -> Event<'static> {
    let data = json!({ "stage": stage.bit().0, "error": error.unwrap_or_default() });
    Event { item: Some(key.item()), ..Event::of("stage.damaged", stage.job(), &data) }
}

/// Discovery will begin again at its first page. `cursor` is where it would have gone on.
pub fn discovery_restarted(restart: &Restart, cursor: &str) -> Event<'static> {
    let shown: String = cursor.chars().take(CURSOR_CHARS_MAX).collect();
    let data = json!({ "cursor": shown, "actor": restart.actor, "why": restart.why });
    Event::of("discovery.restarted", restart.job, &data)
}

/// How many characters of a cursor an event repeats.
const CURSOR_CHARS_MAX: usize = 200;

/// An operation began. `filter` is the stored text.
pub fn operation_started(row: &OperationRow, redrive: &Redrive, filter: &str) -> Event<'static> {
    let filter: Value = serde_json::from_str(filter).unwrap_or_default();
    let OperationRow { planned, limit, rate, .. } = row;
    let Redrive { actor, why, .. } = redrive;
    let data =
        json!({ "filter": filter, "planned": planned, "limit": limit, "rate": rate, "actor": actor, "why": why });
    Event { operation: Some(row.id), ..Event::of("operation.started", row.job, &data) }
}

/// A person changed an operation's state to its current one.
pub fn operation_moved(row: &OperationRow, actor: &str) -> Event<'static> {
    Event { operation: Some(row.id), ..Event::of(moved_to(row.state), row.job, &json!({ "actor": actor })) }
}

/// An operation is complete.
pub fn operation_done(row: &OperationRow) -> Event<'static> {
    let data = json!({ "done": row.done });
    Event { operation: Some(row.id), ..Event::of(moved_to(OperationState::Done), row.job, &data) }
}

const fn moved_to(state: OperationState) -> &'static str {
    match state {
        OperationState::Running => "operation.resumed",
        OperationState::Paused => "operation.paused",
        OperationState::Done => "operation.done",
        OperationState::Cancelled => "operation.cancelled",
    }
}

/// An operation redrove a dead stage.
pub fn redriven(job: JobId, operation: OperationId, dead: &DeadRow) -> Event<'static> {
    let data = json!({ "item": dead.item_key, "stage": dead.stage });
    let (item, operation) = (Some(dead.key.item()), Some(operation));
    Event { item, operation, ..Event::of("stage.redriven", job, &data) }
}

/// The queue was rebuilt.
pub fn rebuilt() -> Event<'static> {
    Event::new("queue.rebuilt", &json!({}))
}
