//! Operations: redrives of many stages, done in steps.
//!
//! Owns their rows, and the redrive of dead stages. A step and the new position are one transaction, so that a crash
//! repeats nothing. Never decides when to do the next step: the process that runs the operation does.

use std::collections::HashMap;

use gristmill_model::{JobId, OperationId, StageKey, Timestamp};
use tokio_postgres::Row;

use super::changes::{Changes, items_of, lock_items};
use super::dead::{count, dead, last};
use super::fail::Fail;
use super::tx::{Lock, Tx};
use gristmill_tracker::records::{DeadRow, OperationRow, OperationState, Redrive};
use gristmill_tracker::rules::{events, operation as rules, redrive};
use gristmill_tracker::{Error, filter};

const LIST: &str = concat!(
    "SELECT ",
    gristmill_tracker::operation_columns!(),
    " FROM operations WHERE $1::bigint IS NULL OR job_id = $1 ORDER BY id DESC LIMIT $2"
);
const ONE: &str = concat!("SELECT ", gristmill_tracker::operation_columns!(), " FROM operations WHERE id = $1");
const LOCK: &str =
    concat!("SELECT ", gristmill_tracker::operation_columns!(), " FROM operations WHERE id = $1 FOR UPDATE");
const BEGIN: &str = "INSERT INTO operations (kind, job_id, filter, state, planned, done, most, rate, position, next_at,
        actor, why, created_at, updated_at)
    VALUES ($1, $2, $3, 1, $4, 0, $5, $6, 0, $7, $8, $9, $7, $7) RETURNING id";
const UPDATE: &str =
    "UPDATE operations SET state = $2, done = $3, next_at = $4, updated_at = $5, position = $6 WHERE id = $1";
const STILL_DEAD: &str = "SELECT key, output IS NOT NULL FROM item_stages WHERE key = ANY ($1) AND state = 6";

/// An operation, with fields that only the tracker needs.
struct Operation {
    row: OperationRow,
    filter: String,
    position: StageKey,
}

fn read(row: &Row) -> Operation {
    let number = |column: usize| row.get::<_, i64>(column) as u64;
    let operation = OperationRow {
        id: OperationId(row.get(0)),
        kind: row.get(1),
        job: JobId(row.get(2)),
        state: OperationState::from_code(row.get(3)).unwrap_or(OperationState::Cancelled),
        planned: number(4),
        done: number(5),
        limit: number(6),
        rate: row.get(7),
        next_at: Timestamp(row.get(8)),
        actor: row.get(9),
        why: row.get(10),
        created_at: Timestamp(row.get(11)),
        updated_at: Timestamp(row.get(12)),
    };
    Operation { row: operation, filter: row.get(13), position: StageKey(row.get(14)) }
}

/// The newest first.
pub(super) async fn operations(tx: &Tx<'_>, job: Option<JobId>, limit: u32) -> Result<Vec<OperationRow>, Fail> {
    let rows = tx.query(LIST, &[&job.map(|job| job.0), &i64::from(limit)]).await?;
    Ok(rows.iter().map(|row| read(row).row).collect())
}

/// One operation, if it is there.
pub(super) async fn one(tx: &Tx<'_>, id: OperationId) -> Result<Option<OperationRow>, Fail> {
    Ok(tx.query_opt(ONE, &[&id.0]).await?.map(|row| read(&row).row))
}

async fn lock(tx: &Tx<'_>, id: OperationId) -> Result<Operation, Fail> {
    let rows = tx.query_writing(LOCK, &[&id.0]).await?;
    rows.first().map(read).ok_or(Fail::Refused(Error::UnknownOperation(id.0)))
}

async fn update(tx: &Tx<'_>, operation: &Operation) -> Result<(), Fail> {
    let OperationRow { id, state, done, next_at, updated_at, .. } = &operation.row;
    let parameters: super::tx::Parameters<'_> =
        &[&id.0, &state.code(), &(*done as i64), &next_at.0, &updated_at.0, &operation.position.0];
    tx.execute(UPDATE, parameters).await?;
    tx.wake_others();
    Ok(())
}

