//! Operations: redrives of many stages, done in steps.
//!
//! Owns their rows, and the redrive of dead stages. A step and the new position are one transaction, so that a crash
//! repeats nothing. Never decides when to do the next step: the process that runs the operation does.

use gristmill_model::{JobId, OperationId, StageKey, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};

use super::dead::{count, dead};
use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::records::{DeadFilter, DeadRow, OperationRow, OperationState, Redrive};
use gristmill_tracker::rules::{events, operation as rules, redrive};
use gristmill_tracker::{Error, filter};

pub(super) const LIST: &str = concat!(
    "SELECT ",
    gristmill_tracker::operation_columns!(),
    " FROM operations WHERE (?1 IS NULL OR job_id = ?1) ORDER BY id DESC LIMIT ?2"
);
pub(super) const ONE: &str =
    concat!("SELECT ", gristmill_tracker::operation_columns!(), " FROM operations WHERE id = ?1");

/// An operation, with fields that only the tracker needs.
struct Operation {
    row: OperationRow,
    filter: String,
    position: StageKey,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Operation> {
    let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
    let operation = OperationRow {
        id: OperationId(row.get(0)?),
        kind: row.get(1)?,
        job: JobId(row.get(2)?),
        state: OperationState::from_code(row.get(3)?).unwrap_or(OperationState::Cancelled),
        planned: number(4)?,
        done: number(5)?,
        limit: number(6)?,
        rate: row.get(7)?,
        next_at: Timestamp(row.get(8)?),
        actor: row.get(9)?,
        why: row.get(10)?,
        created_at: Timestamp(row.get(11)?),
        updated_at: Timestamp(row.get(12)?),
    };
    Ok(Operation { row: operation, filter: row.get(13)?, position: StageKey(row.get(14)?) })
}

/// The newest first.
pub(super) fn operations(connection: &Connection, job: Option<JobId>, limit: u32) -> Result<Vec<OperationRow>, Fail> {
    let rows = connection
        .prepare_cached(LIST)?
        .query_map((job.map(|job| job.0), limit), |row| read(row).map(|operation| operation.row))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// One operation, if it is there.
pub(super) fn one(connection: &Connection, id: OperationId) -> Result<Option<OperationRow>, Fail> {
    Ok(find(connection, id)?.map(|operation| operation.row))
}

fn find(connection: &Connection, id: OperationId) -> Result<Option<Operation>, Fail> {
    Ok(connection.prepare_cached(ONE)?.query_row([id.0], read).optional()?)
}

fn operation(session: &Session<'_>, id: OperationId) -> Result<Operation, Fail> {
    Ok(find(session.connection, id)?.ok_or(Error::UnknownOperation(id.0))?)
}

fn update(session: &Session<'_>, operation: &Operation) -> Result<(), Fail> {
    let OperationRow { id, state, done, next_at, updated_at, .. } = &operation.row;
    session
        .connection
        .prepare_cached(
            "UPDATE operations SET state = ?2, done = ?3, next_at = ?4, updated_at = ?5, position = ?6 WHERE id = ?1",
        )?
        .execute((id.0, state.code(), *done as i64, next_at.0, updated_at.0, operation.position.0))?;
    Ok(())
}

pub(super) fn begin_redrive(session: &mut Session<'_>, redrive: &Redrive) -> Result<OperationRow, Fail> {
    session.job(redrive.filter.job)?;
    let mut row = rules::begin(redrive, count(session.connection, &redrive.filter)?, redrive.now);
    let filter = filter::to_json(&redrive.filter);
    let OperationRow { kind, job, planned, limit, rate, actor, why, .. } = &row;
    let (planned, limit) = (*planned as i64, *limit as i64);
    session
        .connection
        .prepare_cached(
            "INSERT INTO operations (kind, job_id, filter, state, planned, done, most, rate, position, next_at, actor,
                                     why, created_at, updated_at)
             VALUES (?1, ?2, ?3, 1, ?4, 0, ?5, ?6, 0, ?7, ?8, ?9, ?7, ?7)",
        )?
        .execute((kind, job.0, &filter, planned, limit, rate, row.next_at.0, actor, why))?;
    row.id = OperationId(session.connection.last_insert_rowid());
    session.note(redrive.now, &events::operation_started(&row, redrive, &filter))?;
    Ok(row)
}

pub(super) fn set_operation(
    session: &mut Session<'_>,
    id: OperationId,
    to: OperationState,
    actor: &str,
    now: Timestamp,
) -> Result<OperationRow, Fail> {
    let mut operation = operation(session, id)?;
    rules::set(&mut operation.row, to, now)?;
    update(session, &operation)?;
    session.note(now, &events::operation_moved(&operation.row, actor))?;
    Ok(operation.row)
}

/// Does the next step of an operation, as far as its rate allows.
pub(super) fn step(
    session: &mut Session<'_>,
    id: OperationId,
    limit: u32,
    now: Timestamp,
) -> Result<OperationRow, Fail> {
    let mut operation = operation(session, id)?;
    let Some(share) = rules::share(&operation.row, limit, now) else { return Ok(operation.row) };
    let job = operation.row.job;
    let which = filter::from_json(job, &operation.filter)?;
    let mut taken = 0;
    while taken < share {
        let page = dead(session.connection, &which, operation.position, share - taken)?;
        for row in &page {
            taken += u32::from(redrive(session, id, &which, row, now)?);
            operation.position = row.key;
        }
        if page.is_empty() {
            break;
        }
    }
    rules::took(&mut operation.row, u64::from(taken), taken < share, now);
    if operation.row.state == OperationState::Done {
        session.note(now, &events::operation_done(&operation.row))?;
    }
    update(session, &operation)?;
    Ok(operation.row)
}

/// Redrives a dead stage. Returns false for a cancelled item, which does not change.
fn redrive(
    session: &mut Session<'_>,
    id: OperationId,
    which: &DeadFilter,
    row: &DeadRow,
    now: Timestamp,
) -> Result<bool, Fail> {
    let (key, bit) = (row.key, row.key.bit());
    let Some(item) = session.item(key.item())? else {
        return Err(Error::Damaged(format!("item {} of a result is missing", key.item())).into());
    };
    let has_result = session.has_result(key)?;
    let job = session.job(which.job)?;
    let Some(change) = redrive::redrive(&job.dag, item, bit, has_result) else { return Ok(false) };
    session.apply(&job, &change, now, Some(id))?;
    session.note(now, &events::redriven(which.job, id, row))?;
    Ok(true)
}
