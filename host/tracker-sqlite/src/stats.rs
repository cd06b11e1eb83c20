//! Reads jobs and their counters.
//!
//! Owns queries whose results are small and do not grow with the items. Never counts rows.

use crate::fail::Fail;
use std::collections::HashMap;

use gristmill_model::{Digest, ItemStatus, JobId, StageId, State};
use rusqlite::Connection;

use gristmill_tracker::records::{JobRow, JobStats, StageStats};
use gristmill_tracker::stages::Stage;

pub(super) fn jobs(connection: &Connection) -> Result<Vec<JobRow>, Fail> {
    let names: Vec<(i64, String)> = connection
        .prepare_cached("SELECT id, name FROM jobs ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut jobs = Vec::with_capacity(names.len());
    for (id, name) in names {
        let stages = stages(connection, JobId(id))?.into_iter().map(|stage| (stage.id, stage.name)).collect();
        jobs.push(JobRow { id: JobId(id), name, stages });
    }
    Ok(jobs)
}

pub(super) fn stages(connection: &Connection, job: JobId) -> Result<Vec<Stage>, Fail> {
    let stages = connection
        .prepare_cached(
            "SELECT stages.id, name, needs, version_id, digest FROM stages
             LEFT JOIN versions ON versions.id = stages.version_id
             WHERE job_id = ?1 AND retired_at IS NULL ORDER BY place",
        )?
        .query_map([job.0], |row| {
            Ok(Stage {
                id: StageId(row.get(0)?),
                name: row.get(1)?,
                needs: row.get::<_, i64>(2)? as u64,
                version: row.get(3)?,
                digest: row.get::<_, Option<[u8; 32]>>(4)?.map(Digest),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(stages)
}

/// Reads only the rows of one job, since other jobs may have many years of rows.
pub(super) const CHARGES: &str = "SELECT meter, sum(amount) FROM cost_rollups
    WHERE stage_id BETWEEN ?1 << 6 AND ?1 << 6 | 63 GROUP BY meter ORDER BY meter";

pub(super) fn stats(connection: &Connection, job: JobId) -> Result<JobStats, Fail> {
    let mut stats = JobStats::default();
    let by_status: HashMap<i64, i64> = connection
        .prepare_cached("SELECT status, n FROM item_counts WHERE job_id = ?1")?
        .query_map([job.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for status in ItemStatus::ALL {
        let n = by_status.get(&status.code()).copied().unwrap_or(0);
        stats.items.insert(status, u64::try_from(n).unwrap_or(0));
    }
    for stage in stages(connection, job)? {
        let states = connection
            .prepare_cached("SELECT state, n FROM stage_counts WHERE stage_id = ?1 AND n > 0")?
            .query_map([stage.id.0], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)? as u64)))?
            .filter_map(|row| row.map(|(code, n)| State::from_code(code).map(|state| (state, n))).transpose())
            .collect::<Result<_, _>>()?;
        let other_versions: i64 = connection
            .prepare_cached(
                "SELECT coalesce(sum(n), 0) FROM versions JOIN version_counts ON version_id = versions.id
                 WHERE stage_id = ?1 AND versions.id IS NOT ?2",
            )?
            .query_row((stage.id.0, stage.version), |row| row.get(0))?;
        stats.stages.push(StageStats {
            id: stage.id,
            name: stage.name,
            version: stage.digest,
            other_versions: u64::try_from(other_versions).unwrap_or(0),
            states,
        });
    }
    stats.charges = connection
        .prepare_cached(CHARGES)?
        .query_map([job.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(stats)
}
