//! Jobs, their stages and versions, and bringing items in line with an edited DAG.
//!
//! Owns the assignment of bits, which outlives every edit of a job's file. Registration and reconciling run alone:
//! whoever goes by a DAG waits for them, and they for it.

use std::collections::HashMap;

use gristmill_model::{
    Bits, Dag, ItemId, ItemStatus, JobId, STAGES_MAX, StageBit, StageId, StageKey, State, Timestamp, VersionId,
};

use super::fail::Fail;
use super::record::{ItemState, Skips, set_masks_alone};
use super::tx::{Lock, Tx};
use super::write::Enqueued;
use crate::Error;
use crate::advance;
use crate::records::{JobRegistration, RegisteredJob, RegisteredStage, StageRegistration};

pub(super) async fn register(tx: &Tx<'_>, job: &JobRegistration) -> Result<RegisteredJob, Fail> {
    tx.begin(Lock::Alone, job.now).await?;
    let (id, is_new_spec) = store_spec(tx, job).await?;
    let bits = assign_bits(tx, id, job).await?;
    let before = stored_shape(tx, id).await?;
    let mut dag = Dag::default();
    let mut stages = Vec::with_capacity(job.stages.len());
    for (place, (stage, bit)) in job.stages.iter().zip(&bits).enumerate() {
        let mask = |output_only: bool| {
            let needs = stage.needs.iter().filter(|need| need.output || !output_only);
            needs.fold(0, |mask, need| mask | bits[need.stage].mask())
        };
        let (needs, outputs) = (mask(false), mask(true));
        dag.add(*bit, needs, outputs);
        let stage_id = StageId::new(id, *bit);
        let version = store_version(tx, stage_id, stage).await?;
        let parameters: super::tx::Parameters<'_> =
            &[&stage_id.0, &id.0, &stage.name, &(place as i64), &(needs as i64), &(outputs as i64), &version.0];
        tx.execute(STORE_STAGE, parameters).await?;
        stages.push(RegisteredStage { id: stage_id, version });
    }
    tx.execute(RETIRE, &[&id.0, &(dag.all() as i64), &tx.now().0]).await?;
    let after = stored_shape(tx, id).await?;
    if before != after {
        let is_edit = before.is_some();
        if is_edit {
            // Every item's status may change with the DAG: `reconcile` counts them anew, page by page.
            tx.execute("DELETE FROM item_counts WHERE job_id = $1", &[&id.0]).await?;
        }
        let edited = "UPDATE jobs SET generation = generation + 1,
            reconciled = CASE WHEN $2 THEN 0 ELSE reconciled END WHERE id = $1";
        tx.execute(edited, &[&id.0, &is_edit]).await?;
    }
    let reconcile: Option<i64> = tx.query_one("SELECT reconciled FROM jobs WHERE id = $1", &[&id.0]).await?.get(0);
    if is_new_spec {
        let data = serde_json::json!({ "spec": job.spec_id.to_string(), "stages": job.stages.len() });
        tx.event("job.spec", Some(id), &data).await?;
    }
    let cursor = tx.query_opt("SELECT cursor FROM cursors WHERE job_id = $1", &[&id.0]).await?;
    let cursor: Option<String> = cursor.and_then(|row| row.get(0));
    Ok(RegisteredJob { id, stages, dag, reconcile: reconcile.map(ItemId), cursor })
}

const STORE_JOB: &str = "INSERT INTO jobs (name, spec_id, created_at) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET spec_id = excluded.spec_id RETURNING id";
const STORE_SPEC: &str = "INSERT INTO job_specs (job_id, spec_id, number, yaml, loaded_at)
    VALUES ($1, $2, (SELECT coalesce(max(number), 0) + 1 FROM job_specs), $3, $4) ON CONFLICT (job_id, spec_id) DO NOTHING";
const STORE_COMPONENT: &str =
    "INSERT INTO components (hash, raw_hash, size, source, added_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING";
const STORE_VERSION: &str = "INSERT INTO versions (stage_id, digest, component_hash, declared, created_at)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (stage_id, digest) DO NOTHING";
const STORE_STAGE: &str = "INSERT INTO stages (id, job_id, name, place, needs, outputs, version_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (id) DO UPDATE SET place = excluded.place, needs = excluded.needs, outputs = excluded.outputs,
        version_id = excluded.version_id, retired_at = NULL";
const RETIRE: &str = "UPDATE stages SET retired_at = $3
    WHERE job_id = $1 AND retired_at IS NULL AND $2::bigint >> (id & 63)::int & 1 = 0";

async fn store_spec(tx: &Tx<'_>, job: &JobRegistration) -> Result<(JobId, bool), Fail> {
    let spec = &job.spec_id.0[..];
    let known = tx.query_opt("SELECT id FROM jobs WHERE name = $1 AND spec_id = $2", &[&job.name, &spec]).await?;
    let id: i64 = match known {
        Some(row) => row.get(0),
        None => {
            tx.query_writing(STORE_JOB, &[&job.name, &spec, &tx.now().0]).await?.first().map_or(0, |row| row.get(0))
        }
    };
    let added = tx.execute(STORE_SPEC, &[&id, &spec, &job.yaml, &tx.now().0]).await?;
    let number = "SELECT number FROM job_specs WHERE job_id = $1 AND spec_id = $2";
    tx.core.shapes.declare(JobId(id), tx.query_one(number, &[&id, &spec]).await?.get(0));
    Ok((JobId(id), added > 0))
}

