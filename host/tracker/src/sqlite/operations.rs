//! Operations: what a person asks to be done with many stages, in steps.
//!
//! Owns their rows, and the redrive of dead stages. A step and how far it came are one transaction, so that a crash
//! repeats nothing. Never decides when to go on: whoever runs the operation steps it.

use gristmill_model::{ItemStatus, JobId, Masks, OperationId, StageId, StageKey, State, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::{Value, json};

use super::dead::{count, dead};
use super::session::{ItemMasks, Noted, Session, claim_key};
use crate::records::{DeadFilter, DeadRow, NewEvent, OperationRow, OperationState, Redrive};
use crate::{Error, filter, step};

const KIND: &str = "redrive";

const COLUMNS: &str =
    "id, kind, job_id, state, planned, done, most, rate, next_at, actor, why, created_at, updated_at, filter, position";

/// An operation with what only the tracker needs of it.
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
pub(super) fn operations(connection: &Connection, job: Option<JobId>, limit: u32) -> Result<Vec<OperationRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM operations WHERE (?1 IS NULL OR job_id = ?1) ORDER BY id DESC LIMIT ?2");
    let rows = connection
        .prepare_cached(&sql)?
        .query_map((job.map(|job| job.0), limit), |row| read(row).map(|operation| operation.row))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn operation(session: &Session<'_>, id: OperationId) -> Result<Operation, Error> {
    session
        .connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM operations WHERE id = ?1"))?
        .query_row([id.0], read)
        .optional()?
        .ok_or(Error::UnknownOperation(id.0))
}

fn update(session: &Session<'_>, operation: &Operation) -> Result<(), Error> {
    let OperationRow { id, state, done, next_at, updated_at, .. } = &operation.row;
    session
        .connection
        .prepare_cached(
            "UPDATE operations SET state = ?2, done = ?3, next_at = ?4, updated_at = ?5, position = ?6 WHERE id = ?1",
        )?
        .execute((id.0, state.code(), *done as i64, next_at.0, updated_at.0, operation.position.0))?;
    Ok(())
}

pub(super) fn begin_redrive(session: &mut Session<'_>, redrive: &Redrive) -> Result<OperationRow, Error> {
    let Redrive { filter: which, limit, rate, actor, why, now } = redrive;
    session.dag(which.job)?;
    // More than any column can count is as good as no limit.
    let limit = (*limit).min(i64::MAX as u64);
    let planned = count(session.connection, which)?.min(limit);
    let filter = filter::to_json(which);
    session
        .connection
        .prepare_cached(
            "INSERT INTO operations (kind, job_id, filter, state, planned, done, most, rate, position, next_at, actor,
                                     why, created_at, updated_at)
             VALUES (?1, ?2, ?3, 1, ?4, 0, ?5, ?6, 0, ?7, ?8, ?9, ?7, ?7)",
        )?
        .execute((KIND, which.job.0, &filter, planned as i64, limit as i64, rate, now.0, actor, why))?;
    let id = OperationId(session.connection.last_insert_rowid());
    let filter: Value = serde_json::from_str(&filter).unwrap_or_default();
    let data = json!({
        "filter": filter, "planned": planned, "limit": limit, "rate": rate, "actor": actor, "why": why,
    });
    session.event(&Noted::new(*now, "operation.started", data).job(which.job).operation(id))?;
    Ok(operation(session, id)?.row)
}

pub(super) fn set_operation(
    session: &mut Session<'_>,
    id: OperationId,
    to: OperationState,
    actor: &str,
    now: Timestamp,
) -> Result<OperationRow, Error> {
    let mut operation = operation(session, id)?;
    let from = operation.row.state;
    if !from.may_become(to) {
        return Err(Error::OperationState { id: id.0, from, to });
    }
    operation.row.state = to;
    operation.row.updated_at = now;
    update(session, &operation)?;
    session.event(&Noted::new(now, step::event(to), json!({ "actor": actor })).job(operation.row.job).operation(id))?;
    Ok(operation.row)
}

