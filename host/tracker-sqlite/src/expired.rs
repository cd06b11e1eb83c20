//! Reads rows that are old enough to delete.
//!
//! Owns the mapping of rows to archived records, with the rows that belong to them. Never deletes anything.

use gristmill_model::{Digest, Expiring, ItemId};
use rusqlite::{Connection, Row, ToSql};

use super::blobs::Blobs;
use super::prune::keys_of;
use crate::fail::Fail;
use gristmill_tracker::records::{
    AttemptCharge, ExpiredAttempt, ExpiredCharge, ExpiredEvent, ExpiredItem, ExpiredOutcome, ExpiredResult, ExpiredRow,
    ExpiredSighting,
};

const CHARGES: &str = "SELECT meter, amount FROM costs WHERE attempt_id = ?1 ORDER BY id";
const OUTCOMES: &str = "SELECT * FROM item_stages WHERE key BETWEEN ?1 AND ?2 ORDER BY key";
const SIGHTINGS: &str = "SELECT item_id, data_hash, at, source, cursor FROM sightings
    CROSS JOIN pages ON pages.id = page_id WHERE item_id = ?1 ORDER BY page_id, data_hash";

/// The content of a row, with the rows that belong to it.
pub(super) fn contents(
    connection: &Connection,
    blobs: &Blobs,
    what: Expiring,
    row: &Row<'_>,
) -> Result<ExpiredRow, Fail> {
    Ok(match what {
        Expiring::Attempts => {
            let mut attempt = attempt(row)?;
            attempt.charges = list(connection, CHARGES, &[&attempt.id], charge_of_attempt)?;
            ExpiredRow::Attempt(Box::new(attempt))
        }
        Expiring::Costs => ExpiredRow::Charge(charge(row)?),
        Expiring::Events => ExpiredRow::Event(event(row)?),
        Expiring::Items => {
            let mut item = item(row)?;
            let (first, last) = keys_of(ItemId(item.id));
            item.stages = list(connection, OUTCOMES, &[&first, &last], outcome)?;
            item.stages.iter_mut().try_for_each(|outcome| inline(blobs, outcome))?;
            item.sightings = list(connection, SIGHTINGS, &[&item.id], sighting)?;
            ExpiredRow::Item(Box::new(item))
        }
        Expiring::Results => {
            let (job_id, item, stage) = (row.get("job_id")?, row.get("item")?, row.get("stage")?);
            let mut outcome = outcome(row)?;
            inline(blobs, &mut outcome)?;
            ExpiredRow::Result(Box::new(ExpiredResult { job_id, item, stage, outcome }))
        }
    })
}

fn list<T>(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn ToSql],
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Fail> {
    Ok(connection.prepare_cached(sql)?.query_map(parameters, read)?.collect::<Result<_, _>>()?)
}

/// Replaces the empty text of a large output by its file's content.
fn inline(blobs: &Blobs, outcome: &mut ExpiredOutcome) -> Result<(), Fail> {
    if let Some(output) = outcome.output.take() {
        outcome.output = Some(blobs.full(output, outcome.output_hash.as_ref())?);
    }
    Ok(())
}

fn hash(row: &Row<'_>, column: &str) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest)
}

fn hash_or_none(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Digest>> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(Digest))
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<ExpiredAttempt> {
    Ok(ExpiredAttempt {
        id: row.get("id")?,
        key: row.get("key")?,
        stage_id: row.get("stage_id")?,
        prev: row.get("prev")?,
        outcome: row.get("outcome")?,
        host_id: row.get("host_id")?,
        fence: row.get("fence")?,
        queued_at: row.get("queued_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
        version_id: row.get("version_id")?,
        memory_bytes_max: row.get("memory_bytes_max")?,
        input_hash: hash_or_none(row, "input_hash")?,
        spec: row.get("spec")?,
        operation_id: row.get("operation_id")?,
        error: row.get("error")?,
        log: row.get("log")?,
        charges: Vec::new(),
    })
}

fn charge_of_attempt(row: &Row<'_>) -> rusqlite::Result<AttemptCharge> {
    Ok(AttemptCharge { meter: row.get("meter")?, amount: row.get("amount")? })
}

fn charge(row: &Row<'_>) -> rusqlite::Result<ExpiredCharge> {
    Ok(ExpiredCharge {
        id: row.get("id")?,
        attempt_id: row.get("attempt_id")?,
        stage_id: row.get("stage_id")?,
        key: row.get("key")?,
        ended_at: row.get("ended_at")?,
        meter: row.get("meter")?,
        amount: row.get("amount")?,
    })
}

fn event(row: &Row<'_>) -> rusqlite::Result<ExpiredEvent> {
    Ok(ExpiredEvent {
        id: row.get("id")?,
        at: row.get("at")?,
        kind: row.get("kind")?,
        job_id: row.get("job_id")?,
        item_id: row.get("item_id")?,
        operation_id: row.get("operation_id")?,
        data: row.get("data")?,
    })
}

fn item(row: &Row<'_>) -> rusqlite::Result<ExpiredItem> {
    Ok(ExpiredItem {
        id: row.get("id")?,
        job_id: row.get("job_id")?,
        key: row.get("key")?,
        done: row.get("done")?,
        skipped: row.get("skipped")?,
        dead: row.get("dead")?,
        live: row.get("live")?,
        stale: row.get("stale")?,
        priority: row.get("priority")?,
        cancelled_at: row.get("cancelled_at")?,
        discovered_at: row.get("discovered_at")?,
        changed_at: row.get("changed_at")?,
        data_hash: hash(row, "data_hash")?,
        seen_hash: hash_or_none(row, "seen_hash")?.map_or_else(|| hash(row, "data_hash"), Ok)?,
        data: row.get("data")?,
        stages: Vec::new(),
        sightings: Vec::new(),
    })
}

fn outcome(row: &Row<'_>) -> rusqlite::Result<ExpiredOutcome> {
    Ok(ExpiredOutcome {
        key: row.get("key")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        attempts: row.get("attempts")?,
        lost: row.get("lost")?,
        deferrals: row.get("deferrals")?,
        settled_at: row.get("settled_at")?,
        last_attempt: row.get("last_attempt")?,
        version_id: row.get("version_id")?,
        input_hash: hash_or_none(row, "input_hash")?,
        output_hash: hash_or_none(row, "output_hash")?,
        output: row.get("output")?,
        error: row.get("error")?,
    })
}

fn sighting(row: &Row<'_>) -> rusqlite::Result<ExpiredSighting> {
    Ok(ExpiredSighting {
        item_id: row.get("item_id")?,
        data_hash: hash(row, "data_hash")?,
        at: row.get("at")?,
        source: row.get("source")?,
        cursor: row.get("cursor")?,
    })
}
