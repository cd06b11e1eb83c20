//! Items: discovered, and brought in line with an edited DAG.
//!
//! Owns the upsert, which costs an unchanged item one index look-up and no write. Never merges: it is told the data.

use gristmill_model::{Bits, Dag, ItemId, ItemStatus, JobId, Masks, StageId, StageKey, State, Timestamp};
use rusqlite::OptionalExtension;

use super::round::set_masks;
use super::session::{ItemMasks, Session};
use crate::Error;
use crate::records::{NewItem, Source, Upsert, Upserted};

pub(super) fn upsert(session: &mut Session<'_>, batch: &Upsert) -> Result<Upserted, Error> {
    let (roots, all) = {
        let dag = session.dag(batch.job)?;
        (dag.runnable(Masks::default()), dag.all())
    };
    let mut done = Upserted::default();
    for item in &batch.items {
        let known = session
            .hot
            .known
            .query_row((batch.job.0, &item.key), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?)));
        match known.optional()? {
            Some((_, hash)) if hash == item.data_hash.0 => done.unchanged += 1,
            Some((id, _)) => {
                change(session, id, item, batch.now)?;
                done.changed += 1;
            }
            None => {
                insert(session, batch, item, roots, all)?;
                done.new += 1;
            }
        }
    }
    let Source::Page { next, .. } = &batch.source else { return Ok(done) };
    session
        .connection
        .prepare_cached(
            "INSERT INTO cursors (job_id, cursor, updated_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (job_id) DO UPDATE SET cursor = excluded.cursor, updated_at = excluded.updated_at
             WHERE cursor IS NOT excluded.cursor",
        )?
        .execute((batch.job.0, next.as_deref(), batch.now.0))?;
    Ok(done)
}

fn insert(session: &mut Session<'_>, batch: &Upsert, item: &NewItem, roots: u64, all: u64) -> Result<(), Error> {
    session.hot.insert.execute((
        batch.job.0,
        roots as i64,
        item.priority,
        batch.now.0,
        &item.key,
        &item.data_hash.0[..],
        &item.data,
    ))?;
    let id = ItemId(session.connection.last_insert_rowid());
    for bit in Bits(roots) {
        let stage = StageId::new(batch.job, bit);
        session.enqueue(StageKey::new(id, bit).0, stage, batch.now, i64::from(item.priority))?;
    }
    let status = ItemStatus::of(Masks { live: roots, ..Masks::default() }, all, false);
    session.tally.item(batch.job, status, 1);
    Ok(())
}

/// New data of a known item. Its results stay: they name the data they were made from, and are stale by that.
fn change(session: &mut Session<'_>, id: i64, item: &NewItem, now: Timestamp) -> Result<(), Error> {
    session
        .connection
        .prepare_cached("UPDATE items SET data = ?2, data_hash = ?3, priority = ?4, changed_at = ?5 WHERE id = ?1")?
        .execute((id, &item.data, &item.data_hash.0[..], item.priority, now.0))?;
    Ok(())
}

/// Brings the queue rows of a page of items in line with the job's DAG: work of retired stages is dropped, what may
/// run is enqueued. Idempotent: it compares facts.
pub(super) fn reconcile(
    session: &mut Session<'_>,
    job: JobId,
    after: ItemId,
    limit: u32,
    now: Timestamp,
) -> Result<Option<ItemId>, Error> {
    let dag = session.dag(job)?.clone();
    let page: Vec<(i64, ItemMasks)> = session
        .connection
        .prepare_cached(
            "SELECT job_id, done, skipped, dead, live, stale, priority, cancelled_at IS NOT NULL, id
             FROM items WHERE id > ?1 AND job_id = ?2 ORDER BY id LIMIT ?3",
        )?
        .query_map((after.0, job.0, limit), |row| Ok((row.get(8)?, ItemMasks::read(row)?)))?
        .collect::<Result<_, _>>()?;
    for (id, item) in &page {
        reconcile_item(session, &dag, ItemId(*id), *item, now)?;
    }
    let next = page.last().map(|(id, _)| ItemId(*id)).filter(|_| page.len() == limit as usize);
    session
        .connection
        .prepare_cached("UPDATE jobs SET reconciled = ?2 WHERE id = ?1")?
        .execute((job.0, next.map(|id| id.0)))?;
    Ok(next)
}

fn reconcile_item(
    session: &mut Session<'_>,
    dag: &Dag,
    id: ItemId,
    item: ItemMasks,
    now: Timestamp,
) -> Result<(), Error> {
    let mut masks = item.masks;
    for bit in Bits(masks.live & !dag.all()) {
        // A leased one is let finish: what it costs is spent.
        let dropped: Option<i64> = session
            .connection
            .prepare_cached("DELETE FROM queue WHERE key = ?1 AND state <> 2 RETURNING state")?
            .query_row([StageKey::new(id, bit).0], |row| row.get(0))
            .optional()?;
        if let Some(state) = dropped.and_then(State::from_code) {
            session.tally.stage(StageId::new(item.job, bit), state, -1);
            masks.live &= !bit.mask();
        }
    }
    let released = if item.cancelled { 0 } else { dag.runnable(masks) };
    for bit in Bits(released) {
        let key = StageKey::new(id, bit);
        session.enqueue(key.0, StageId::new(item.job, bit), now, item.priority)?;
    }
    masks.live |= released;
    if masks != item.masks {
        set_masks(session, id.0, masks)?;
    }
    // The status is recounted as a whole when the DAG changes, because `all` is in it: see `jobs::register`.
    let status = ItemStatus::of(masks, dag.all(), item.cancelled);
    session.tally.item(item.job, status, 1);
    Ok(())
}
