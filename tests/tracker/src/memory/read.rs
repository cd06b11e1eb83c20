//! Reads of the model.

use std::collections::{BTreeMap, HashMap};

use gristmill_model::{AttemptId, Bits, Digest, Fence, HostId, ItemId, ItemStatus, JobId, StageId, StageKey, State};

use super::facts::{Attempt, Stage, World};
use gristmill_tracker::records::{
    AttemptRow, AttemptsFilter, EventRow, EventsFilter, ItemDetail, ItemRow, ItemStageDetail, ItemsFilter, JobRow,
    JobStats, KnownItem, OperationRow, Outlook, Outputs, ResultRow, StageStats,
};

impl World {
    pub(super) fn job_rows(&self) -> Vec<JobRow> {
        let mut rows: Vec<JobRow> = self
            .jobs
            .iter()
            .map(|(id, job)| JobRow {
                id: JobId(*id),
                name: job.name.clone(),
                stages: self.stages_of(*id).into_iter().map(|(id, stage)| (id, stage.name.clone())).collect(),
            })
            .collect();
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        rows
    }

    pub(super) fn stats(&self, job: i64) -> JobStats {
        let mut stats = JobStats { items: ItemStatus::ALL.map(|status| (status, 0)).into(), ..JobStats::default() };
        // Items of a job that are not reconciled yet are not counted.
        let counted = self.jobs.get(&job).and_then(|job| job.reconciled).unwrap_or(i64::MAX);
        for (id, _) in self.items.iter().filter(|(id, item)| item.job == job && **id <= counted) {
            *stats.items.entry(self.status(*id)).or_default() += 1;
        }
        for (id, stage) in self.stages_of(job) {
            let other = self.results.iter().filter(|(key, _)| self.stage_of(**key) == id.0);
            let other = other.filter(|(_, result)| result.output.is_some() && result.version != stage.version);
            stats.stages.push(StageStats {
                id,
                name: stage.name.clone(),
                version: self.version(stage.version),
                other_versions: other.count() as u64,
                states: self.states(id.0),
            });
        }
        let mut charges: BTreeMap<String, f64> = BTreeMap::new();
        for ((_, meter, _), (amount, _)) in
            self.rollups.iter().filter(|((stage, ..), _)| StageId(*stage).job().0 == job)
        {
            *charges.entry(meter.clone()).or_default() += amount;
        }
        stats.charges = charges.into_iter().collect();
        stats
    }

    pub(super) fn stage_of(&self, key: i64) -> i64 {
        let key = StageKey(key);
        StageId::new(JobId(self.items[&key.item().0].job), key.bit()).0
    }

    /// How many rows of a stage are in each state.
    pub(super) fn states(&self, stage: i64) -> HashMap<State, u64> {
        let mut states = HashMap::new();
        for queued in self.queue.values().filter(|queued| queued.stage == stage) {
            *states.entry(queued.state).or_default() += 1;
        }
        for (_, result) in self.results.iter().filter(|(key, _)| self.stage_of(**key) == stage) {
            *states.entry(result.state).or_default() += 1;
        }
        states
    }

    fn version(&self, id: Option<i64>) -> Option<Digest> {
        id.and_then(|id| self.versions.get(&id)).map(|version| version.digest)
    }

    fn item_row(&self, id: i64) -> ItemRow {
        let item = &self.items[&id];
        ItemRow {
            id: ItemId(id),
            key: item.key.clone(),
            status: self.status(id),
            masks: self.masks(id),
            discovered_at: item.discovered_at,
            changed_at: item.changed_at,
        }
    }

    pub(super) fn item_rows(&self, filter: &ItemsFilter) -> Vec<ItemRow> {
        let behind = self.items.range(filter.after.0 + 1..).filter(|(_, item)| item.job == filter.job.0);
        behind
            .filter(|(_, item)| item.key.starts_with(&filter.prefix))
            .map(|(id, _)| self.item_row(*id))
            .filter(|row| filter.status.is_none_or(|status| status == row.status))
            .take(filter.limit as usize)
            .collect()
    }

    pub(super) fn item_detail(&self, job: i64, key: &str, outputs: &Outputs) -> Option<ItemDetail> {
        let id = self.find(job, key)?;
        let item = &self.items[&id];
        Some(ItemDetail {
            row: self.item_row(id),
            data: item.data.clone(),
            priority: item.priority,
            sightings: self.sightings(item),
            stages: self
                .stages_of(job)
                .into_iter()
                .map(|(stage, row)| self.stage_detail(id, stage, row, outputs))
                .collect(),
        })
    }

