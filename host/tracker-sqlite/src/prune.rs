//! Finds and deletes old rows.
//!
//! Owns which rows are old enough, which is checked when they are shown and again when they are deleted, and which rows
//! are deleted with them. The newest attempt, event and item stay, however old: otherwise their numbers would be used
//! again. Never decides how long data is kept.

use gristmill_model::{Expiring, ItemId, StageBit, StageKey, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::blobs::Blobs;
use super::expired::contents;
use super::items::Named;
use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::records::{Expired, ExpiredPage, Prune};
use gristmill_tracker::rules::prune as rules;

/// The rows to check, with `?1` for the job. Before their own columns come their number, their time, and whether they
/// may be deleted once they are old.
fn judged(what: Expiring) -> &'static str {
    match what {
        Expiring::Attempts => {
            "SELECT attempts.id AS number, ended_at AS judged_at,
                    stage_id >> 6 = ?1 AND attempts.id < (SELECT max(id) FROM attempts) AS may_go, attempts.*
             FROM attempts WHERE attempts.id"
        }
        // A charge without its attempt counts as very old.
        Expiring::Costs => {
            "SELECT costs.id AS number, coalesce(ended_at, 0) AS judged_at,
                    coalesce(stage_id >> 6 = ?1, 1) AS may_go, stage_id, key, ended_at, costs.*
             FROM costs LEFT JOIN attempts ON attempts.id = attempt_id WHERE costs.id"
        }
        Expiring::Events => {
            "SELECT id AS number, at AS judged_at,
                    job_id IS ?1 AND id < (SELECT max(id) FROM events) AS may_go, events.*
             FROM events WHERE id"
        }
        Expiring::Items => {
            "SELECT items.id AS number,
                    coalesce(cancelled_at, (SELECT max(settled_at) FROM item_stages
                        WHERE item_stages.key BETWEEN items.id << 6 AND items.id << 6 | 63), discovered_at) AS judged_at,
                    items.job_id = ?1 AND live = 0 AND items.id < (SELECT max(id) FROM items) AND (cancelled_at IS NOT NULL
                        OR ~((done | skipped) & ~stale) & (SELECT coalesce(sum(1 << (id & 63)), 0) FROM stages
                            WHERE job_id = ?1 AND retired_at IS NULL) = 0) AS may_go, items.*, item_data.*
             FROM items CROSS JOIN item_data ON item_data.id = items.id WHERE items.id"
        }
        Expiring::Results => {
            "SELECT settled.key AS number, settled_at AS judged_at,
                    item_data.job_id = ?1 AND retired_at IS NOT NULL AS may_go,
                    item_data.job_id, item_data.key AS item, stages.name AS stage, settled.*
             FROM item_stages AS settled JOIN item_data ON item_data.id = settled.key >> 6
             JOIN stages ON stages.id = item_data.job_id << 6 | (settled.key & 63) WHERE settled.key"
        }
    }
}

pub(super) fn expired(connection: &Connection, blobs: &Blobs, expired: &Expired) -> Result<ExpiredPage, Fail> {
    let Expired { job, what, before, now, after, limit } = *expired;
    let mut page = ExpiredPage::default();
    if job.is_none() && what != Expiring::Events {
        return Ok(page);
    }
    // Attempts, charges and events after a young one are young as well.
    let in_order_of_age = matches!(what, Expiring::Attempts | Expiring::Costs | Expiring::Events);
    let sql = format!("{} > ?2 ORDER BY number LIMIT ?3", judged(what));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((job.map(|job| job.0), after, i64::from(limit) + 1))?;
    let mut looked = 0;
    let mut last = None;
    while let Some(row) = rows.next()? {
        if looked == limit {
            page.next = last;
            break;
        }
        looked += 1;
        let number: i64 = row.get(0)?;
        last = Some(number);
        let at = row.get::<_, i64>(1)?;
        let is_old = at < before.0;
        if !is_old && in_order_of_age && at <= now.0 {
            break;
        }
        if is_old && row.get(2)? {
            page.numbers.push(number);
            page.rows.push(contents(connection, blobs, what, row)?);
        }
    }
    Ok(page)
}

/// The range of keys that the stages of an item have.
pub(super) fn keys_of(item: ItemId) -> (i64, i64) {
    (StageKey::new(item, StageBit(0)).0, StageKey::new(item, StageBit(63)).0)
}

pub(super) fn prune(session: &mut Session<'_>, prune: &Prune) -> Result<u64, Fail> {
    let sql = format!("SELECT judged_at < ?3 AND may_go FROM ({} = ?2)", judged(prune.what));
    let (mut gone, mut named) = (0, Named::default());
    if prune.job.is_none() && prune.what != Expiring::Events {
        return Ok(gone);
    }
    for number in &prune.numbers {
        let may_go: Option<bool> = session
            .connection
            .prepare_cached(&sql)?
            .query_row((prune.job.map(|job| job.0), number, prune.before.0), |row| row.get(0))
            .optional()?;
        if may_go != Some(true) {
            continue;
        }
        gone += 1;
        match prune.what {
            Expiring::Attempts => {
                delete(session, "DELETE FROM costs WHERE attempt_id = ?1", *number)?;
                delete(session, "DELETE FROM attempts WHERE id = ?1", *number)?;
            }
            Expiring::Costs => delete(session, "DELETE FROM costs WHERE id = ?1", *number)?,
            Expiring::Events => delete(session, "DELETE FROM events WHERE id = ?1", *number)?,
            Expiring::Items => delete_item(session, ItemId(*number), &mut named)?,
            Expiring::Results => delete_result(session, StageKey(*number), prune.before)?,
        }
    }
    named.write(session.connection)?;
    Ok(gone)
}

fn delete(session: &Session<'_>, sql: &str, number: i64) -> Result<(), Fail> {
    session.connection.prepare_cached(sql)?.execute([number])?;
    Ok(())
}

fn delete_item(session: &mut Session<'_>, id: ItemId, named: &mut Named) -> Result<(), Fail> {
    let Some(item) = session.item(id)? else { return Ok(()) };
    let (first, last) = keys_of(id);
    let keys: Vec<i64> = session
        .connection
        .prepare_cached("SELECT key FROM item_stages WHERE key BETWEEN ?1 AND ?2")?
        .query_map([first, last], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    keys.into_iter().try_for_each(|key| forget(session, key))?;
    let pages: Vec<i64> = session
        .connection
        .prepare_cached("DELETE FROM sightings WHERE item_id = ?1 RETURNING page_id")?
        .query_map([id.0], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    named.left(pages);
    delete(session, "DELETE FROM item_data WHERE id = ?1", id.0)?;
    delete(session, "DELETE FROM items WHERE id = ?1", id.0)?;
    let job = session.job(item.job)?;
    session.count(&job, &rules::delete(item));
    Ok(())
}

fn delete_result(session: &mut Session<'_>, key: StageKey, now: Timestamp) -> Result<(), Fail> {
    let Some(item) = session.item(key.item())? else { return Ok(()) };
    forget(session, key.0)?;
    let job = session.job(item.job)?;
    session.apply(&job, &rules::forget(item, key.bit()), now, None)
}

/// Deletes an outcome, and subtracts its output from the count of its version.
fn forget(session: &mut Session<'_>, key: i64) -> Result<(), Fail> {
    let version: Option<i64> = session
        .connection
        .prepare_cached("DELETE FROM item_stages WHERE key = ?1 RETURNING iif(output IS NULL, NULL, version_id)")?
        .query_row([key], |row| row.get(0))?;
    version.inspect(|version| session.tally.version(*version, -1));
    Ok(())
}
