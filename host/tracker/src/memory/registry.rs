//! Hosts, jobs and items become known.

use gristmill_model::{
    Bits, Dag, Digest, HostId, ItemId, JobId, Merge, OnUpdate, STAGES_MAX, StageBit, StageId, State, VersionId,
};
use gristmill_model::{MergePolicy, Timestamp};
use serde_json::json;

use super::facts::{Component, Host, Item, Job, Spec, Stage, Version, World, next};
use crate::Error;
use crate::records::{
    HostInfo, JobRegistration, NewItem, RegisteredJob, RegisteredStage, Sighting, Source, StageRegistration, Upsert,
    Upserted,
};

impl World {
    pub(super) fn register_host(&mut self, info: HostInfo) -> HostId {
        self.last_host += 1;
        let id = self.last_host;
        self.event(info.now, "host.started", None, None, None, &json!({ "host": id }));
        let HostInfo { name, pid, app_version, now } = info;
        let host = Host { name, pid: pid.into(), app_version, started_at: now, heartbeat_at: now, ended_at: None };
        self.hosts.insert(id, host);
        HostId(id)
    }

    pub(super) fn heartbeat(&mut self, host: i64, now: Timestamp) -> bool {
        let Some(row) = self.hosts.get_mut(&host) else { return false };
        row.heartbeat_at = now;
        let alive = row.ended_at.take().is_none();
        if !alive {
            self.event(now, "host.back", None, None, None, &json!({ "host": host }));
        }
        alive
    }

    pub(super) fn retire_host(&mut self, host: i64, now: Timestamp) {
        if let Some(row) = self.hosts.get_mut(&host).filter(|row| row.ended_at.is_none()) {
            (row.heartbeat_at, row.ended_at) = (now, Some(now));
        }
        self.event(now, "host.ended", None, None, None, &json!({ "host": host }));
    }

    /// Returns the number of its spec as well.
    pub(super) fn register_job(&mut self, job: &JobRegistration) -> Result<(RegisteredJob, i64), Error> {
        let known = self.jobs.iter().find(|(_, known)| known.name == job.name).map(|(id, _)| *id);
        let id = known.unwrap_or_else(|| next(&self.jobs));
        let spec_id = job.spec_id;
        let fresh = Job { name: job.name.clone(), spec_id, created_at: job.now, reconciled: None };
        self.jobs.entry(id).or_insert(fresh).spec_id = spec_id;
        let number = self.specs.values().map(|spec| spec.number).max().unwrap_or(0) + 1;
        let is_new = !self.specs.contains_key(&(id, spec_id));
        let spec = Spec { number, yaml: job.yaml.clone(), loaded_at: job.now };
        let number = self.specs.entry((id, spec_id)).or_insert(spec).number;

        let before = self.shape(id);
        let bits = self.assign_bits(id, job)?;
        let mut stages = Vec::new();
        for stage in self.stages.iter_mut().filter(|(stage, _)| StageId(**stage).job().0 == id).map(|(_, stage)| stage)
        {
            stage.retired_at = stage.retired_at.or(Some(job.now));
        }
        let mut dag = Dag::default();
        for (place, (stage, bit)) in job.stages.iter().zip(&bits).enumerate() {
            let stage_id = StageId::new(JobId(id), StageBit(*bit as u8));
            let needs: Vec<i64> = stage.needs.iter().map(|need| bits[need.stage]).collect();
            let outputs: Vec<i64> =
                stage.needs.iter().filter(|need| need.output).map(|need| bits[need.stage]).collect();
            let mask = |bits: &[i64]| bits.iter().fold(0, |mask, bit| mask | 1 << bit);
            dag.add(stage_id.bit(), mask(&needs), mask(&outputs));
            let version = self.store_version(stage_id, stage, job.now);
            let name = stage.name.clone();
            let row = Stage { name, place: place as i64, needs, outputs, version: Some(version), retired_at: None };
            self.stages.insert(stage_id.0, row);
            stages.push(RegisteredStage { id: stage_id, version: VersionId(version) });
        }
        if !before.is_empty() && before != self.shape(id) {
            self.jobs.get_mut(&id).expect("the job").reconciled = Some(0);
        }
        if is_new {
            self.event(job.now, "job.spec", Some(id), None, None, &json!({}));
        }
        let reconcile = self.jobs[&id].reconciled.map(ItemId);
        let cursor = self.cursors.get(&id).and_then(|(cursor, _)| cursor.clone());
        Ok((RegisteredJob { id: JobId(id), stages, dag, reconcile, cursor }, number))
    }

