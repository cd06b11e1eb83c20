//! Reads one item with everything that is known about it.
//!
//! Owns the state of a stage of an item: its settled outcome, combined with its queue row. Never changes anything.

use gristmill_model::{Counters, DeadReason, Digest, ItemId, JobId, StageKey, State, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::blobs::Blobs;
use super::history::chain;
use super::lists::read_item;
use super::stats::stages;
use crate::fail::Fail;
use gristmill_tracker::records::{ItemDetail, ItemRow, ItemStageDetail, Outputs, Sighting};
use gristmill_tracker::stages::Stage;

pub(super) const ITEM: &str = concat!(
    "SELECT ",
    gristmill_tracker::item_row_columns!(),
    ", data, priority FROM item_data CROSS JOIN items ON items.id = item_data.id
     WHERE item_data.job_id = ?1 AND item_data.key = ?2"
);

pub(super) const SIGHTINGS: &str = "SELECT source, cursor, at, data_hash FROM sightings
    CROSS JOIN pages ON pages.id = page_id WHERE item_id = ?1 ORDER BY page_id DESC, data_hash DESC";

/// The folder of large outputs, and which outputs to read.
type Wanted<'a> = (&'a Blobs, &'a Outputs);

pub(super) fn item(
    connection: &Connection,
    wanted: Wanted<'_>,
    job: JobId,
    key: &str,
) -> Result<Option<ItemDetail>, Fail> {
    let stages = stages(connection, job)?;
    let all = stages.iter().fold(0, |mask, stage| mask | stage.id.bit().mask());
    let found = connection
        .prepare_cached(ITEM)?
        .query_row((job.0, key), |row| Ok((read_item(row, all)?, row.get(10)?, row.get(11)?)))
        .optional()?;
    let Some((row, data, priority)) = found else { return Ok(None) };
    let details =
        stages.iter().map(|stage| stage_detail(connection, wanted, stage, &row, &stages)).collect::<Result<_, _>>()?;
    let sightings = sightings(connection, row.id)?;
    Ok(Some(ItemDetail { row, data, priority, sightings, stages: details }))
}

/// The sightings of an item, the newest first.
fn sightings(connection: &Connection, item: ItemId) -> Result<Vec<Sighting>, Fail> {
    let sightings = connection
        .prepare_cached(SIGHTINGS)?
        .query_map([item.0], |row| {
            Ok(Sighting {
                source: row.get(0)?,
                cursor: row.get(1)?,
                at: Timestamp(row.get(2)?),
                data_hash: Digest(row.get(3)?),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(sightings)
}

fn stage_detail(
    connection: &Connection,
    wanted: Wanted<'_>,
    stage: &Stage,
    item: &ItemRow,
    stages: &[Stage],
) -> Result<ItemStageDetail, Fail> {
    let key = StageKey::new(item.id, stage.id.bit());
    let mut detail = stage.untouched(item);
    let mut last_attempt = settled(connection, wanted, key, stage, &mut detail)?;
    last_attempt = queued(connection, key, &mut detail)?.or(last_attempt);
    if detail.state == State::Blocked {
        detail.blocked_by = stage.blocked_by(item, stages);
    }
    if let Some(head) = last_attempt {
        detail.attempts = chain(connection, head)?;
    }
    Ok(detail)
}

/// Fills in the latest settled outcome; returns its last attempt.
fn settled(
    connection: &Connection,
    (blobs, outputs): Wanted<'_>,
    key: StageKey,
    stage: &Stage,
    detail: &mut ItemStageDetail,
) -> Result<Option<i64>, Fail> {
    let row = connection
        .prepare_cached(
            "SELECT state, reason, attempts, lost, deferrals, settled_at, last_attempt, version_id, digest, output, error,
                    output_hash
             FROM item_stages LEFT JOIN versions ON versions.id = version_id WHERE key = ?1",
        )?
        .query_row([key.0], |row| {
            detail.state = State::from_code(row.get(0)?).unwrap_or(State::Done);
            detail.reason = row.get::<_, Option<i64>>(1)?.and_then(DeadReason::from_code);
            detail.counters = Counters { attempts: row.get(2)?, lost: row.get(3)?, deferrals: row.get(4)? };
            detail.settled_at = Some(Timestamp(row.get(5)?));
            detail.current = row.get::<_, Option<i64>>(7)? == stage.version;
            detail.version = row.get::<_, Option<[u8; 32]>>(8)?.map(Digest);
            detail.output = row.get(9)?;
            detail.error = row.get(10)?;
            Ok((row.get::<_, Option<i64>>(6)?, row.get::<_, Option<[u8; 32]>>(11)?))
        })
        .optional()?;
    let Some((last_attempt, hash)) = row else { return Ok(None) };
    if let Some(output) = detail.output.take() {
        let hash = hash.map(Digest);
        let bytes = blobs.length(&output, hash.as_ref())?;
        detail.output_bytes = Some(bytes);
        if outputs.want(&detail.name, bytes) {
            detail.output = Some(blobs.full(output, hash.as_ref())?);
        }
    }
    Ok(last_attempt)
}

/// Fills in the queue row's part; returns the row's last attempt, if it has one.
fn queued(connection: &Connection, key: StageKey, detail: &mut ItemStageDetail) -> Result<Option<i64>, Fail> {
    let row = connection
        .prepare_cached("SELECT state, due_at, attempts, lost, deferrals, last_attempt FROM queue WHERE key = ?1")?
        .query_row([key.0], |row| {
            detail.state = State::from_code(row.get(0)?).unwrap_or(State::Ready);
            detail.due_at = Some(Timestamp(row.get(1)?));
            detail.counters = Counters { attempts: row.get(2)?, lost: row.get(3)?, deferrals: row.get(4)? };
            row.get(5)
        })
        .optional()?;
    Ok(row.flatten())
}
