//! Registration of hosts and jobs, and discovery of items, in the model.

use std::collections::btree_map::Entry;
use std::collections::{BTreeSet, HashMap};

use gristmill_model::{Bits, Digest, HostId, ItemId, JobId, OnUpdate, StageBit, StageId, Timestamp, VersionId};

use super::facts::{Component, Host, Item, Job, Page, Spec, Stage, Version, World, next};
use gristmill_tracker::records::{
    HostInfo, JobRegistration, NewItem, RegisteredJob, RegisteredStage, Restart, Source, StageRegistration, Upsert,
    Upserted,
};
use gristmill_tracker::rules::register::{Declared, Edit};
use gristmill_tracker::rules::{discover, events, reconcile, register};
use gristmill_tracker::{ComponentBytes, Error, check_component, distinct_components};

impl World {
    pub(super) fn register_host(&mut self, info: HostInfo) -> HostId {
        self.last_host += 1;
        let id = self.last_host;
        self.note(info.now, &events::host_started(HostId(id), &info));
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
            self.note(now, &events::host_back(HostId(host)));
        }
        alive
    }

    pub(super) fn retire_host(&mut self, host: i64, now: Timestamp) {
        if let Some(row) = self.hosts.get_mut(&host).filter(|row| row.ended_at.is_none()) {
            (row.heartbeat_at, row.ended_at) = (now, Some(now));
        }
        self.note(now, &events::host_ended(HostId(host)));
    }

    /// Also returns the number of its spec.
    pub(super) fn register_job(&mut self, job: &JobRegistration) -> Result<(RegisteredJob, i64), Error> {
        let known = self.jobs.iter().find(|(_, known)| known.name == job.name).map(|(id, _)| *id);
        let id = known.unwrap_or_else(|| next(&self.jobs));
        let spec_id = job.spec_id;
        let is_last = self.jobs.get(&id).is_some_and(|known| known.spec_id == spec_id);
        let fresh = Job { name: job.name.clone(), spec_id, created_at: job.now, reconciled: None };
        self.jobs.entry(id).or_insert(fresh).spec_id = spec_id;
        let number = self.specs.values().map(|spec| spec.number).max().unwrap_or(0) + 1;
        let is_new = !self.specs.contains_key(&(id, spec_id));
        let spec = Spec { number, yaml: job.yaml.clone(), loaded_at: job.now };
        let number = self.specs.entry((id, spec_id)).or_insert(spec).number;

        let known = self.dag(id);
        let ever = self.stages.iter().filter(|(stage, _)| StageId(**stage).job().0 == id);
        let ever: HashMap<String, StageBit> =
            ever.map(|(stage, row)| (row.name.clone(), StageId(*stage).bit())).collect();
        let bits = register::assign_bits(&ever, job)?;
        let (declared, dag) = register::declare(job, &bits);
        for (_, stage) in self.stages.iter_mut().filter(|(stage, _)| StageId(**stage).job().0 == id) {
            stage.retired_at = stage.retired_at.or(Some(job.now));
        }
        distinct_components(&job.stages).try_for_each(|stage| self.store_component(stage, job.now))?;
        let mut stages = Vec::new();
        for (place, (stage, declared)) in job.stages.iter().zip(&declared).enumerate() {
            let Declared { bit, needs, outputs } = *declared;
            let stage_id = StageId::new(JobId(id), bit);
            let version = self.store_version(stage_id, stage, job.now);
            let (name, place) = (stage.name.clone(), place as i64);
            let row = Stage { job: id, name, place, needs, outputs, version: Some(version), retired_at: None };
            self.stages.insert(stage_id.0, row);
            stages.push(RegisteredStage { id: stage_id, version: VersionId(version) });
        }
        if register::edit(&known, &dag) == Edit::Another {
            self.jobs.get_mut(&id).expect("the job").reconciled = Some(0);
        }
        if is_new || !is_last {
            self.note(job.now, &events::spec_changed(JobId(id), job, is_new));
        }
        let reconcile = self.jobs[&id].reconciled.map(ItemId);
        let cursor = self.cursors.get(&id).and_then(|(cursor, _)| cursor.clone());
        Ok((RegisteredJob { id: JobId(id), stages, dag, reconcile, cursor }, number))
    }

    fn store_component(&mut self, stage: &StageRegistration, now: Timestamp) -> Result<(), Error> {
        let row = self.components.entry(stage.component).or_insert(Component {
            raw_hash: stage.component_raw,
            size: stage.component_size as i64,
            source: stage.source.clone(),
            added_at: now,
        });
        if let Some(bytes) = &stage.component_bytes {
            check_component(stage.component, stage.component_raw, bytes)?;
            if let Entry::Vacant(place) = self.component_bytes.entry(stage.component) {
                (row.raw_hash, row.size) = (stage.component_raw, bytes.len() as i64);
                place.insert(bytes.clone());
            }
        }
        Ok(())
    }

    pub(super) fn import_component(&mut self, hash: Digest, bytes: ComponentBytes) -> Result<(), Error> {
        let row = self.components.get(&hash).ok_or(Error::Component(hash))?;
        check_component(hash, row.raw_hash, &bytes)?;
        self.component_bytes.insert(hash, bytes);
        Ok(())
    }

    fn store_version(&mut self, stage_id: StageId, stage: &StageRegistration, now: Timestamp) -> i64 {
        let same = |version: &Version| version.stage == stage_id.0 && version.digest == stage.version;
        let known = self.versions.iter().find(|(_, version)| same(version)).map(|(id, _)| *id);
        let id = known.unwrap_or_else(|| next(&self.versions));
        if self.stages.get(&stage_id.0).and_then(|stage| stage.version) != Some(id) {
            self.note(now, &events::version_changed(stage_id, stage, known.is_none()));
        }
        if known.is_some() {
            return id;
        }
        let version = Version {
            stage: stage_id.0,
            digest: stage.version,
            component: stage.component,
            declared: stage.declared.clone(),
            created_at: now,
        };
        self.versions.insert(id, version);
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
        let dag = self.dag(job);
        for id in &page {
            let item = self.item(*id);
            let left = self.leave_queue(*id, reconcile::leaves(&dag, &item));
            let change = reconcile::reconcile(&dag, item, left);
            self.apply(&change, now, None);
            self.expect(&change);
        }
        let next = page.last().copied().filter(|_| page.len() == limit as usize);
        self.jobs.get_mut(&job).expect("the job").reconciled = next;
        Ok(next.map(ItemId))
    }

    pub(super) fn upsert(&mut self, batch: &Upsert) -> Result<Upserted, Error> {
        self.known_job(batch.job.0)?;
        let mut done = Upserted::default();
        let (page, Upsert { job, source, now, .. }) = (next(&self.pages), batch);
        let (name, cursor) = (source.name().to_owned(), source.cursor().map(str::to_owned));
        self.pages.insert(page, Page { job: job.0, at: *now, source: name, cursor });
        for item in &batch.items {
            match self.find(batch.job.0, &item.key) {
                None => {
                    self.insert_item(batch, page, item);
                    done.new += 1;
                }
                Some(id) => {
                    let is_other =
                        self.items[&id].seen_hash != item.data_hash && self.see_again(batch, page, item, id)?;
                    let is_moved = self.prioritize(id, item.priority);
                    done.changed += u64::from(is_other || is_moved);
                    done.unchanged += u64::from(!(is_other || is_moved));
                }
            }
        }
        self.forget_pages();
        if let Source::Page { next, .. } = &batch.source {
            let stored = self.cursors.entry(batch.job.0).or_insert((None, batch.now));
            if stored.0 != *next {
                *stored = (next.clone(), batch.now);
            }
        }
        Ok(done)
    }

    pub(super) fn restart_discovery(&mut self, restart: &Restart) -> Option<String> {
        let stored = self.cursors.get_mut(&restart.job.0)?;
        let cursor = stored.0.take()?;
        stored.1 = restart.now;
        self.note(restart.now, &events::discovery_restarted(restart, &cursor));
        Some(cursor)
    }

    fn insert_item(&mut self, batch: &Upsert, page: i64, item: &NewItem) {
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
            sightings: BTreeSet::new(),
        };
        self.items.insert(id, row);
        self.sight(batch, page, item, id);
        let new = discover::discover(&self.dag(batch.job.0), batch.job);
        let change = new.numbered(ItemId(id), item.priority.into());
        self.apply(&change, batch.now, None);
        self.expect(&change);
    }

    /// Records an item that is found with other data than the last time. Returns whether that changed its data.
    fn see_again(&mut self, batch: &Upsert, page: i64, item: &NewItem, id: i64) -> Result<bool, Error> {
        let known = &self.items[&id];
        let again = known.sightings.iter().any(|(_, hash)| *hash == item.data_hash);
        let known = discover::Known { data_hash: known.data_hash, data: Some((&known.data, again)) };
        let merged = discover::merge(&batch.rediscovery.merge, item, known)?;
        let row = self.items.get_mut(&id).expect("the item");
        row.seen_hash = item.data_hash;
        let changed = merged.is_some();
        if let Some((data, hash)) = merged {
            (row.data, row.data_hash, row.changed_at) = (data.into_owned(), hash, batch.now);
        }
        self.sight(batch, page, item, id);
        if changed && batch.rediscovery.on_update == OnUpdate::Reprocess {
            let (dag, item) = (self.dag(batch.job.0), self.item(id));
            let has_result = |bit: &StageBit| self.results[&item.key(*bit).0].output.is_some();
            let results = Bits(discover::reprocess_asks(&dag, &item)).filter(has_result);
            let change = discover::reprocess(&dag, item, results.fold(0, |mask, bit| mask | bit.mask()));
            self.apply(&change, batch.now, None);
            self.expect(&change);
        }
        Ok(changed)
    }

    /// Gives an item a priority, and moves its queue rows. Returns whether the priority changed.
    fn prioritize(&mut self, id: i64, priority: i32) -> bool {
        let before = std::mem::replace(&mut self.items.get_mut(&id).expect("the item").priority, priority);
        for key in Self::keys(id) {
            if let Some(row) = self.queue.get_mut(&key) {
                row.claim_key += discover::moved_in_line(before.into(), priority.into());
            }
        }
        before != priority
    }

    fn sight(&mut self, batch: &Upsert, page: i64, item: &NewItem, id: i64) {
        let most = batch.rediscovery.sightings_max as usize;
        let sightings = &mut self.items.get_mut(&id).expect("the item").sightings;
        sightings.retain(|(_, hash)| *hash != item.data_hash);
        sightings.insert((page, item.data_hash));
        while sightings.len() > most {
            sightings.pop_first();
        }
    }
}