    fn shape(&self, job: i64) -> Vec<(StageId, Vec<i64>, Vec<i64>)> {
        let sorted = |bits: &[i64]| {
            let mut bits = bits.to_vec();
            bits.sort_unstable();
            bits.dedup();
            bits
        };
        let mut shape: Vec<_> = self
            .stages_of(job)
            .into_iter()
            .map(|(id, stage)| (id, sorted(&stage.needs), sorted(&stage.outputs)))
            .collect();
        shape.sort();
        shape
    }

    /// A stage keeps its bit for ever; a new one gets the lowest that none ever had.
    fn assign_bits(&self, id: i64, job: &JobRegistration) -> Result<Vec<i64>, Error> {
        let ever: Vec<(i64, &str)> = self
            .stages
            .iter()
            .filter(|(stage, _)| StageId(**stage).job().0 == id)
            .map(|(stage, row)| (i64::from(StageId(*stage).bit().0), row.name.as_str()))
            .collect();
        let mut free = (0..STAGES_MAX as i64).filter(|bit| ever.iter().all(|(taken, _)| taken != bit));
        job.stages
            .iter()
            .map(|stage| {
                let known = ever.iter().find(|(_, name)| *name == stage.name).map(|(bit, _)| *bit);
                known.or_else(|| free.next()).ok_or_else(|| Error::TooManyStages(job.name.clone()))
            })
            .collect()
    }

    fn store_version(&mut self, stage_id: StageId, stage: &StageRegistration, now: Timestamp) -> i64 {
        self.components.entry(stage.component).or_insert(Component {
            raw_hash: stage.component_raw,
            size: stage.component_size as i64,
            source: stage.source.clone(),
            added_at: now,
        });
        let same = |version: &Version| version.stage == stage_id.0 && version.digest == stage.version;
        if let Some((id, _)) = self.versions.iter().find(|(_, version)| same(version)) {
            return *id;
        }
        let id = next(&self.versions);
        let version = Version {
            stage: stage_id.0,
            digest: stage.version,
            component: stage.component,
            declared: stage.declared.clone(),
            created_at: now,
        };
        self.versions.insert(id, version);
        self.event(now, "stage.version", Some(stage_id.job().0), None, None, &json!({ "stage": stage.name }));
        id
    }

    pub(super) fn reconcile(
        &mut self,
        job: i64,
        after: i64,
        limit: u32,
        now: Timestamp,
    ) -> Result<Option<ItemId>, Error> {
        self.known_job(job)?;
        let page: Vec<i64> = self
            .items
            .range(after + 1..)
            .filter(|(_, item)| item.job == job)
            .map(|(id, _)| *id)
            .take(limit as usize)
            .collect();
        let current: Vec<i64> = self.stages_of(job).into_iter().map(|(id, _)| id.0).collect();
        for item in &page {
            for key in Self::keys(*item) {
                let gone =
                    |queued: &super::facts::Queued| queued.state != State::Leased && !current.contains(&queued.stage);
                if self.queue.get(&key).is_some_and(gone) {
                    self.queue.remove(&key);
                }
            }
            self.skip_along(*item, now);
            self.release_runnable(*item, now);
        }
        let next = page.last().copied().filter(|_| page.len() == limit as usize);
        self.jobs.get_mut(&job).expect("the job").reconciled = next;
        Ok(next.map(ItemId))
    }

