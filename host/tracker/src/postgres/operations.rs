//! Operations: what a person asks to be done with many stages, in steps.
//!
//! Owns their rows, and the redrive of dead stages. A step and how far it came are one transaction, so that a crash
//! repeats nothing. Never decides when to go on: whoever runs the operation steps it.

use std::collections::{BTreeMap, HashMap};

use gristmill_model::{ItemId, ItemStatus, JobId, OperationId, StageId, StageKey, State, Timestamp};
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::dead::{count, dead, last};
use super::events::Noted;
use super::fail::Fail;
use super::record::{ItemState, LOCK_ITEMS, set_masks_alone};
use super::tx::{Lock, Tx};
use super::write::Enqueued;
use crate::records::{DeadRow, NewEvent, OperationRow, OperationState, Redrive};
use crate::{Error, filter, step};

const KIND: &str = "redrive";

const LIST: &str = "SELECT id, kind, job_id, state, planned, done, most, rate, next_at, actor, why, created_at,
        updated_at, filter, position
    FROM operations WHERE $1::bigint IS NULL OR job_id = $1 ORDER BY id DESC LIMIT $2";
const LOCK: &str = "SELECT id, kind, job_id, state, planned, done, most, rate, next_at, actor, why, created_at,
        updated_at, filter, position
    FROM operations WHERE id = $1 FOR UPDATE";
const BEGIN: &str = "INSERT INTO operations (kind, job_id, filter, state, planned, done, most, rate, position, next_at,
        actor, why, created_at, updated_at)
    VALUES ($1, $2, $3, 1, $4, 0, $5, $6, -1, $7, $8, $9, $7, $7)
    RETURNING id, kind, job_id, state, planned, done, most, rate, next_at, actor, why, created_at, updated_at, filter,
        position";
const UPDATE: &str =
    "UPDATE operations SET state = $2, done = $3, next_at = $4, updated_at = $5, position = $6 WHERE id = $1";
const STILL_DEAD: &str = "SELECT key, output IS NOT NULL FROM item_stages WHERE key = ANY ($1) AND state = 6";
const PUT_BACK: &str = "UPDATE item_stages SET state = 4, reason = NULL, error = NULL
    WHERE key = ANY ($1) AND output IS NOT NULL";
const FORGET: &str = "DELETE FROM item_stages WHERE key = ANY ($1) AND output IS NULL";

/// An operation with what only the tracker needs of it.
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

async fn note(tx: &Tx<'_>, operation: &OperationRow, kind: &str, data: &Value) -> Result<(), Fail> {
    tx.event_of(kind, Some(operation.job), None, Some(operation.id), &data.to_string()).await
}

pub(super) async fn begin_redrive(tx: &Tx<'_>, redrive: &Redrive) -> Result<OperationRow, Fail> {
    let Redrive { filter: which, limit, rate, actor, why, now } = redrive;
    tx.begin(Lock::Shared, *now).await?;
    tx.dag(which.job)?;
    // More than any column can count is as good as no limit.
    let limit = (*limit).min(i64::MAX as u64);
    let planned = count(tx, which).await?.min(limit);
    let filter = filter::to_json(which);
    let parameters: super::tx::Parameters<'_> =
        &[&KIND, &which.job.0, &filter, &(planned as i64), &(limit as i64), rate, &tx.now().0, actor, why];
    let rows = tx.query_writing(BEGIN, parameters).await?;
    let operation = rows.first().map(read).ok_or_else(|| Error::Damaged("an operation was not kept".to_owned()))?;
    let filter: Value = serde_json::from_str(&filter).unwrap_or_default();
    let data =
        json!({ "filter": filter, "planned": planned, "limit": limit, "rate": rate, "actor": actor, "why": why });
    note(tx, &operation.row, "operation.started", &data).await?;
    tx.wake_others();
    Ok(operation.row)
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
    let from = operation.row.state;
    if !from.may_become(to) {
        return Err(Error::OperationState { id: id.0, from, to }.into());
    }
    operation.row.state = to;
    operation.row.updated_at = tx.now();
    update(tx, &operation).await?;
    note(tx, &operation.row, step::event(to), &json!({ "actor": actor })).await?;
    Ok(operation.row)
}

