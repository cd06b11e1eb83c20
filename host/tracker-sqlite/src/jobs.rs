//! Jobs, their stages and versions.
//!
//! Owns their rows. Never assigns a bit, and never touches an item.

use std::collections::HashMap;

use gristmill_model::{ItemId, JobId, StageBit, StageId, Timestamp, VersionId};
use rusqlite::OptionalExtension;

use super::components;
use super::session::{Session, load_dag};
use crate::fail::Fail;
use gristmill_tracker::records::{JobRegistration, RegisteredJob, RegisteredStage, StageRegistration};
use gristmill_tracker::rules::register::{Declared, Edit};
use gristmill_tracker::rules::{events, register};

pub(super) fn register(session: &mut Session<'_>, job: &JobRegistration) -> Result<RegisteredJob, Fail> {
    let Spec { job: id, number: spec, change } = store_spec(session, job)?;
    let bits = register::assign_bits(&known_bits(session, id)?, job)?;
    let known = load_dag(session.connection, id)?;
    let (declared, dag) = register::declare(job, &bits);
    components::store(session, job)?;
    let mut stages = Vec::with_capacity(job.stages.len());
    for (place, (stage, declared)) in job.stages.iter().zip(&declared).enumerate() {
        let stage_id = StageId::new(id, declared.bit);
        let version = store_version(session, stage_id, stage, job.now)?;
        store_stage(session, stage_id, place, stage, declared, version)?;
        stages.push(RegisteredStage { id: stage_id, version });
    }
    retire_others(session, id, dag.all(), job.now)?;
    if register::edit(&known, &dag) == Edit::Another {
        // Every item's status may change with the DAG, so `reconcile` counts them again, page by page.
        session.write_tally()?;
        session.connection.execute("DELETE FROM item_counts WHERE job_id = ?1", [id.0])?;
        session.connection.execute("UPDATE jobs SET reconciled = 0 WHERE id = ?1", [id.0])?;
    }
    let reconcile: Option<i64> =
        session.connection.query_row("SELECT reconciled FROM jobs WHERE id = ?1", [id.0], |row| row.get(0))?;
    let reconcile = reconcile.map(ItemId);
    if let Some(is_new) = change {
        session.note(job.now, &events::spec_changed(id, job, is_new))?;
    }
    let cursor: Option<Option<String>> = session
        .connection
        .query_row("SELECT cursor FROM cursors WHERE job_id = ?1", [id.0], |row| row.get(0))
        .optional()?;
    session.know(id, dag.clone(), reconcile, spec);
    Ok(RegisteredJob { id, stages, dag, reconcile, cursor: cursor.flatten() })
}

/// A spec that was stored.
struct Spec {
    job: JobId,
    number: i64,
    /// Whether it is new or an earlier one; none if it is the job's last one.
    change: Option<bool>,
}

fn store_spec(session: &Session<'_>, job: &JobRegistration) -> Result<Spec, Fail> {
    let connection = session.connection;
    let is_last = connection
        .prepare_cached("SELECT 1 FROM jobs WHERE name = ?1 AND spec_id = ?2")?
        .exists((&job.name, &job.spec_id.0[..]))?;
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
    let change = if is_last && added == 0 { None } else { Some(added > 0) };
    Ok(Spec { job: JobId(id), number, change })
}

/// The bits of all stages that a job ever had, by name.
fn known_bits(session: &Session<'_>, id: JobId) -> Result<HashMap<String, StageBit>, Fail> {
    let bits = session
        .connection
        .prepare_cached("SELECT name, id FROM stages WHERE job_id = ?1")?
        .query_map([id.0], |row| Ok((row.get(0)?, StageId(row.get(1)?).bit())))?
        .collect::<Result<_, _>>()?;
    Ok(bits)
}

fn store_version(
    session: &Session<'_>,
    stage_id: StageId,
    stage: &StageRegistration,
    now: Timestamp,
) -> Result<VersionId, Fail> {
    let connection = session.connection;
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
    let is_last = connection
        .prepare_cached("SELECT 1 FROM stages WHERE id = ?1 AND version_id = ?2")?
        .exists((stage_id.0, id))?;
    if !is_last {
        session.note(now, &events::version_changed(stage_id, stage, added > 0))?;
    }
    Ok(VersionId(id))
}

fn store_stage(
    session: &Session<'_>,
    id: StageId,
    place: usize,
    stage: &StageRegistration,
    declared: &Declared,
    version: VersionId,
) -> Result<(), Fail> {
    let (needs, outputs) = (declared.needs as i64, declared.outputs as i64);
    session.connection.execute(
        "INSERT INTO stages (id, job_id, name, place, needs, outputs, version_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET place = excluded.place, needs = excluded.needs, outputs = excluded.outputs,
            version_id = excluded.version_id, retired_at = NULL",
        (id.0, id.job().0, &stage.name, place as i64, needs, outputs, version.0),
    )?;
    Ok(())
}

fn retire_others(session: &Session<'_>, job: JobId, all: u64, now: Timestamp) -> Result<(), Fail> {
    session.connection.execute(
        "UPDATE stages SET retired_at = ?3 WHERE job_id = ?1 AND retired_at IS NULL AND ?2 >> (id & 63) & 1 = 0",
        (job.0, all as i64, now.0),
    )?;
    Ok(())
}
