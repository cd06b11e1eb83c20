//! Recomputes everything that follows from the facts.
//!
//! Owns one statement for each mask and counter. Queue rows that agree with the facts are kept; afterwards `reconcile`
//! enqueues other stages that may run, page by page, as after an edit of the DAG. Never touches a result.

use gristmill_model::{StageId, StageKey, State, Timestamp};

use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::Error;
use gristmill_tracker::rules::{events, rebuild as rules};

/// How many queue rows are checked at once.
const PAGE_ROWS: usize = 1000;

const MASKS: &str = "
    DELETE FROM leases;
    UPDATE items SET (done, skipped, dead, live, stale) = (
        SELECT is_done, is_skipped, is_dead, 0, items.stale & (is_done | is_skipped) FROM (
            SELECT coalesce(sum(iif(state = 4, 1 << (key & 63), 0)), 0) AS is_done,
                   coalesce(sum(iif(state = 5, 1 << (key & 63), 0)), 0) AS is_skipped,
                   coalesce(sum(iif(state = 6, 1 << (key & 63), 0)), 0) AS is_dead
            FROM item_stages WHERE item_stages.key BETWEEN items.id << 6 AND items.id << 6 | 63));";
const COUNTERS: &str = "
    DELETE FROM stage_counts;
    INSERT INTO stage_counts (stage_id, state, n)
        SELECT job_id << 6 | (item_stages.key & 63), state, count(*)
        FROM item_stages JOIN items ON items.id = item_stages.key >> 6 GROUP BY 1, 2;
    INSERT INTO stage_counts (stage_id, state, n) SELECT stage_id, state, count(*) FROM queue GROUP BY 1, 2;
    DELETE FROM version_counts;
    INSERT INTO version_counts (version_id, n)
        SELECT version_id, count(*) FROM item_stages
        WHERE output IS NOT NULL AND version_id IS NOT NULL GROUP BY version_id;
    DELETE FROM item_counts;
    UPDATE pages SET n = 0;
    UPDATE pages SET n = named FROM (SELECT page_id, count(*) AS named FROM sightings GROUP BY page_id)
        WHERE page_id = id;
    DELETE FROM pages WHERE n = 0;
    UPDATE jobs SET reconciled = 0;";

pub(super) fn rebuild(session: &mut Session<'_>, now: Timestamp) -> Result<(), Fail> {
    // Counts of other operations in this batch are written first, so that they are recomputed and not added later.
    session.write_tally()?;
    session.connection.execute_batch(MASKS)?;
    sift(session)?;
    session.connection.execute_batch(COUNTERS)?;
    session.forget();
    session.note(now, &events::rebuilt())
}

/// Takes rows out of the queue that contradict the facts. Leased ones become ready.
fn sift(session: &mut Session<'_>) -> Result<(), Fail> {
    let mut after = i64::MIN;
    loop {
        let rows: Vec<(i64, i64, i64)> = session
            .connection
            .prepare_cached("SELECT key, stage_id, state FROM queue WHERE key > ?1 ORDER BY key LIMIT ?2")?
            .query_map((after, PAGE_ROWS as i64), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let Some((last, ..)) = rows.last().copied() else { return Ok(()) };
        after = last;
        for (key, stage, state) in rows {
            match kept(session, StageKey(key), StageId(stage), State::from_code(state))? {
                Some(state) => keep(session, StageKey(key), state)?,
                None => drop(session.connection.prepare_cached("DELETE FROM queue WHERE key = ?1")?.execute([key])?),
            }
        }
    }
}

fn kept(session: &mut Session<'_>, key: StageKey, stage: StageId, state: Option<State>) -> Result<Option<State>, Fail> {
    let (Some(state), Some(mut item)) = (state, session.item(key.item())?) else { return Ok(None) };
    let job = match session.job(item.job) {
        Err(Fail(Error::UnknownJob(_))) => return Ok(None),
        job => job?,
    };
    // The item's other rows were kept.
    item.masks.live = 0;
    Ok(rules::kept(&job.dag, &item, key.bit(), stage, state))
}

fn keep(session: &Session<'_>, key: StageKey, state: State) -> Result<(), Fail> {
    session
        .connection
        .prepare_cached("UPDATE queue SET state = ?2, fence = NULL, superseded = NULL WHERE key = ?1 AND state <> ?2")?
        .execute((key.0, state.code()))?;
    session
        .connection
        .prepare_cached("UPDATE items SET live = live | ?2 WHERE id = ?1")?
        .execute((key.item().0, key.bit().mask() as i64))?;
    Ok(())
}
