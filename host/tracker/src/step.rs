//! One step of an operation: how much of it, what it costs in time, and what its end is called.
//!
//! Owns the arithmetic of its rate, which both backends do between reading an operation and writing it. Pure.

use gristmill_model::Timestamp;

use crate::records::{OperationRow, OperationState};

const MICROS_PER_SECOND: f64 = 1e6;

/// How many stages the next step may take; none before its time, or if it does not run.
pub(crate) fn share(row: &OperationRow, limit: u32, now: Timestamp) -> Option<u32> {
    if row.state != OperationState::Running || now < row.next_at {
        return None;
    }
    let left = u32::try_from(row.limit.saturating_sub(row.done)).unwrap_or(u32::MAX);
    let burst = row.rate.map_or(u32::MAX, |rate| rate.max(1.0) as u32);
    Some(limit.min(left).min(burst))
}

/// Counts what a step took. `is_last`: it found less than its share.
pub(crate) fn took(row: &mut OperationRow, taken: u64, is_last: bool, now: Timestamp) {
    row.done += taken;
    row.updated_at = now;
    if let Some(rate) = row.rate.filter(|_| taken > 0) {
        let pause = (taken as f64 / rate * MICROS_PER_SECOND) as i64;
        row.next_at = Timestamp(now.0.max(row.next_at.0).saturating_add(pause));
    }
    if is_last || row.done >= row.limit {
        row.state = OperationState::Done;
    }
}

/// What the event is called when an operation comes to a state.
pub(crate) const fn event(to: OperationState) -> &'static str {
    match to {
        OperationState::Running => "operation.resumed",
        OperationState::Paused => "operation.paused",
        OperationState::Done => "operation.done",
        OperationState::Cancelled => "operation.cancelled",
    }
}
