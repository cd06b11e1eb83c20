//! Everything that can be computed from the facts, made anew.
//!
//! Owns one statement a thing: masks, counters, an empty queue. What may run is enqueued afterwards, page by page, as
//! after an edit of the DAG. Never touches a result.

use gristmill_model::Timestamp;

use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::rules::events;

const REBUILD: &str = "
    DELETE FROM queue;
    DELETE FROM leases;
    UPDATE items SET (done, skipped, dead, live, stale) = (
        SELECT is_done, is_skipped, is_dead, 0, items.stale & (is_done | is_skipped) FROM (
            SELECT coalesce(sum(iif(state = 4, 1 << (key & 63), 0)), 0) AS is_done,
                   coalesce(sum(iif(state = 5, 1 << (key & 63), 0)), 0) AS is_skipped,
                   coalesce(sum(iif(state = 6, 1 << (key & 63), 0)), 0) AS is_dead
            FROM item_stages WHERE item_stages.key BETWEEN items.id << 6 AND items.id << 6 | 63));
    DELETE FROM stage_counts;
    INSERT INTO stage_counts (stage_id, state, n)
        SELECT job_id << 6 | (item_stages.key & 63), state, count(*)
        FROM item_stages JOIN items ON items.id = item_stages.key >> 6 GROUP BY 1, 2;
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
    // What others of this batch counted is counted anew, and not once more.
    session.write_tally()?;
    session.connection.execute_batch(REBUILD)?;
    session.forget();
    session.note(now, &events::rebuilt())
}
