//! Items: discovered, and found again.
//!
//! Owns the upsert, which costs an unchanged item one index look-up and no write. Never says how data is merged: that
//! is a pure function of the model, or a component's answer.

use gristmill_model::{Digest, ItemId, OnUpdate};
use rusqlite::OptionalExtension;

use super::session::{Job, Session};
use crate::fail::Fail;
use gristmill_tracker::records::{NewItem, Source, Upsert, Upserted};
use gristmill_tracker::rules::{Change, discover};

pub(super) fn upsert(session: &mut Session<'_>, batch: &Upsert) -> Result<Upserted, Fail> {
    let job = session.job(batch.job)?;
    let new = discover::discover(&job.dag, batch.job);
    let mut done = Upserted::default();
    for item in &batch.items {
        let known = session.hot.known.query_row((batch.job.0, &item.key), |row| {
            Ok(Known { id: ItemId(row.get(0)?), data_hash: Digest(row.get(1)?), seen_hash: Digest(row.get(2)?) })
        });
        match known.optional()? {
            Some(known) if known.seen_hash == item.data_hash => done.unchanged += 1,
            Some(known) => {
                if see_again(session, batch, item, &known, &job)? {
                    done.changed += 1;
                } else {
                    done.unchanged += 1;
                }
            }
            None => {
                insert(session, batch, item, new, &job)?;
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

fn insert(session: &mut Session<'_>, batch: &Upsert, item: &NewItem, new: Change, job: &Job) -> Result<(), Fail> {
    let priority = i64::from(item.priority);
    let (key, hash, live) = (&item.key, &item.data_hash.0[..], new.after.masks.live as i64);
    session.hot.insert.execute((batch.job.0, live, priority))?;
    let id = ItemId(session.connection.last_insert_rowid());
    session.hot.insert_data.execute((id.0, batch.job.0, batch.now.0, key, hash, &item.data))?;
    if batch.rediscovery.sightings_max > 0 {
        sight(session, batch, item, id)?;
    }
    session.apply(job, &new.numbered(id, priority), batch.now, None)
}

fn sight(session: &mut Session<'_>, batch: &Upsert, item: &NewItem, id: ItemId) -> Result<(), Fail> {
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
    job: &Job,
) -> Result<bool, Fail> {
    let merge = &batch.rediscovery.merge;
    let data = if discover::asks(merge) { Some(known_data(session, item, known)?) } else { None };
    let data = data.as_ref().map(|(data, again)| (data.as_str(), *again));
    let merged = discover::merge(merge, item, discover::Known { data_hash: known.data_hash, data })?;
    remember(session, batch, item, known.id)?;
    session
        .connection
        .prepare_cached("UPDATE items SET priority = ?2 WHERE id = ?1")?
        .execute((known.id.0, item.priority))?;
    let Some((data, hash)) = merged else {
        session
            .connection
            .prepare_cached("UPDATE item_data SET seen_hash = ?2 WHERE id = ?1")?
            .execute((known.id.0, &item.data_hash.0[..]))?;
        return Ok(false);
    };
    session
        .connection
        .prepare_cached(
            "UPDATE item_data SET data = ?2, data_hash = ?3, seen_hash = ?4, changed_at = ?5 WHERE id = ?1",
        )?
        .execute((known.id.0, data, &hash.0[..], &item.data_hash.0[..], batch.now.0))?;
    if batch.rediscovery.on_update == OnUpdate::Reprocess
        && let Some(item) = session.item(known.id)?
    {
        session.apply(job, &discover::reprocess(&job.dag, item), batch.now, None)?;
    }
    Ok(true)
}

/// The data of an item, and whether it was seen with this new data before.
fn known_data(session: &Session<'_>, item: &NewItem, known: &Known) -> Result<(String, bool), Fail> {
    let data = session
        .connection
        .prepare_cached(
            "SELECT data, EXISTS (SELECT 1 FROM sightings WHERE item_id = ?1 AND data_hash = ?2)
             FROM item_data WHERE id = ?1",
        )?
        .query_row((known.id.0, &item.data_hash.0[..]), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(data)
}

/// Records a sighting, and forgets the oldest beyond what is kept.
fn remember(session: &mut Session<'_>, batch: &Upsert, item: &NewItem, id: ItemId) -> Result<(), Fail> {
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
