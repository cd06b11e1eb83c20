//! What operators see, as JSON.
//!
//! Owns the views of dead stages, operations, events, and of what an examination found. Never decides what to do about
//! them.

use gristmill_tracker::{DeadRow, Difference, EventRow, Examination, OperationRow};
use serde::Serialize;

use super::{CountersView, JsonText, Time};

/// A dead stage of an item.
#[derive(Clone, Debug, Serialize)]
pub struct DeadView<'a> {
    /// Its job's name.
    pub job: &'a str,
    /// The item's key.
    pub item: &'a str,
    /// The stage's name.
    pub stage: &'a str,
    /// Why it is dead.
    pub reason: &'static str,
    /// How often it was tried without success.
    pub counters: CountersView,
    /// Since when it is dead.
    pub settled_at: Time,
    /// What went wrong.
    pub error: Option<&'a str>,
}

impl<'a> DeadView<'a> {
    /// The view of a dead stage of the job of that name.
    pub fn new(job: &'a str, row: &'a DeadRow) -> Self {
        Self {
            job,
            item: &row.item_key,
            stage: &row.stage,
            reason: row.reason.name(),
            counters: row.counters.into(),
            settled_at: Time(row.settled_at),
            error: row.error.as_deref(),
        }
    }
}

/// An operation: a redrive of many stages that a person asked for.
#[derive(Clone, Debug, Serialize)]
pub struct OperationView<'a> {
    /// Its number in the tracker.
    pub operation: i64,
    /// What it does.
    pub kind: &'a str,
    /// Its job's name; null if the job is not known any more.
    pub job: Option<&'a str>,
    /// Its state.
    pub state: &'static str,
    /// How many stages matched when it began.
    pub planned: u64,
    /// How many of them it has processed.
    pub done: u64,
    /// The largest number of stages.
    pub limit: u64,
    /// The largest number per second; null for no limit.
    pub rate: Option<f64>,
    /// Who asked.
    pub actor: &'a str,
    /// Why.
    pub why: &'a str,
    /// When it began.
    pub created_at: Time,
    /// When it last did a step.
    pub updated_at: Time,
}

impl<'a> OperationView<'a> {
    /// The view of an operation on the job of that name.
    pub fn new(job: Option<&'a str>, row: &'a OperationRow) -> Self {
        Self {
            operation: row.id.0,
            kind: &row.kind,
            job,
            state: row.state.name(),
            planned: row.planned,
            done: row.done,
            limit: row.limit,
            rate: row.rate,
            actor: &row.actor,
            why: &row.why,
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
        }
    }
}

/// An event.
#[derive(Clone, Debug, Serialize)]
pub struct EventView<'a> {
    /// Its number: a later event has a higher one.
    pub event: i64,
    /// When it happened.
    pub at: Time,
    /// What happened, in two words.
    pub kind: &'a str,
    /// The name of the job that it concerns.
    pub job: Option<&'a str>,
    /// The operation that it is part of.
    pub operation: Option<i64>,
    /// Its details.
    pub data: JsonText<'a>,
}

impl<'a> EventView<'a> {
    /// The view of an event about the job of that name, or about none.
    pub fn new(job: Option<&'a str>, row: &'a EventRow) -> Self {
        Self {
            event: row.id,
            at: Time(row.at),
            kind: &row.kind,
            job,
            operation: row.operation.map(|operation| operation.0),
            data: JsonText(&row.data),
        }
    }
}

/// What an examination of a tracker found.
#[derive(Clone, Debug, Serialize)]
pub struct ExaminationView<'a> {
    /// How many items were checked.
    pub items: u64,
    /// How many blobs were checked.
    pub blobs: u64,
    /// The number of differences.
    pub differences_total: u64,
    /// The first differences.
    pub differences: Vec<DifferenceView<'a>>,
}

impl<'a> From<&'a Examination> for ExaminationView<'a> {
    fn from(examination: &'a Examination) -> Self {
        Self {
            items: examination.items,
            blobs: examination.blobs,
            differences_total: examination.differences_total,
            differences: examination.differences.iter().map(DifferenceView::from).collect(),
        }
    }
}

/// A stored value that differs from what the facts say.
#[derive(Clone, Debug, Serialize)]
pub struct DifferenceView<'a> {
    /// What kind of value.
    pub kind: &'static str,
    /// Which one.
    pub place: &'a str,
    /// What is stored.
    pub found: &'a str,
    /// What the facts say.
    pub expected: &'a str,
}

impl<'a> From<&'a Difference> for DifferenceView<'a> {
    fn from(difference: &'a Difference) -> Self {
        Self {
            kind: difference.kind,
            place: &difference.place,
            found: &difference.found,
            expected: &difference.expected,
        }
    }
}