/// A stage keeps the bit it once had, also when it was out of the file for a while; a new one gets the lowest bit that
/// no stage of the job ever had.
async fn assign_bits(tx: &Tx<'_>, id: JobId, job: &JobRegistration) -> Result<Vec<StageBit>, Fail> {
    let rows = tx.query("SELECT name, id FROM stages WHERE job_id = $1", &[&id.0]).await?;
    let known: HashMap<String, StageBit> = rows.iter().map(|row| (row.get(0), StageId(row.get(1)).bit())).collect();
    let taken = known.values().fold(0, |mask, bit| mask | bit.mask());
    let mut free = (0..STAGES_MAX as u8).map(StageBit).filter(|bit| taken & bit.mask() == 0);
    let bit_of = |stage: &StageRegistration| known.get(&stage.name).copied().or_else(|| free.next());
    let bits: Option<Vec<StageBit>> = job.stages.iter().map(bit_of).collect();
    bits.ok_or_else(|| Error::TooManyStages(job.name.clone()).into())
}

type Shape = Vec<(i64, i64, i64)>;

/// The DAG as it is stored; none for a job without stages.
async fn stored_shape(tx: &Tx<'_>, id: JobId) -> Result<Option<Shape>, Fail> {
    let sql = "SELECT id, needs, outputs FROM stages WHERE job_id = $1 AND retired_at IS NULL ORDER BY id";
    let rows = tx.query(sql, &[&id.0]).await?;
    let shape: Shape = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    Ok(Some(shape).filter(|shape| !shape.is_empty()))
}

async fn store_version(tx: &Tx<'_>, stage_id: StageId, stage: &StageRegistration) -> Result<VersionId, Fail> {
    let (component, raw, digest) = (&stage.component.0[..], &stage.component_raw.0[..], &stage.version.0[..]);
    let now = tx.now().0;
    let parameters: super::tx::Parameters<'_> =
        &[&component, &raw, &(stage.component_size as i64), &stage.source, &now];
    tx.execute(STORE_COMPONENT, parameters).await?;
    let find = "SELECT id FROM versions WHERE stage_id = $1 AND digest = $2";
    // Looked for first: a conflict would use up a number.
    if let Some(row) = tx.query_opt(find, &[&stage_id.0, &digest]).await? {
        return Ok(VersionId(row.get(0)));
    }
    tx.execute(STORE_VERSION, &[&stage_id.0, &digest, &component, &stage.declared, &now]).await?;
    let data = serde_json::json!({ "stage": stage.name, "version": stage.version.to_string() });
    tx.event("stage.version", Some(stage_id.job()), &data).await?;
    Ok(VersionId(tx.query_one(find, &[&stage_id.0, &digest]).await?.get(0)))
}

const PAGE: &str = "SELECT id, job_id, done, skipped, dead, live, stale, priority, cancelled_at IS NOT NULL
    FROM items WHERE id > $1 AND job_id = $2 ORDER BY id LIMIT $3 FOR UPDATE";
const DROP: &str = "DELETE FROM queue WHERE key = ANY ($1) AND state <> 2 RETURNING key, stage_id, state";

/// Brings the queue rows of a page of items in line with the job's DAG: work of retired stages is dropped, what may
/// run is enqueued. It goes on from where the database says that the job is, since another host may be doing the same.
pub(super) async fn reconcile(
    tx: &Tx<'_>,
    job: JobId,
    after: ItemId,
    limit: u32,
    now: Timestamp,
) -> Result<Option<ItemId>, Fail> {
    tx.begin(Lock::Alone, now).await?;
    let dag = tx.dag(job)?;
    let reached = tx.jobs().into_iter().find(|state| state.id == job).and_then(|state| state.reconciled);
    match reached {
        None => return Ok(None),
        Some(reached) if reached != after.0 => return Ok(Some(ItemId(reached))),
        Some(_) => {}
    }
    let rows = tx.query_writing(PAGE, &[&after.0, &job.0, &i64::from(limit)]).await?;
    let mut items: Vec<ItemState> = rows.iter().map(ItemState::read).collect();
    let retired: Vec<i64> = items
        .iter()
        .flat_map(|item| Bits(item.masks.live & !dag.all()).map(|bit| StageKey::new(item.id, bit).0))
        .collect();
    // A leased one is let finish: what it costs is spent.
    let dropped = if retired.is_empty() { Vec::new() } else { tx.query_writing(DROP, &[&retired]).await? };
    let mut gone: HashMap<ItemId, u64> = HashMap::new();
    for row in dropped {
        let key = StageKey(row.get(0));
        *gone.entry(key.item()).or_default() |= key.bit().mask();
        if let Some(state) = State::from_code(row.get(2)) {
            tx.count_stage(StageId(row.get(1)), state, -1);
        }
    }
    let mut enqueued = Enqueued::default();
    let mut skips = Skips::default();
    let mut changed = Vec::new();
    for item in &mut items {
        let before = item.masks;
        item.masks.live &= !gone.get(&item.id).copied().unwrap_or(0);
        let before_skips = *item;
        let (skipped, replaced) = advance::skip_along(&dag, &mut item.masks);
        skips.push(tx, &before_skips, skipped, replaced, |_| None);
        let released = if item.cancelled { 0 } else { dag.runnable(item.masks) };
        for bit in Bits(released) {
            enqueued.push(tx, item, bit, None);
        }
        item.masks.live |= released;
        if item.masks != before {
            changed.push(*item);
        }
        // The status is recounted as a whole when the DAG changes, because `all` is in it.
        tx.count_reconciled(job, ItemStatus::of(item.masks, dag.all(), item.cancelled));
    }
    skips.write_alone(tx).await?;
    enqueued.write_alone(tx).await?;
    set_masks_alone(tx, &changed.iter().collect::<Vec<_>>()).await?;
    let next = items.last().map(|item| item.id).filter(|_| items.len() == limit as usize);
    tx.execute("UPDATE jobs SET reconciled = $2 WHERE id = $1", &[&job.0, &next.map(|id| id.0)]).await?;
    Ok(next)
}