    pub(super) fn upsert(&mut self, batch: &Upsert) -> Result<Upserted, Error> {
        self.known_job(batch.job.0)?;
        let mut done = Upserted::default();
        for item in &batch.items {
            match self.find(batch.job.0, &item.key) {
                None => {
                    self.insert_item(batch, item);
                    done.new += 1;
                }
                Some(id) if self.items[&id].seen_hash == item.data_hash => done.unchanged += 1,
                Some(id) if self.see_again(batch, item, id)? => done.changed += 1,
                Some(_) => done.unchanged += 1,
            }
        }
        if let Source::Page { next, .. } = &batch.source {
            let stored = self.cursors.entry(batch.job.0).or_insert((None, batch.now));
            if stored.0 != *next {
                *stored = (next.clone(), batch.now);
            }
        }
        Ok(done)
    }

    fn insert_item(&mut self, batch: &Upsert, item: &NewItem) {
        let id = next(&self.items);
        let row = Item {
            job: batch.job.0,
            key: item.key.clone(),
            data: item.data.clone(),
            data_hash: item.data_hash,
            seen_hash: item.data_hash,
            priority: item.priority,
            cancelled_at: None,
            discovered_at: batch.now,
            changed_at: batch.now,
            sightings: Vec::new(),
        };
        self.items.insert(id, row);
        self.sight(batch, item, id);
        self.release_runnable(id, batch.now);
    }

    /// An item with data other than it was last seen with. Returns whether that changed anything.
    fn see_again(&mut self, batch: &Upsert, item: &NewItem, id: i64) -> Result<bool, Error> {
        let known = &self.items[&id];
        let again = known.sightings.iter().any(|sighting| sighting.data_hash == item.data_hash);
        let by_fields = |policy: &MergePolicy| {
            let merged = policy.merge(&known.data, &item.data, again);
            merged.map_or((known.data.clone(), known.data_hash), |text| (text.clone(), Digest::of(text.as_bytes())))
        };
        let (data, hash) = match &batch.rediscovery.merge {
            Merge::Replace => (item.data.clone(), item.data_hash),
            Merge::Fields(policy) => by_fields(policy),
            Merge::Handler => match &item.merged {
                Some(merged) if merged.replaces == known.data_hash => {
                    (merged.data.clone(), Digest::of(merged.data.as_bytes()))
                }
                _ => return Err(Error::Overtaken(item.key.clone())),
            },
        };
        let row = self.items.get_mut(&id).expect("the item");
        row.seen_hash = item.data_hash;
        row.priority = item.priority;
        let changed = row.data_hash != hash;
        if changed {
            (row.data, row.data_hash, row.changed_at) = (data, hash, batch.now);
        }
        let cancelled = row.cancelled_at.is_some();
        self.sight(batch, item, id);
        if changed && batch.rediscovery.on_update == OnUpdate::Reprocess {
            self.reprocess_roots(id, cancelled, batch.now);
        }
        Ok(changed)
    }

    fn reprocess_roots(&mut self, id: i64, cancelled: bool, now: Timestamp) {
        let roots: Vec<i64> = self
            .stages_of(self.items[&id].job)
            .into_iter()
            .filter(|(_, stage)| stage.needs.is_empty())
            .map(|(stage, _)| id << 6 | i64::from(stage.bit().0))
            .collect();
        for key in roots.into_iter().filter(|key| !self.queue.contains_key(key)).collect::<Vec<_>>() {
            if let Some(result) = self.results.get_mut(&key).filter(|result| result.state != State::Dead) {
                result.stale = true;
                if !cancelled {
                    self.enqueue(key, now, None);
                }
            }
        }
    }

    fn sight(&mut self, batch: &Upsert, item: &NewItem, id: i64) {
        let most = batch.rediscovery.sightings_max as usize;
        let sightings = &mut self.items.get_mut(&id).expect("the item").sightings;
        sightings.retain(|sighting| sighting.data_hash != item.data_hash);
        sightings.push(Sighting {
            source: batch.source.name().to_owned(),
            cursor: batch.source.cursor().map(str::to_owned),
            at: batch.now,
            data_hash: item.data_hash,
        });
        // The newest first.
        sightings.sort_by_key(|sighting| std::cmp::Reverse((sighting.at, sighting.data_hash)));
        sightings.truncate(most);
    }
}

/// The bits of a mask, as the model keeps them.
pub(super) fn bits(mask: i64) -> Vec<i64> {
    Bits(mask as u64).map(|bit| i64::from(bit.0)).collect()
}