    fn stage_detail(&self, item: i64, id: StageId, stage: &Stage, outputs: &Outputs) -> ItemStageDetail {
        let key = StageKey::new(ItemId(item), id.bit()).0;
        let (result, queued) = (self.results.get(&key), self.queue.get(&key));
        let unsettled = if self.items[&item].cancelled_at.is_some() { State::Cancelled } else { State::Blocked };
        let state = queued.map(|row| row.state).or(result.map(|row| row.state)).unwrap_or(unsettled);
        let masks = self.masks(item);
        let open = stage.needs & !(masks.fresh() & !masks.live);
        let blocked_by = Bits(if state == State::Blocked { open } else { 0 });
        let last = queued.and_then(|row| row.last_attempt).or(result.and_then(|row| row.last_attempt));
        let output = result.and_then(|row| row.output.as_ref());
        ItemStageDetail {
            name: stage.name.clone(),
            state,
            reason: result.and_then(|row| row.reason),
            due_at: queued.map(|row| row.due_at),
            settled_at: result.map(|row| row.settled_at),
            counters: queued.map(|row| row.counters).or(result.map(|row| row.counters)).unwrap_or_default(),
            version: self.version(result.and_then(|row| row.version)),
            current: result.is_some_and(|row| row.version == stage.version),
            output: output.filter(|output| outputs.want(&stage.name, output.len() as u64)).cloned(),
            output_bytes: output.map(|output| output.len() as u64),
            error: result.and_then(|row| row.error.clone()),
            blocked_by: blocked_by
                .map(|bit| StageId::new(id.job(), bit).0)
                .filter_map(|need| self.stages.get(&need).filter(|need| need.retired_at.is_none()))
                .map(|need| need.name.clone())
                .collect(),
            attempts: self.chain(last),
        }
    }

    fn chain(&self, mut last: Option<i64>) -> Vec<AttemptRow> {
        let mut chain = Vec::new();
        while let Some((id, attempt)) = last.and_then(|id| Some((id, self.attempts.get(&id)?))) {
            chain.push(self.attempt_row(id, attempt));
            last = attempt.prev;
        }
        chain
    }

    fn attempt_row(&self, id: i64, attempt: &Attempt) -> AttemptRow {
        let charges = self.costs.values().filter(|cost| cost.attempt == id);
        AttemptRow {
            id: AttemptId(id),
            item: StageKey(attempt.key).item(),
            item_key: self.items.get(&StageKey(attempt.key).item().0).map(|item| item.key.clone()),
            stage: self.stages[&attempt.stage].name.clone(),
            outcome: attempt.outcome,
            host: HostId(attempt.host),
            fence: Fence(attempt.fence),
            queued_at: attempt.queued_at,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            version: self.version(attempt.version),
            memory_bytes_max: attempt.memory_bytes_max.map(|bytes| bytes as u64),
            error: attempt.error.clone(),
            log: attempt.log.clone(),
            charges: charges.map(|cost| (cost.meter.clone(), cost.amount)).collect(),
        }
    }

    pub(super) fn result_rows(&self, stage: StageId, after: i64, limit: u32) -> Vec<ResultRow> {
        let done = self.results.iter().filter(|(key, row)| self.stage_of(**key) == stage.0 && row.state == State::Done);
        done.map(|(key, row)| (StageKey(*key).item(), row))
            .filter(|(item, _)| item.0 > after)
            .take(limit as usize)
            .map(|(item, row)| ResultRow {
                item,
                item_key: self.items[&item.0].key.clone(),
                output: row.output.clone().unwrap_or_default(),
            })
            .collect()
    }

    pub(super) fn attempt_rows(&self, filter: &AttemptsFilter) -> Vec<AttemptRow> {
        let newest = self.attempts.iter().rev().filter(|(_, row)| {
            StageId(row.stage).job() == filter.job
                && filter.stage.is_none_or(|stage| stage.0 == row.stage)
                && filter.outcome.is_none_or(|outcome| outcome == row.outcome)
        });
        newest.take(filter.limit as usize).map(|(id, row)| self.attempt_row(*id, row)).collect()
    }

    pub(super) fn outlook(&self) -> Outlook {
        let waiting = self.queue.values().filter(|row| row.state == State::Waiting);
        let leases = self.leases.keys().filter(|fence| !self.held(**fence).is_empty()).count();
        Outlook { next_due: waiting.map(|row| row.due_at).min(), leases: leases as u64 }
    }

    pub(super) fn known(&self, job: i64, keys: &[String]) -> Vec<KnownItem> {
        let items = self.items.values().filter(|item| item.job == job && keys.contains(&item.key));
        items
            .map(|item| KnownItem {
                key: item.key.clone(),
                data: item.data.clone(),
                data_hash: item.data_hash,
                seen_hash: item.seen_hash,
            })
            .collect()
    }

    pub(super) fn outdated(&self, stage: StageId, after: i64, limit: u32) -> Vec<ItemId> {
        let current = self.stages.get(&stage.0).and_then(|stage| stage.version);
        let rows = self
            .results
            .iter()
            .filter(|(key, row)| self.stage_of(**key) == stage.0 && row.output.is_some() && row.version != current);
        rows.map(|(key, _)| StageKey(*key).item()).filter(|item| item.0 > after).take(limit as usize).collect()
    }

    pub(super) fn operation_rows(&self, job: Option<JobId>, limit: u32) -> Vec<OperationRow> {
        let newest = self.operations.values().rev().map(|operation| operation.row.clone());
        newest.filter(|row| job.is_none_or(|job| row.job == job)).take(limit as usize).collect()
    }

    pub(super) fn event_rows(&self, filter: &EventsFilter) -> Vec<EventRow> {
        let of_kind = |row: &EventRow| match &filter.kind {
            Some(kind) if kind.ends_with('.') => row.kind.starts_with(kind.as_str()),
            Some(kind) => row.kind == *kind,
            None => true,
        };
        let newest = self.events.iter().rev().filter(|row| of_kind(row));
        newest
            .filter(|row| filter.job.is_none_or(|job| row.job == Some(job)))
            .take(filter.limit as usize)
            .cloned()
            .collect()
    }
}
