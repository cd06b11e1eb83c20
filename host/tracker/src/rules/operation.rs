//! Rules: an operation begins, does its steps, and changes its state.
//!
//! Owns the arithmetic of its limit and its rate. Never decides what a step does to an item: see `redrive`.

use gristmill_model::{OperationId, Timestamp};

use crate::Error;
use crate::records::{OperationRow, OperationState, Redrive};

const MICROS_PER_SECOND: f64 = 1e6;

/// An operation that redrives dead stages, before its first step and without its number. `found` is how many stages its
/// filter finds now.
pub fn begin(redrive: &Redrive, found: u64, now: Timestamp) -> OperationRow {
    // A limit beyond the range of a column is no limit.
    let limit = redrive.limit.min(i64::MAX as u64);
    OperationRow {
        id: OperationId(0),
        kind: "redrive".to_owned(),
        job: redrive.filter.job,
        state: OperationState::Running,
        planned: found.min(limit),
        done: 0,
        limit,
        rate: redrive.rate,
        next_at: now,
        actor: redrive.actor.clone(),
        why: redrive.why.clone(),
        created_at: now,
        updated_at: now,
    }
}

/// How many stages the next step may take; none before its time, or if it does not run.
pub fn share(row: &OperationRow, limit: u32, now: Timestamp) -> Option<u32> {
    if row.state != OperationState::Running || now < row.next_at {
        return None;
    }
    let left = u32::try_from(row.limit.saturating_sub(row.done)).unwrap_or(u32::MAX);
    let burst = row.rate.map_or(u32::MAX, |rate| rate.max(1.0) as u32);
    Some(limit.min(left).min(burst))
}

/// Counts the stages of a step. `is_last` says that it found fewer than its share.
pub fn took(row: &mut OperationRow, taken: u64, is_last: bool, now: Timestamp) {
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

/// Changes an operation's state, as a person asks.
///
/// # Errors
/// `OperationState` if its current state does not allow that.
pub fn set(row: &mut OperationRow, to: OperationState, now: Timestamp) -> Result<(), Error> {
    let from = row.state;
    if !from.may_become(to) {
        return Err(Error::OperationState { id: row.id.0, from, to });
    }
    row.state = to;
    row.updated_at = now;
    Ok(())
}
