//! Reads rows that are old enough to delete.
//!
//! Owns the mapping of rows to archived records, with the rows that belong to them, a page at once. Never deletes
//! anything.

use std::collections::HashMap;

use gristmill_model::{Digest, Expiring};
use tokio_postgres::Row;

use super::fail::Fail;
use super::items::digest;
use super::tx::Tx;
use gristmill_tracker::records::{
    AttemptCharge, ExpiredAttempt, ExpiredCharge, ExpiredEvent, ExpiredItem, ExpiredOutcome, ExpiredResult, ExpiredRow,
    ExpiredSighting,
};

const ATTEMPTS: &str = "SELECT * FROM attempts WHERE id = ANY ($1) ORDER BY id";
const CHARGES: &str = "SELECT attempt_id, meter, amount FROM costs WHERE attempt_id = ANY ($1) ORDER BY attempt_id, id";
const COSTS: &str = "SELECT costs.*, stage_id, key, ended_at FROM costs LEFT JOIN attempts ON attempts.id = attempt_id
    WHERE costs.id = ANY ($1) ORDER BY costs.id";
const EVENTS: &str = "SELECT * FROM events WHERE id = ANY ($1) ORDER BY id";
const ITEMS: &str = "SELECT items.*, discovered_at, changed_at, key, data_hash,
        coalesce(seen_hash, data_hash) AS seen, data
    FROM items JOIN item_data ON item_data.id = items.id WHERE items.id = ANY ($1) ORDER BY items.id";
const OUTCOMES: &str = "SELECT item_stages.* FROM unnest($1::bigint[]) AS u (n)
    JOIN item_stages ON key BETWEEN n << 6 AND n << 6 | 63 ORDER BY key";
const SIGHTINGS: &str = "SELECT item_id, data_hash, at, source, cursor FROM sightings JOIN pages ON pages.id = page_id
    WHERE item_id = ANY ($1) ORDER BY item_id, page_id, data_hash";
const RESULTS: &str = "SELECT settled.*, item_data.job_id, item_data.key AS item, stages.name AS stage
    FROM item_stages AS settled JOIN item_data ON item_data.id = settled.key >> 6
    JOIN stages ON stages.id = item_data.job_id << 6 | (settled.key & 63)
    WHERE settled.key = ANY ($1) ORDER BY settled.key";

/// The contents of rows, with the rows that belong to them.
pub(super) async fn contents(tx: &Tx<'_>, what: Expiring, numbers: &[i64]) -> Result<Vec<ExpiredRow>, Fail> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    Ok(match what {
        Expiring::Attempts => attempts(tx, numbers).await?,
        Expiring::Items => items(tx, numbers).await?,
        Expiring::Costs => tx.query(COSTS, &[&numbers]).await?.iter().map(charge).map(ExpiredRow::Charge).collect(),
        Expiring::Events => tx.query(EVENTS, &[&numbers]).await?.iter().map(event).map(ExpiredRow::Event).collect(),
        Expiring::Results => {
            let rows = tx.query(RESULTS, &[&numbers]).await?;
            rows.iter().map(result).collect::<Result<_, Fail>>()?
        }
    })
}

async fn attempts(tx: &Tx<'_>, numbers: &[i64]) -> Result<Vec<ExpiredRow>, Fail> {
    let mut charges: HashMap<i64, Vec<AttemptCharge>> = HashMap::new();
    for row in tx.query(CHARGES, &[&numbers]).await? {
        let charge = AttemptCharge { meter: row.get("meter"), amount: row.get("amount") };
        charges.entry(row.get("attempt_id")).or_default().push(charge);
    }
    let mut rows = Vec::with_capacity(numbers.len());
    for row in tx.query(ATTEMPTS, &[&numbers]).await? {
        let mut attempt = attempt(&row)?;
        attempt.charges = charges.remove(&attempt.id).unwrap_or_default();
        rows.push(ExpiredRow::Attempt(Box::new(attempt)));
    }
    Ok(rows)
}

