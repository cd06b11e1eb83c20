//! Jobs, their stages and versions.
//!
//! Owns the assignment of bits, which outlives every edit of a job's file. Never touches an item.

use std::collections::HashMap;

use gristmill_model::{Dag, ItemId, JobId, STAGES_MAX, StageBit, StageId, Timestamp, VersionId};
use rusqlite::OptionalExtension;

use super::session::{Noted, Session};
use crate::Error;
use crate::records::{JobRegistration, RegisteredJob, RegisteredStage, StageRegistration};

pub(super) fn register(session: &mut Session<'_>, job: &JobRegistration) -> Result<RegisteredJob, Error> {
    let (id, spec, is_new_spec) = store_spec(session, job)?;
    let bits = assign_bits(session, id, job)?;
    let before = stored_shape(session, id)?;
    let mut dag = Dag::default();
    let mut stages = Vec::with_capacity(job.stages.len());
    for (place, (stage, bit)) in job.stages.iter().zip(&bits).enumerate() {
        let mask = |output_only: bool| {
            stage
                .needs
                .iter()
                .filter(|need| need.output || !output_only)
                .fold(0, |mask, need| mask | bits[need.stage].mask())
        };
        let (needs, outputs) = (mask(false), mask(true));
        dag.add(*bit, needs, outputs);
        let stage_id = StageId::new(id, *bit);
        let version = store_version(session, stage_id, stage, job.now)?;
        store_stage(session, id, stage_id, place, stage, needs, outputs, version)?;
        stages.push(RegisteredStage { id: stage_id, version });
    }
    retire_others(session, id, dag.all(), job.now)?;
    if before.is_some() && before != stored_shape(session, id)? {
        // Every item's status may change with the DAG: `reconcile` counts them anew, page by page.
        session.write_tally()?;
        session.connection.execute("DELETE FROM item_counts WHERE job_id = ?1", [id.0])?;
        session.connection.execute("UPDATE jobs SET reconciled = 0 WHERE id = ?1", [id.0])?;
    }
    let reconcile: Option<i64> =
        session.connection.query_row("SELECT reconciled FROM jobs WHERE id = ?1", [id.0], |row| row.get(0))?;
    if is_new_spec {
        let data = serde_json::json!({ "spec": job.spec_id.to_string(), "stages": job.stages.len() });
        session.event(&Noted::new(job.now, "job.spec", data).job(id))?;
    }
    let cursor: Option<Option<String>> = session
        .connection
        .query_row("SELECT cursor FROM cursors WHERE job_id = ?1", [id.0], |row| row.get(0))
        .optional()?;
    session.know(id, dag.clone(), spec);
    Ok(RegisteredJob { id, stages, dag, reconcile: reconcile.map(ItemId), cursor: cursor.flatten() })
}

/// Returns the job, the number of its spec, and whether that is a new one.
fn store_spec(session: &Session<'_>, job: &JobRegistration) -> Result<(JobId, i64, bool), Error> {
    let connection = session.connection;
    connection.execute(
        "INSERT INTO jobs (name, spec_id, created_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET spec_id = excluded.spec_id WHERE spec_id <> excluded.spec_id",
        (&job.name, &job.spec_id.0[..], job.now.0),
    )?;
    let id = connection.query_row("SELECT id FROM jobs WHERE name = ?1", [&job.name], |row| row.get(0))?;
    let added = connection.execute(
        "INSERT INTO job_specs (job_id, spec_id, number, yaml, loaded_at)
         VALUES (?1, ?2, (SELECT coalesce(max(number), 0) + 1 FROM job_specs), ?3, ?4)
         ON CONFLICT (job_id, spec_id) DO NOTHING",
        (id, &job.spec_id.0[..], &job.yaml, job.now.0),
    )?;
    let number = connection.query_row(
        "SELECT number FROM job_specs WHERE job_id = ?1 AND spec_id = ?2",
        (id, &job.spec_id.0[..]),
        |row| row.get(0),
    )?;
    Ok((JobId(id), number, added > 0))
}

/// A stage keeps the bit it once had, also when it was out of the file for a while; a new one gets the lowest bit that
/// no stage of the job ever had.
fn assign_bits(session: &Session<'_>, id: JobId, job: &JobRegistration) -> Result<Vec<StageBit>, Error> {
    let known: HashMap<String, StageBit> = session
        .connection
        .prepare_cached("SELECT name, id FROM stages WHERE job_id = ?1")?
        .query_map([id.0], |row| Ok((row.get(0)?, StageId(row.get(1)?).bit())))?
        .collect::<Result<_, _>>()?;
    let taken = known.values().fold(0, |mask, bit| mask | bit.mask());
    let mut free = (0..STAGES_MAX as u8).map(StageBit).filter(|bit| taken & bit.mask() == 0);
    let bit_of = |stage: &StageRegistration| known.get(&stage.name).copied().or_else(|| free.next());
    job.stages.iter().map(bit_of).collect::<Option<_>>().ok_or_else(|| Error::TooManyStages(job.name.clone()))
}

type Shape = Vec<(i64, i64, i64)>;

/// The DAG as it is stored; none for a job without stages.
fn stored_shape(session: &Session<'_>, id: JobId) -> Result<Option<Shape>, Error> {
    let shape: Shape = session
        .connection
        .prepare_cached("SELECT id, needs, outputs FROM stages WHERE job_id = ?1 AND retired_at IS NULL ORDER BY id")?
        .query_map([id.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    Ok(Some(shape).filter(|shape| !shape.is_empty()))
}

fn store_version(
    session: &Session<'_>,
    stage_id: StageId,
    stage: &StageRegistration,
    now: Timestamp,
) -> Result<VersionId, Error> {
    let connection = session.connection;
    connection.execute(
        "INSERT INTO components (hash, raw_hash, size, source, added_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
        (&stage.component.0[..], &stage.component_raw.0[..], stage.component_size as i64, &stage.source, now.0),
    )?;
    let added = connection.execute(
        "INSERT INTO versions (stage_id, digest, component_hash, declared, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
        (stage_id.0, &stage.version.0[..], &stage.component.0[..], &stage.declared, now.0),
    )?;
    let id = connection.query_row(
        "SELECT id FROM versions WHERE stage_id = ?1 AND digest = ?2",
        (stage_id.0, &stage.version.0[..]),
        |row| row.get(0),
    )?;
    if added > 0 {
        let data = serde_json::json!({ "stage": stage.name, "version": stage.version.to_string() });
        session.event(&Noted::new(now, "stage.version", data).job(stage_id.job()))?;
    }
    Ok(VersionId(id))
}

#[expect(clippy::too_many_arguments, reason = "the columns of one row")]
fn store_stage(
    session: &Session<'_>,
    job: JobId,
    id: StageId,
    place: usize,
    stage: &StageRegistration,
    needs: u64,
    outputs: u64,
    version: VersionId,
) -> Result<(), Error> {
    session.connection.execute(
        "INSERT INTO stages (id, job_id, name, place, needs, outputs, version_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET place = excluded.place, needs = excluded.needs, outputs = excluded.outputs,
            version_id = excluded.version_id, retired_at = NULL",
        (id.0, job.0, &stage.name, place as i64, needs as i64, outputs as i64, version.0),
    )?;
    Ok(())
}

fn retire_others(session: &Session<'_>, job: JobId, all: u64, now: Timestamp) -> Result<(), Error> {
    session.connection.execute(
        "UPDATE stages SET retired_at = ?3 WHERE job_id = ?1 AND retired_at IS NULL AND ?2 >> (id & 63) & 1 = 0",
        (job.0, all as i64, now.0),
    )?;
    Ok(())
}