/// Goes on with an operation, as far as its rate allows.
pub(super) fn step(
    session: &mut Session<'_>,
    id: OperationId,
    limit: u32,
    now: Timestamp,
) -> Result<OperationRow, Error> {
    let mut operation = operation(session, id)?;
    let Some(share) = step::share(&operation.row, limit, now) else { return Ok(operation.row) };
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
    step::took(&mut operation.row, u64::from(taken), taken < share, now);
    if operation.row.state == OperationState::Done {
        let data = json!({ "done": operation.row.done });
        session.event(&Noted::new(now, step::event(OperationState::Done), data).job(job).operation(id))?;
    }
    update(session, &operation)?;
    Ok(operation.row)
}

/// Makes a dead stage what it was before it ran: ready, with nothing counted, and with an older result if there is one.
/// Returns false for one of a cancelled item, which is left as it is.
fn redrive(
    session: &mut Session<'_>,
    id: OperationId,
    which: &DeadFilter,
    row: &DeadRow,
    now: Timestamp,
) -> Result<bool, Error> {
    let (key, bit) = (row.key, row.key.bit());
    let Some(item) = session.masks(key.item().0)? else {
        return Err(Error::Damaged(format!("item {} of a result is missing", key.item())));
    };
    if item.cancelled {
        return Ok(false);
    }
    let dag = session.dag(which.job)?;
    let stage = StageId::new(which.job, bit);
    let (last_attempt, has_result): (Option<i64>, bool) = session
        .connection
        .prepare_cached("SELECT last_attempt, output IS NOT NULL FROM item_stages WHERE key = ?1")?
        .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut masks = Masks { dead: item.masks.dead & !bit.mask(), ..item.masks };
    let put_back = if has_result {
        masks.done |= bit.mask();
        masks.stale |= bit.mask();
        "UPDATE item_stages SET state = 4, reason = NULL, error = NULL WHERE key = ?1"
    } else {
        "DELETE FROM item_stages WHERE key = ?1"
    };
    session.connection.prepare_cached(put_back)?.execute([key.0])?;
    session.tally.stage(stage, State::Dead, -1);
    if has_result {
        session.tally.stage(stage, State::Done, 1);
    }
    if dag.runnable_among(masks, bit.mask()) != 0 {
        masks.live |= bit.mask();
        enqueue(session, id, key, item, last_attempt, now)?;
    }
    session.set_masks(key.item(), masks)?;
    let status = |masks| ItemStatus::of(masks, dag.all(), item.cancelled);
    if session.is_counted(which.job, key.item())? {
        session.tally.status(which.job, status(item.masks), status(masks));
    }
    let data = json!({ "item": row.item_key, "stage": row.stage });
    let event = Noted::new(now, "stage.redriven", data).job(which.job).item(key.item()).operation(id);
    session.event(&event)?;
    Ok(true)
}

fn enqueue(
    session: &mut Session<'_>,
    id: OperationId,
    key: StageKey,
    item: ItemMasks,
    last_attempt: Option<i64>,
    now: Timestamp,
) -> Result<(), Error> {
    let stage = StageId::new(item.job, key.bit());
    session
        .connection
        .prepare_cached(
            "INSERT INTO queue (key, stage_id, state, claim_key, due_at, last_attempt, operation_id)
             VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6)",
        )?
        .execute((key.0, stage.0, claim_key(now.0, item.priority), now.0, last_attempt, id.0))?;
    session.tally.stage(stage, State::Ready, 1);
    Ok(())
}

/// Records an event of somebody else.
pub(super) fn record_event(session: &Session<'_>, event: &NewEvent) -> Result<(), Error> {
    session
        .connection
        .prepare_cached("INSERT INTO events (at, kind, job_id, data) VALUES (?1, ?2, ?3, ?4)")?
        .execute((event.now.0, &event.kind, event.job.map(|job| job.0), &event.data))?;
    Ok(())
}
