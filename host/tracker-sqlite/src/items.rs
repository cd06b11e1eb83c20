//! Records items that are discovered or found again.
//!
//! Owns the upsert, which costs an unchanged item one index look-up and no write. Never merges data: a pure function of
//! the model does, or a component.

use std::collections::BTreeMap;

use gristmill_model::{Bits, Digest, ItemId, OnUpdate, StageBit, StageKey};
use rusqlite::{Connection, OptionalExtension};

use super::session::{Job, Session};
use crate::fail::Fail;
use gristmill_tracker::records::{NewItem, Restart, Source, Upsert, Upserted};
use gristmill_tracker::rules::{Change, discover, events};

pub(super) fn upsert(session: &mut Session<'_>, batch: &Upsert) -> Result<Upserted, Fail> {
    let job = session.job(batch.job)?;
    let new = discover::discover(&job.dag, batch.job);
    let mut page = Page::default();
    let mut done = Upserted::default();
    for item in &batch.items {
        let known = session.hot.known.query_row((batch.job.0, &item.key), |row| {
            Ok(Known {
                id: ItemId(row.get(0)?),
                data_hash: Digest(row.get(1)?),
                seen_hash: Digest(row.get(2)?),
                priority: row.get(3)?,
            })
        });
        let Some(known) = known.optional()? else {
            insert(session, batch, &mut page, item, new, &job)?;
            done.new += 1;
            continue;
        };
        let is_other = known.seen_hash != item.data_hash && see_again(session, batch, &mut page, item, &known, &job)?;
        if prioritize(session, item, &known)? || is_other {
            done.changed += 1;
        } else {
            done.unchanged += 1;
        }
    }
    page.write(session.connection, batch)?;
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

/// The changes of a batch to the number of sightings of each page.
#[derive(Default)]
pub(super) struct Named(BTreeMap<i64, i64>);

impl Named {
    /// Counts that sightings of these pages are deleted, or name another page.
    pub(super) fn left(&mut self, pages: impl IntoIterator<Item = i64>) {
        pages.into_iter().for_each(|page| *self.0.entry(page).or_default() -= 1);
    }

    /// Writes the numbers, and deletes the pages without sightings.
    pub(super) fn write(self, connection: &Connection) -> Result<(), Fail> {
        let mut delete = connection.prepare_cached("DELETE FROM pages WHERE id = ?1 AND n + ?2 <= 0")?;
        let mut count = connection.prepare_cached("UPDATE pages SET n = n + ?2 WHERE id = ?1")?;
        for (page, change) in self.0.into_iter().filter(|(_, change)| *change != 0) {
            if delete.execute((page, change))? == 0 {
                count.execute((page, change))?;
            }
        }
        Ok(())
    }
}

/// The page that is being recorded. It gets a row if it has a sighting.
#[derive(Default)]
struct Page {
    id: Option<i64>,
    named: Named,
}

impl Page {
    fn sight(&mut self, session: &mut Session<'_>, item: &NewItem, id: ItemId) -> Result<(), Fail> {
        let page = match self.id {
            Some(page) => page,
            None => session
                .connection
                .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM pages")?
                .query_row([], |row| row.get(0))?,
        };
        self.id = Some(page);
        session.hot.sight.execute((id.0, &item.data_hash.0[..], page))?;
        *self.named.0.entry(page).or_default() += 1;
        Ok(())
    }

    fn write(mut self, connection: &Connection, batch: &Upsert) -> Result<(), Fail> {
        if let Some(page) = self.id
            && let Some(named) = self.named.0.remove(&page).filter(|named| *named > 0)
        {
            let Upsert { job, source, now, .. } = batch;
            connection
                .prepare_cached(
                    "INSERT INTO pages (id, job_id, at, n, source, cursor) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute((page, job.0, now.0, named, source.name(), source.cursor()))?;
        }
        self.named.write(connection)
    }
}

fn insert(
    session: &mut Session<'_>,
    batch: &Upsert,
    page: &mut Page,
    item: &NewItem,
    new: Change,
    job: &Job,
) -> Result<(), Fail> {
    let priority = i64::from(item.priority);
    let (key, hash, live) = (&item.key, &item.data_hash.0[..], new.after.masks.live as i64);
    session.hot.insert.execute((batch.job.0, live, priority))?;
    let id = ItemId(session.connection.last_insert_rowid());
    session.hot.insert_data.execute((id.0, batch.job.0, batch.now.0, key, hash, &item.data))?;
    if batch.rediscovery.sightings_max > 0 {
        page.sight(session, item, id)?;
    }
    session.apply(job, &new.numbered(id, priority), batch.now, None)
}

struct Known {
    id: ItemId,
    data_hash: Digest,
    seen_hash: Digest,
    priority: i64,
}

/// Records that a known item was found with other data than the last time. Returns whether its data changed. Its
/// results stay: they have the hash of the data that they were made from.
fn see_again(
    session: &mut Session<'_>,
    batch: &Upsert,
    page: &mut Page,
    item: &NewItem,
    known: &Known,
    job: &Job,
) -> Result<bool, Fail> {
    let merge = &batch.rediscovery.merge;
    let data = if discover::asks(merge) { Some(known_data(session, item, known)?) } else { None };
    let data = data.as_ref().map(|(data, again)| (data.as_str(), *again));
    let merged = discover::merge(merge, item, discover::Known { data_hash: known.data_hash, data })?;
    remember(session, batch.rediscovery.sightings_max, page, item, known.id)?;
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
        let mut results = 0;
        for bit in Bits(discover::reprocess_asks(&job.dag, &item)) {
            results |= if session.has_result(item.key(bit))? { bit.mask() } else { 0 };
        }
        session.apply(job, &discover::reprocess(&job.dag, item, results), batch.now, None)?;
    }
    Ok(true)
}

/// Gives an item the priority that it was found with, and moves its queue rows. Returns whether the priority changed.
fn prioritize(session: &Session<'_>, item: &NewItem, known: &Known) -> Result<bool, Fail> {
    let priority = i64::from(item.priority);
    if known.priority == priority {
        return Ok(false);
    }
    let set = "UPDATE items SET priority = ?2 WHERE id = ?1";
    session.connection.prepare_cached(set)?.execute((known.id.0, priority))?;
    let by = discover::moved_in_line(known.priority, priority);
    let (first, last) = (StageKey::new(known.id, StageBit(0)), StageKey::new(known.id, StageBit(63)));
    let shift = "UPDATE queue SET claim_key = claim_key + ?3 WHERE key BETWEEN ?1 AND ?2";
    session.connection.prepare_cached(shift)?.execute((first.0, last.0, by))?;
    Ok(true)
}

/// The data of an item, and whether it was found with this new data before.
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

/// Records a sighting, and deletes the oldest ones beyond `most`.
fn remember(session: &mut Session<'_>, most: u32, page: &mut Page, item: &NewItem, id: ItemId) -> Result<(), Fail> {
    if most > 0 {
        let before = session
            .connection
            .prepare_cached("SELECT page_id FROM sightings WHERE item_id = ?1 AND data_hash = ?2")?
            .query_row((id.0, &item.data_hash.0[..]), |row| row.get(0));
        page.named.left(before.optional()?);
        page.sight(session, item, id)?;
    }
    let kept: u32 = session
        .connection
        .prepare_cached("SELECT count(*) FROM sightings WHERE item_id = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    if kept <= most {
        return Ok(());
    }
    let forgotten: Vec<i64> = session
        .connection
        .prepare_cached(
            "DELETE FROM sightings WHERE item_id = ?1 AND data_hash IN (
                SELECT data_hash FROM sightings WHERE item_id = ?1
                ORDER BY page_id DESC, data_hash DESC LIMIT -1 OFFSET ?2) RETURNING page_id",
        )?
        .query_map((id.0, most), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    page.named.left(forgotten);
    Ok(())
}

/// Makes the next pass of discovery begin at the first page.
pub(super) fn restart_discovery(session: &mut Session<'_>, restart: &Restart) -> Result<Option<String>, Fail> {
    session.job(restart.job)?;
    let cursor: Option<Option<String>> = session
        .connection
        .prepare_cached("SELECT cursor FROM cursors WHERE job_id = ?1")?
        .query_row([restart.job.0], |row| row.get(0))
        .optional()?;
    let Some(cursor) = cursor.flatten() else { return Ok(None) };
    session
        .connection
        .prepare_cached("UPDATE cursors SET cursor = NULL, updated_at = ?2 WHERE job_id = ?1")?
        .execute((restart.job.0, restart.now.0))?;
    session.note(restart.now, &events::discovery_restarted(restart, &cursor))?;
    Ok(Some(cursor))
}
