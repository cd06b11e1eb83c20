//! Jobs, their stages and versions.
//!
//! Owns their rows. Registration runs alone: transactions that use a DAG wait for it, and it waits for them. Never
//! assigns a bit, and never touches an item.

use std::collections::HashMap;

use gristmill_model::{ItemId, JobId, StageBit, StageId, VersionId};

use super::components;
use super::fail::Fail;
use super::tx::{Lock, Tx};
use gristmill_tracker::distinct_components;
use gristmill_tracker::records::{JobRegistration, RegisteredJob, RegisteredStage, StageRegistration};
use gristmill_tracker::rules::register::Edit;
use gristmill_tracker::rules::{events, register};

pub(super) async fn register(tx: &Tx<'_>, job: &JobRegistration) -> Result<RegisteredJob, Fail> {
    tx.begin(Lock::Alone, job.now).await?;
    let (id, spec_change) = store_spec(tx, job).await?;
    let bits = register::assign_bits(&known_bits(tx, id).await?, job)?;
    let known = tx.core.shapes.dag(id).unwrap_or_default();
    let (declared, dag) = register::declare(job, &bits);
    for stage in distinct_components(&job.stages) {
        components::store(tx, stage).await?;
    }
    let mut stages = Vec::with_capacity(job.stages.len());
    for (place, (stage, declared)) in job.stages.iter().zip(&declared).enumerate() {
        let stage_id = StageId::new(id, declared.bit);
        let (place, needs, outputs) = (place as i64, declared.needs as i64, declared.outputs as i64);
        let version = store_version(tx, stage_id, stage).await?;
        let parameters: super::tx::Parameters<'_> =
            &[&stage_id.0, &id.0, &stage.name, &place, &needs, &outputs, &version.0];
        tx.execute(STORE_STAGE, parameters).await?;
        stages.push(RegisteredStage { id: stage_id, version });
    }
    tx.execute(RETIRE, &[&id.0, &(dag.all() as i64), &tx.now().0]).await?;
    match register::edit(&known, &dag) {
        Edit::None => {}
        Edit::First => drop(tx.execute("UPDATE jobs SET generation = generation + 1 WHERE id = $1", &[&id.0]).await?),
        Edit::Another => {
            // Every item's status may change with the DAG, so `reconcile` counts them again, page by page.
            tx.execute("DELETE FROM item_counts WHERE job_id = $1", &[&id.0]).await?;
            let edited = "UPDATE jobs SET generation = generation + 1, reconciled = 0 WHERE id = $1";
            tx.execute(edited, &[&id.0]).await?;
        }
    }
    let reconcile: Option<i64> = tx.query_one("SELECT reconciled FROM jobs WHERE id = $1", &[&id.0]).await?.get(0);
    if let Some(is_new) = spec_change {
        tx.note(&events::spec_changed(id, job, is_new)).await?;
    }
    let cursor = tx.query_opt("SELECT cursor FROM cursors WHERE job_id = $1", &[&id.0]).await?;
    let cursor: Option<String> = cursor.and_then(|row| row.get(0));
    Ok(RegisteredJob { id, stages, dag, reconcile: reconcile.map(ItemId), cursor })
}

const STORE_JOB: &str = "INSERT INTO jobs (name, spec_id, created_at) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET spec_id = excluded.spec_id RETURNING id";
const STORE_SPEC: &str = "INSERT INTO job_specs (job_id, spec_id, number, yaml, loaded_at)
    VALUES ($1, $2, (SELECT coalesce(max(number), 0) + 1 FROM job_specs), $3, $4) ON CONFLICT (job_id, spec_id) DO NOTHING";
const STORE_VERSION: &str = "INSERT INTO versions (stage_id, digest, component_hash, declared, created_at)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (stage_id, digest) DO NOTHING";
const STORE_STAGE: &str = "INSERT INTO stages (id, job_id, name, place, needs, outputs, version_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (id) DO UPDATE SET place = excluded.place, needs = excluded.needs, outputs = excluded.outputs,
        version_id = excluded.version_id, retired_at = NULL";
const RETIRE: &str = "UPDATE stages SET retired_at = $3
    WHERE job_id = $1 AND retired_at IS NULL AND $2::bigint >> (id & 63)::int & 1 = 0";

/// Returns the job, and whether its spec is new or an earlier one; none if it is the job's last one.
async fn store_spec(tx: &Tx<'_>, job: &JobRegistration) -> Result<(JobId, Option<bool>), Fail> {
    let spec = &job.spec_id.0[..];
    let known = tx.query_opt("SELECT id FROM jobs WHERE name = $1 AND spec_id = $2", &[&job.name, &spec]).await?;
    let is_last = known.is_some();
    let id: i64 = match known {
        Some(row) => row.get(0),
        None => {
            tx.query_writing(STORE_JOB, &[&job.name, &spec, &tx.now().0]).await?.first().map_or(0, |row| row.get(0))
        }
    };
    let added = tx.execute(STORE_SPEC, &[&id, &spec, &job.yaml, &tx.now().0]).await?;
    let number = "SELECT number FROM job_specs WHERE job_id = $1 AND spec_id = $2";
    tx.core.shapes.declare(JobId(id), tx.query_one(number, &[&id, &spec]).await?.get(0));
    Ok((JobId(id), if is_last && added == 0 { None } else { Some(added > 0) }))
}

/// The bits of all stages that a job ever had, by name.
async fn known_bits(tx: &Tx<'_>, id: JobId) -> Result<HashMap<String, StageBit>, Fail> {
    let rows = tx.query("SELECT name, id FROM stages WHERE job_id = $1", &[&id.0]).await?;
    Ok(rows.iter().map(|row| (row.get(0), StageId(row.get(1)).bit())).collect())
}

async fn store_version(tx: &Tx<'_>, stage_id: StageId, stage: &StageRegistration) -> Result<VersionId, Fail> {
    let (component, digest) = (&stage.component.0[..], &stage.version.0[..]);
    let now = tx.now().0;
    let find = "SELECT id FROM versions WHERE stage_id = $1 AND digest = $2";
    // Searched first, since a conflict would use up a number.
    let known = tx.query_opt(find, &[&stage_id.0, &digest]).await?;
    let is_new = known.is_none();
    let row = if let Some(row) = known {
        row
    } else {
        tx.execute(STORE_VERSION, &[&stage_id.0, &digest, &component, &stage.declared, &now]).await?;
        tx.query_one(find, &[&stage_id.0, &digest]).await?
    };
    let id: i64 = row.get(0);
    if tx.query_opt("SELECT FROM stages WHERE id = $1 AND version_id = $2", &[&stage_id.0, &id]).await?.is_none() {
        tx.note(&events::version_changed(stage_id, stage, is_new)).await?;
    }
    Ok(VersionId(id))
}