/// Goes on with an operation, as far as its rate allows. It is locked: two hosts do not step it at once.
pub(super) async fn step(tx: &Tx<'_>, id: OperationId, limit: u32, now: Timestamp) -> Result<OperationRow, Fail> {
    tx.begin(Lock::Shared, now).await?;
    let now = tx.now();
    let mut operation = lock(tx, id).await?;
    let Some(share) = step::share(&operation.row, limit, now) else { return Ok(operation.row) };
    let job = operation.row.job;
    let which = filter::from_json(job, &operation.filter)?;
    let found = dead(tx, &which, operation.position, share, false).await?;
    let redriven = redrive(tx, id, job, &found).await?;
    let is_last = found.len() < share as usize;
    operation.position = if is_last {
        // All was looked at, what belongs to cancelled items too.
        last(tx, &which, operation.position).await?.max(found.last().map_or(operation.position, |row| row.key))
    } else {
        found.last().map_or(operation.position, |row| row.key)
    };
    step::took(&mut operation.row, redriven, is_last, now);
    if operation.row.state == OperationState::Done {
        note(tx, &operation.row, step::event(OperationState::Done), &json!({ "done": operation.row.done })).await?;
    }
    update(tx, &operation).await?;
    Ok(operation.row)
}

/// Makes dead stages what they were before they ran: ready, with nothing counted, and with an older result if there is
/// one. Returns how many: another transaction may have been faster with some of them.
async fn redrive(tx: &Tx<'_>, id: OperationId, job: JobId, found: &[DeadRow]) -> Result<u64, Fail> {
    if found.is_empty() {
        return Ok(0);
    }
    let dag = tx.dag(job)?;
    let keys: Vec<i64> = found.iter().map(|row| row.key.0).collect();
    let mut ids: Vec<i64> = found.iter().map(|row| row.key.item().0).collect();
    ids.dedup();
    let rows = tx.query_writing(LOCK_ITEMS, &[&ids]).await?;
    let mut items: BTreeMap<ItemId, ItemState> = rows.iter().map(ItemState::read).map(|item| (item.id, item)).collect();
    let rows = tx.query(STILL_DEAD, &[&keys]).await?;
    let still_dead: HashMap<i64, bool> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut enqueued = Enqueued::default();
    let mut events = Noted::default();
    let mut redriven = Vec::new();
    for row in found {
        let bit = row.key.bit();
        let Some(has_result) = still_dead.get(&row.key.0) else { continue };
        let Some(item) = items.get_mut(&row.key.item()).filter(|item| !item.cancelled) else { continue };
        let before = item.masks;
        item.masks.dead &= !bit.mask();
        let stage = StageId::new(job, bit);
        tx.count_stage(stage, State::Dead, -1);
        if *has_result {
            item.masks.done |= bit.mask();
            item.masks.stale |= bit.mask();
            tx.count_stage(stage, State::Done, 1);
        }
        if dag.runnable_among(item.masks, bit.mask()) != 0 {
            enqueued.push(tx, item, bit, Some(id));
            item.masks.live |= bit.mask();
        }
        let status = |masks| ItemStatus::of(masks, dag.all(), false);
        tx.count_item(job, item.id, Some(status(before)), Some(status(item.masks)));
        events.push(item.id, &json!({ "item": row.item_key, "stage": row.stage }));
        redriven.push(row.key.0);
    }
    // The queue goes on with the chain of attempts: before their head is forgotten.
    enqueued.write_alone(tx).await?;
    tx.execute(PUT_BACK, &[&redriven]).await?;
    tx.execute(FORGET, &[&redriven]).await?;
    set_masks_alone(tx, &items.values().collect::<Vec<_>>()).await?;
    events.write(tx, "stage.redriven", job, Some(id)).await?;
    Ok(redriven.len() as u64)
}

/// Records an event of somebody else.
pub(super) async fn record_event(tx: &Tx<'_>, event: &NewEvent) -> Result<(), Fail> {
    tx.begin(Lock::Shared, event.now).await?;
    tx.event_of(&event.kind, event.job, None, None, &event.data).await
}
