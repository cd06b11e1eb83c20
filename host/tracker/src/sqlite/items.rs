//! Items: discovered, and found again.
//!
//! Owns the upsert, which costs an unchanged item one index look-up and no write. Never says how data is merged: that
//! is a pure function of the model, or a component's answer.

use gristmill_model::{Bits, Dag, Digest, ItemId, ItemStatus, Masks, Merge, OnUpdate};
use rusqlite::OptionalExtension;

use super::session::{ItemMasks, Session};
use crate::Error;
use crate::records::{NewItem, Source, Upsert, Upserted};

pub(super) fn upsert(session: &mut Session<'_>, batch: &Upsert) -> Result<Upserted, Error> {
    let dag = session.dag(batch.job)?;
    let roots = dag.runnable(Masks::default());
    let mut done = Upserted::default();
    for item in &batch.items {
        let known = session.hot.known.query_row((batch.job.0, &item.key), |row| {
            Ok(Known { id: ItemId(row.get(0)?), data_hash: Digest(row.get(1)?), seen_hash: Digest(row.get(2)?) })
        });
        match known.optional()? {
            Some(known) if known.seen_hash == item.data_hash => done.unchanged += 1,
            Some(known) => {
                if see_again(session, batch, item, &known, &dag)? {
                    done.changed += 1;
                } else {
                    done.unchanged += 1;
                }
            }
            None => {
                insert(session, batch, item, roots, dag.all())?;
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
    if batch.rediscovery.sightings_max > 0 {
        sight(session, batch, item, id)?;
    }
    let masks = Masks { live: roots, ..Masks::default() };
    let of = ItemMasks { job: batch.job, masks, priority: i64::from(item.priority), cancelled: false };
    session.enqueue(id, of, masks, roots, batch.now)?;
    session.tally.item(batch.job, ItemStatus::of(masks, all, false), 1);
    Ok(())
}

fn sight(session: &mut Session<'_>, batch: &Upsert, item: &NewItem, id: ItemId) -> Result<(), Error> {
    let Upsert { source, now, .. } = batch;
    session.hot.sight.execute((id.0, &item.data_hash.0[..], now.0, source.name(), source.cursor()))?;
    Ok(())
}

struct Known {
    id: ItemId,
    data_hash: Digest,
    seen_hash: Digest,
}

/// A known item was seen with other data than the last time. Returns whether its data is another now. Its results
/// stay: they name the data they were made from, and are stale by that.
fn see_again(
    session: &mut Session<'_>,
    batch: &Upsert,
    item: &NewItem,
    known: &Known,
    dag: &Dag,
) -> Result<bool, Error> {
    let (data, hash) = merged(session, batch, item, known)?;
    remember(session, batch, item, known.id)?;
    let changed = hash != known.data_hash;
    if !changed {
        session
            .connection
            .prepare_cached("UPDATE items SET seen_hash = ?2, priority = ?3 WHERE id = ?1")?
            .execute((known.id.0, &item.data_hash.0[..], item.priority))?;
        return Ok(false);
    }
    session
        .connection
        .prepare_cached(
            "UPDATE items SET data = ?2, data_hash = ?3, seen_hash = ?4, priority = ?5, changed_at = ?6 WHERE id = ?1",
        )?
        .execute((known.id.0, data, &hash.0[..], &item.data_hash.0[..], item.priority, batch.now.0))?;
    if batch.rediscovery.on_update == OnUpdate::Reprocess {
        reprocess(session, batch, known.id, dag)?;
    }
    Ok(true)
}

/// What an item's data is together with what was found.
fn merged(session: &Session<'_>, batch: &Upsert, item: &NewItem, known: &Known) -> Result<(String, Digest), Error> {
    match &batch.rediscovery.merge {
        Merge::Replace => Ok((item.data.clone(), item.data_hash)),
        Merge::Fields(policy) => {
            let (existing, again): (String, bool) = session
                .connection
                .prepare_cached(
                    "SELECT data, EXISTS (SELECT 1 FROM sightings WHERE item_id = ?1 AND data_hash = ?2)
                     FROM items WHERE id = ?1",
                )?
                .query_row((known.id.0, &item.data_hash.0[..]), |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(match policy.merge(&existing, &item.data, again) {
                Some(data) => {
                    let hash = Digest::of(data.as_bytes());
                    (data, hash)
                }
                None => (existing, known.data_hash),
            })
        }
        Merge::Handler => match &item.merged {
            Some(merged) if merged.replaces == known.data_hash => {
                Ok((merged.data.clone(), Digest::of(merged.data.as_bytes())))
            }
            _ => Err(Error::Overtaken(item.key.clone())),
        },
    }
}

/// Records a sighting, and forgets the oldest beyond what is kept.
fn remember(session: &mut Session<'_>, batch: &Upsert, item: &NewItem, id: ItemId) -> Result<(), Error> {
    let most = batch.rediscovery.sightings_max;
    if most > 0 {
        sight(session, batch, item, id)?;
    }
    let kept: u32 = session
        .connection
        .prepare_cached("SELECT count(*) FROM sightings WHERE item_id = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    if kept <= most {
        return Ok(());
    }
    session
        .connection
        .prepare_cached(
            "DELETE FROM sightings WHERE item_id = ?1 AND data_hash IN (
                SELECT data_hash FROM sightings WHERE item_id = ?1 ORDER BY at DESC, data_hash DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute((id.0, most))?;
    Ok(())
}

/// What needs nothing but the item's data is to run again; of a cancelled item once it is taken up again.
fn reprocess(session: &mut Session<'_>, batch: &Upsert, id: ItemId, dag: &Dag) -> Result<(), Error> {
    let Some(item) = session.masks(id.0)? else { return Ok(()) };
    let mut masks = item.masks;
    let roots = Bits(dag.all()).filter(|bit| dag.needs(*bit) == 0).fold(0, |roots, bit| roots | bit.mask());
    let again = roots & (masks.done | masks.skipped) & !masks.live;
    masks.stale |= again;
    if !item.cancelled {
        masks.live |= again;
        session.enqueue(id, item, masks, again, batch.now)?;
    }
    session.set_masks(id, masks)?;
    let status = |masks| ItemStatus::of(masks, dag.all(), item.cancelled);
    session.tally.status(batch.job, status(item.masks), status(masks));
    Ok(())
}
