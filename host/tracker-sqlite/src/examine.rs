//! Examines a tracker.
//!
//! Owns the comparison of everything that is stored twice with the facts, by aggregates over whole tables, in one
//! snapshot. Never repairs anything.

use std::collections::HashMap;
use std::fmt::Display;

use gristmill_model::{Digest, ItemStatus, StageId, StageKey, State};
use rusqlite::{Connection, Row};

use super::blobs::Blobs;
use super::components;
use crate::fail::Fail;
use gristmill_tracker::records::{DIFFERENCES_MAX, Difference, Examination};
use gristmill_tracker::sql::STATUS_CASE;

pub(super) fn examine(connection: &Connection, blobs: &Blobs) -> Result<Examination, Fail> {
    // One snapshot: writes of a host meanwhile are not seen.
    let look = connection.unchecked_transaction()?;
    let mut findings = Findings { names: names(&look)?, ..Findings::default() };
    let items: i64 = look.query_row("SELECT count(*) FROM items", [], |row| row.get(0))?;
    findings.found.items = items as u64;
    findings.stage_counts(&look)?;
    findings.item_counts(&look)?;
    findings.version_counts(&look)?;
    findings.masks(&look)?;
    findings.orphans(&look)?;
    findings.pages(&look)?;
    findings.leases(&look)?;
    findings.results(&look)?;
    findings.texts(&look)?;
    findings.blobs(&look, blobs)?;
    findings.components(&look, blobs)?;
    Ok(findings.found)
}

/// The names of stages.
fn names(connection: &Connection) -> Result<HashMap<i64, String>, Fail> {
    let names = connection
        .prepare("SELECT stages.id, jobs.name, stages.name FROM stages JOIN jobs ON jobs.id = job_id")?
        .query_map([], |row| {
            let (job, stage): (String, String) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, format!("job `{job}`, stage `{stage}`")))
        })?
        .collect::<Result<_, _>>()?;
    Ok(names)
}

#[derive(Default)]
struct Findings {
    names: HashMap<i64, String>,
    found: Examination,
}

/// The name of an item or its stage, for people.
const PLACE: &str = "coalesce((SELECT 'item `' || item_data.key || '` of job `' || name || '`' FROM item_data
    JOIN jobs ON jobs.id = job_id WHERE item_data.id = place), 'item ' || place)";

impl Findings {
    fn differs(&mut self, kind: &'static str, place: String, found: &dyn Display, expected: &dyn Display) {
        self.found.differences_total += 1;
        if self.found.differences.len() < DIFFERENCES_MAX {
            let (found, expected) = (found.to_string(), expected.to_string());
            self.found.differences.push(Difference { kind, place, found, expected });
        }
    }