async fn items(tx: &Tx<'_>, numbers: &[i64]) -> Result<Vec<ExpiredRow>, Fail> {
    let mut outcomes: HashMap<i64, Vec<ExpiredOutcome>> = HashMap::new();
    for row in tx.query(OUTCOMES, &[&numbers]).await? {
        let outcome = outcome(&row)?;
        outcomes.entry(outcome.key >> 6).or_default().push(outcome);
    }
    let mut sightings: HashMap<i64, Vec<ExpiredSighting>> = HashMap::new();
    for row in tx.query(SIGHTINGS, &[&numbers]).await? {
        let sighting = sighting(&row)?;
        sightings.entry(sighting.item_id).or_default().push(sighting);
    }
    let mut rows = Vec::with_capacity(numbers.len());
    for row in tx.query(ITEMS, &[&numbers]).await? {
        let mut item = item(&row)?;
        item.stages = outcomes.remove(&item.id).unwrap_or_default();
        item.sightings = sightings.remove(&item.id).unwrap_or_default();
        rows.push(ExpiredRow::Item(Box::new(item)));
    }
    Ok(rows)
}

fn hash(row: &Row, column: &str) -> Result<Digest, Fail> {
    digest(row.get(column))
}

fn hash_or_none(row: &Row, column: &str) -> Result<Option<Digest>, Fail> {
    row.get::<_, Option<&[u8]>>(column).map(digest).transpose()
}

fn attempt(row: &Row) -> Result<ExpiredAttempt, Fail> {
    Ok(ExpiredAttempt {
        id: row.get("id"),
        key: row.get("key"),
        stage_id: row.get("stage_id"),
        prev: row.get("prev"),
        outcome: row.get("outcome"),
        host_id: row.get("host_id"),
        fence: row.get("fence"),
        queued_at: row.get("queued_at"),
        started_at: row.get("started_at"),
        ended_at: row.get("ended_at"),
        version_id: row.get("version_id"),
        memory_bytes_max: row.get("memory_bytes_max"),
        input_hash: hash_or_none(row, "input_hash")?,
        spec: row.get("spec"),
        operation_id: row.get("operation_id"),
        error: row.get("error"),
        log: row.get("log"),
        charges: Vec::new(),
    })
}

fn charge(row: &Row) -> ExpiredCharge {
    ExpiredCharge {
        id: row.get("id"),
        attempt_id: row.get("attempt_id"),
        stage_id: row.get("stage_id"),
        key: row.get("key"),
        ended_at: row.get("ended_at"),
        meter: row.get("meter"),
        amount: row.get("amount"),
    }
}

fn event(row: &Row) -> ExpiredEvent {
    ExpiredEvent {
        id: row.get("id"),
        at: row.get("at"),
        kind: row.get("kind"),
        job_id: row.get("job_id"),
        item_id: row.get("item_id"),
        operation_id: row.get("operation_id"),
        data: row.get("data"),
    }
}

fn item(row: &Row) -> Result<ExpiredItem, Fail> {
    Ok(ExpiredItem {
        id: row.get("id"),
        job_id: row.get("job_id"),
        key: row.get("key"),
        done: row.get("done"),
        skipped: row.get("skipped"),
        dead: row.get("dead"),
        live: row.get("live"),
        stale: row.get("stale"),
        priority: row.get("priority"),
        cancelled_at: row.get("cancelled_at"),
        discovered_at: row.get("discovered_at"),
        changed_at: row.get("changed_at"),
        data_hash: hash(row, "data_hash")?,
        seen_hash: hash(row, "seen")?,
        data: row.get("data"),
        stages: Vec::new(),
        sightings: Vec::new(),
    })
}

fn outcome(row: &Row) -> Result<ExpiredOutcome, Fail> {
    Ok(ExpiredOutcome {
        key: row.get("key"),
        state: row.get("state"),
        reason: row.get("reason"),
        attempts: row.get("attempts"),
        lost: row.get("lost"),
        deferrals: row.get("deferrals"),
        settled_at: row.get("settled_at"),
        last_attempt: row.get("last_attempt"),
        version_id: row.get("version_id"),
        input_hash: hash_or_none(row, "input_hash")?,
        output_hash: hash_or_none(row, "output_hash")?,
        output: row.get("output"),
        error: row.get("error"),
    })
}

fn sighting(row: &Row) -> Result<ExpiredSighting, Fail> {
    Ok(ExpiredSighting {
        item_id: row.get("item_id"),
        data_hash: hash(row, "data_hash")?,
        at: row.get("at"),
        source: row.get("source"),
        cursor: row.get("cursor"),
    })
}

fn result(row: &Row) -> Result<ExpiredRow, Fail> {
    let (job_id, item, stage) = (row.get("job_id"), row.get("item"), row.get("stage"));
    Ok(ExpiredRow::Result(Box::new(ExpiredResult { job_id, item, stage, outcome: outcome(row)? })))
}