pub(super) async fn begin_redrive(tx: &Tx<'_>, redrive: &Redrive) -> Result<OperationRow, Fail> {
    tx.begin(Lock::Shared, redrive.now).await?;
    tx.dag(redrive.filter.job)?;
    let mut row = rules::begin(redrive, count(tx, &redrive.filter).await?, tx.now());
    let filter = filter::to_json(&redrive.filter);
    let OperationRow { kind, job, planned, limit, rate, next_at, actor, why, .. } = &row;
    let parameters: super::tx::Parameters<'_> =
        &[kind, &job.0, &filter, &(*planned as i64), &(*limit as i64), rate, &next_at.0, actor, why];
    let rows = tx.query_writing(BEGIN, parameters).await?;
    let id = rows.first().map(|row| row.get(0));
    row.id = OperationId(id.ok_or_else(|| Error::Damaged("an operation was not kept".to_owned()))?);
    tx.note(&events::operation_started(&row, redrive, &filter)).await?;
    tx.wake_others();
    Ok(row)
}

pub(super) async fn set_operation(
    tx: &Tx<'_>,
    id: OperationId,
    to: OperationState,
    actor: &str,
    now: Timestamp,
) -> Result<OperationRow, Fail> {
    tx.begin(Lock::Shared, now).await?;
    let mut operation = lock(tx, id).await?;
    rules::set(&mut operation.row, to, tx.now())?;
    update(tx, &operation).await?;
    tx.note(&events::operation_moved(&operation.row, actor)).await?;
    Ok(operation.row)
}

/// Does the next step of an operation, as far as its rate allows. The operation is locked, so that two hosts do not do
/// a step at once.
pub(super) async fn step(tx: &Tx<'_>, id: OperationId, limit: u32, now: Timestamp) -> Result<OperationRow, Fail> {
    tx.begin(Lock::Shared, now).await?;
    let now = tx.now();
    let mut operation = lock(tx, id).await?;
    let Some(share) = rules::share(&operation.row, limit, now) else { return Ok(operation.row) };
    let job = operation.row.job;
    let which = filter::from_json(job, &operation.filter)?;
    let found = dead(tx, &which, operation.position, share, false).await?;
    let redriven = redrive(tx, id, job, &found).await?;
    let is_last = found.len() < share as usize;
    operation.position = if is_last {
        // Everything was checked, including stages of cancelled items.
        last(tx, &which, operation.position).await?.max(found.last().map_or(operation.position, |row| row.key))
    } else {
        found.last().map_or(operation.position, |row| row.key)
    };
    rules::took(&mut operation.row, redriven, is_last, now);
    if operation.row.state == OperationState::Done {
        tx.note(&events::operation_done(&operation.row)).await?;
    }
    update(tx, &operation).await?;
    Ok(operation.row)
}

/// Redrives dead stages. Returns how many, since another transaction may already have redriven some.
async fn redrive(tx: &Tx<'_>, id: OperationId, job: JobId, found: &[DeadRow]) -> Result<u64, Fail> {
    if found.is_empty() {
        return Ok(0);
    }
    let dag = tx.dag(job)?;
    let keys: Vec<i64> = found.iter().map(|row| row.key.0).collect();
    let mut items = lock_items(tx, &items_of(found.iter().map(|row| row.key))).await?;
    let rows = tx.query(STILL_DEAD, &[&keys]).await?;
    let still_dead: HashMap<i64, bool> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let (mut changes, mut events) = (Changes::default(), Vec::new());
    for row in found {
        let (Some(has_result), Some(item)) = (still_dead.get(&row.key.0), items.get_mut(&row.key.item())) else {
            continue;
        };
        let bit = row.key.bit();
        let Some(change) = redrive::redrive(&dag, *item, bit, *has_result) else { continue };
        *item = change.after;
        changes.push(tx, &dag, &change, Some(id));
        events.push(events::redriven(job, id, row));
    }
    changes.write(tx).await?;
    tx.note_all(&events).await?;
    Ok(events.len() as u64)
}