    fn stage(&self, id: i64) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| format!("job {}, stage {}", StageId(id).job(), id & 63))
    }

    /// Runs a query whose rows are differences.
    fn each(
        &mut self,
        connection: &Connection,
        sql: &str,
        mut differs: impl FnMut(&mut Self, &Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), Fail> {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            differs(self, row)?;
        }
        Ok(())
    }

    fn stage_counts(&mut self, connection: &Connection) -> Result<(), Fail> {
        let sql = "SELECT stage_id, state, sum(stored), sum(counted) FROM (
                SELECT stage_id, state, n AS stored, 0 AS counted FROM stage_counts
                UNION ALL SELECT stage_id, state, 0, count(*) FROM queue GROUP BY 1, 2
                UNION ALL SELECT job_id << 6 | (item_stages.key & 63), state, 0, count(*) FROM item_stages
                    JOIN items ON items.id = item_stages.key >> 6 GROUP BY 1, 2)
             GROUP BY 1, 2 HAVING sum(stored) <> sum(counted)";
        self.each(connection, sql, |findings, row| {
            let state = State::from_code(row.get(1)?).map_or("in no known state", State::name);
            let place = format!("{}, {state}", findings.stage(row.get(0)?));
            findings.differs("stage count", place, &row.get::<_, i64>(2)?, &row.get::<_, i64>(3)?);
            Ok(())
        })
    }

    /// Items of a job whose DAG was edited are counted page by page: until that is done, its counters have fewer.
    fn item_counts(&mut self, connection: &Connection) -> Result<(), Fail> {
        let jobs: Vec<(i64, String, i64)> = connection
            .prepare(
                "SELECT id, name, (SELECT coalesce(sum(1 << (id & 63)), 0) FROM stages
                    WHERE job_id = jobs.id AND retired_at IS NULL) FROM jobs WHERE reconciled IS NULL",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        for (job, name, all) in jobs {
            let sql = format!(
                "SELECT status, sum(stored), sum(counted) FROM (
                    SELECT status, n AS stored, 0 AS counted FROM item_counts WHERE job_id = ?1
                    UNION ALL SELECT {STATUS_CASE}, 0, count(*) FROM items WHERE job_id = ?1 GROUP BY 1)
                 GROUP BY 1 HAVING sum(stored) <> sum(counted)"
            );
            let differences: Vec<(i64, i64, i64)> = connection
                .prepare(&sql)?
                .query_map([job, all], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_, _>>()?;
            for (code, stored, counted) in differences {
                let status = ItemStatus::from_code(code).map_or("of no known status", ItemStatus::name);
                self.differs("item count", format!("job `{name}`, {status}"), &stored, &counted);
            }
        }
        Ok(())
    }

    fn version_counts(&mut self, connection: &Connection) -> Result<(), Fail> {
        let sql = "SELECT version_id, sum(stored), sum(counted), (SELECT stage_id FROM versions WHERE id = version_id)
             FROM (SELECT version_id, n AS stored, 0 AS counted FROM version_counts
                UNION ALL SELECT version_id, 0, count(*) FROM item_stages
                    WHERE output IS NOT NULL AND version_id IS NOT NULL GROUP BY 1)
             GROUP BY 1 HAVING sum(stored) <> sum(counted)";
        self.each(connection, sql, |findings, row| {
            let stage = row.get::<_, Option<i64>>(3)?.map_or_else(|| "no stage".to_owned(), |id| findings.stage(id));
            let place = format!("{stage}, version {}", row.get::<_, i64>(0)?);
            findings.differs("version count", place, &row.get::<_, i64>(1)?, &row.get::<_, i64>(2)?);
            Ok(())
        })
    }

    fn masks(&mut self, connection: &Connection) -> Result<(), Fail> {
        let of = |table: &str, filter: &str| {
            format!(
                "(SELECT coalesce(sum(1 << (other.key & 63)), 0) FROM {table} AS other
                  WHERE other.key BETWEEN items.id << 6 AND items.id << 6 | 63 {filter})"
            )
        };
        let sql = format!(
            "SELECT {PLACE}, done, skipped, dead, live, is_done, is_skipped, is_dead, is_live FROM (
                SELECT id AS place, done, skipped, dead, live, {} AS is_done, {} AS is_skipped, {} AS is_dead,
                       {} AS is_live FROM items)
             WHERE (done, skipped, dead, live) <> (is_done, is_skipped, is_dead, is_live)",
            of("item_stages", "AND state = 4"),
            of("item_stages", "AND state = 5"),
            of("item_stages", "AND state = 6"),
            of("queue", ""),
        );
        self.each(connection, &sql, |findings, row| {
            for (column, name) in (1..).zip(["done", "skipped", "dead", "live"]) {
                let (found, expected): (i64, i64) = (row.get(column)?, row.get(column + 4)?);
                if found != expected {
                    let place = format!("{}, {name}", row.get::<_, String>(0)?);
                    findings.differs("mask", place, &format!("{found:#b}"), &format!("{expected:#b}"));
                }
            }
            Ok(())
        })
    }

    fn orphans(&mut self, connection: &Connection) -> Result<(), Fail> {
        for (kind, table, item) in [
            ("queue row without item", "queue", "queue.key >> 6"),
            ("result without item", "item_stages", "item_stages.key >> 6"),
            ("sighting without item", "sightings", "item_id"),
            ("data without item", "item_data", "item_data.id"),
        ] {
            let sql =
                format!("SELECT {item} FROM {table} WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.id = {item})");
            self.each(connection, &sql, |findings, row| {
                findings.differs(kind, format!("item {}", row.get::<_, i64>(0)?), &"a row", &"none");
                Ok(())
            })?;
        }
        let sql = "SELECT id FROM items WHERE NOT EXISTS (SELECT 1 FROM item_data WHERE item_data.id = items.id)";
        self.each(connection, sql, |findings, row| {
            findings.differs("item without data", format!("item {}", row.get::<_, i64>(0)?), &"none", &"a row");
            Ok(())
        })
    }

    fn pages(&mut self, connection: &Connection) -> Result<(), Fail> {
        let sql = "SELECT page, sum(stored), sum(counted) FROM (
                SELECT id AS page, n AS stored, 0 AS counted FROM pages
                UNION ALL SELECT page_id, 0, count(*) FROM sightings GROUP BY 1)
             GROUP BY 1 HAVING sum(stored) <> sum(counted) OR sum(counted) = 0";
        self.each(connection, sql, |findings, row| {
            let place = format!("page {}", row.get::<_, i64>(0)?);
            findings.differs("sightings of a page", place, &row.get::<_, i64>(1)?, &row.get::<_, i64>(2)?);
            Ok(())
        })
    }

    fn leases(&mut self, connection: &Connection) -> Result<(), Fail> {
        let sql = "SELECT key, fence FROM queue
             WHERE state = 2 AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.fence = queue.fence)";
        self.each(connection, sql, |findings, row| {
            let key = StageKey(row.get(0)?);
            let place = format!("item {}, stage {}", key.item(), key.bit().0);
            findings.differs(
                "leased row without lease",
                place,
                &format!("fence {}", row.get::<_, i64>(1)?),
                &"a lease",
            );
            Ok(())
        })?;
        let sql = "SELECT leases.fence, open, coalesce(n, 0) FROM leases
             LEFT JOIN (SELECT fence, count(*) AS n FROM queue WHERE state = 2 GROUP BY fence) AS held
                ON held.fence = leases.fence
             WHERE open <> coalesce(n, 0)";
        self.each(connection, sql, |findings, row| {
            let place = format!("lease {}", row.get::<_, i64>(0)?);
            findings.differs("open members of a lease", place, &row.get::<_, i64>(1)?, &row.get::<_, i64>(2)?);
            Ok(())
        })
    }

    /// A job's oldest attempts are deleted first. So an attempt that is missing after its oldest one was lost.
    fn results(&mut self, connection: &Connection) -> Result<(), Fail> {
        let sql = "SELECT item_stages.key, last_attempt FROM item_stages JOIN items ON items.id = item_stages.key >> 6
             JOIN (SELECT stage_id >> 6 AS job, min(id) AS oldest FROM attempts GROUP BY 1) AS kept ON job = job_id
             WHERE last_attempt >= oldest AND NOT EXISTS
                (SELECT 1 FROM attempts WHERE id = last_attempt AND attempts.key = item_stages.key)";
        self.each(connection, sql, |findings, row| {
            let key = StageKey(row.get(0)?);
            let place = format!("item {}, stage {}", key.item(), key.bit().0);
            findings.differs(
                "result without attempt",
                place,
                &format!("attempt {}", row.get::<_, i64>(1)?),
                &"its row",
            );
            Ok(())
        })
    }

    /// If somebody changed a text in the database, its hash no longer fits.
    fn texts(&mut self, connection: &Connection) -> Result<(), Fail> {
        self.each(connection, "SELECT data, data_hash, key FROM item_data", |findings, row| {
            let place = |row: &Row<'_>| Ok(format!("item `{}`", row.get::<_, String>(2)?));
            findings.text("data of an item", row, place)
        })?;
        let sql = "SELECT output, output_hash, key FROM item_stages WHERE output <> '' AND output_hash IS NOT NULL";
        self.each(connection, sql, |findings, row| {
            let place = |row: &Row<'_>| {
                let key = StageKey(row.get(2)?);
                Ok(format!("item {}, stage {}", key.item(), key.bit().0))
            };
            findings.text("output", row, place)
        })
    }

    /// Compares a row's first column with its second one, which is its hash.
    fn text(
        &mut self,
        kind: &'static str,
        row: &Row<'_>,
        place: impl Fn(&Row<'_>) -> rusqlite::Result<String>,
    ) -> rusqlite::Result<()> {
        let found = Digest::of(row.get_ref(0)?.as_bytes().unwrap_or_default());
        let expected = Digest::from_slice(row.get_ref(1)?.as_blob().unwrap_or_default());
        if expected != Some(found) {
            let expected = expected.map_or_else(|| "a hash".to_owned(), |hash| hash.to_string());
            self.differs(kind, place(row)?, &found, &expected);
        }
        Ok(())
    }

    fn blobs(&mut self, connection: &Connection, blobs: &Blobs) -> Result<(), Fail> {
        let sql = "SELECT DISTINCT output_hash FROM item_stages WHERE output = '' AND output_hash IS NOT NULL";
        self.each(connection, sql, |findings, row| {
            let hash = Digest(row.get(0)?);
            findings.found.blobs += 1;
            if blobs.read(&hash).is_err() {
                findings.differs("blob", hash.to_string(), &"missing or damaged", &"a file with that hash");
            }
            Ok(())
        })
    }

    /// Those that were never kept, or are needed no more, may be missing.
    fn components(&mut self, connection: &Connection, blobs: &Blobs) -> Result<(), Fail> {
        components::each_needed(connection, blobs, |hash, is_whole| {
            if !is_whole {
                self.differs("component", hash.to_string(), &"missing or damaged", &"the bytes that were registered");
            }
        })
    }
}
