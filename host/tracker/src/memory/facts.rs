//! What the model knows of, and what follows from it.
//!
//! Owns the maps, and the questions that every operation asks: which stages may run, which can never run, what is the
//! status of an item. Each is answered by looking at all stages of the item, one by one.

use std::collections::BTreeMap;

use gristmill_model::{
    Counters, DeadReason, Digest, ItemId, ItemStatus, JobId, Masks, OperationId, Outcome, StageBit, StageId, StageKey,
    State, Timestamp,
};

use crate::Error;
use crate::records::{EventRow, OperationRow, Sighting};

#[derive(Clone)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) spec_id: Digest,
    pub(super) created_at: Timestamp,
    pub(super) reconciled: Option<i64>,
}

#[derive(Clone)]
pub(super) struct Spec {
    pub(super) number: i64,
    pub(super) yaml: String,
    pub(super) loaded_at: Timestamp,
}

#[derive(Clone)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) place: i64,
    pub(super) needs: Vec<i64>,
    pub(super) outputs: Vec<i64>,
    pub(super) version: Option<i64>,
    pub(super) retired_at: Option<Timestamp>,
}

#[derive(Clone)]
pub(super) struct Component {
    pub(super) raw_hash: Digest,
    pub(super) size: i64,
    pub(super) source: String,
    pub(super) added_at: Timestamp,
}

#[derive(Clone)]
pub(super) struct Version {
    pub(super) stage: i64,
    pub(super) digest: Digest,
    pub(super) component: Digest,
    pub(super) declared: Option<String>,
    pub(super) created_at: Timestamp,
}

#[derive(Clone)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) pid: i64,
    pub(super) app_version: String,
    pub(super) started_at: Timestamp,
    pub(super) heartbeat_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
}

#[derive(Clone)]
pub(super) struct Item {
    pub(super) job: i64,
    pub(super) key: String,
    pub(super) data: String,
    pub(super) data_hash: Digest,
    pub(super) seen_hash: Digest,
    pub(super) priority: i32,
    pub(super) cancelled_at: Option<Timestamp>,
    pub(super) discovered_at: Timestamp,
    pub(super) changed_at: Timestamp,
    pub(super) sightings: Vec<Sighting>,
}

#[expect(clippy::struct_field_names, reason = "the columns of the table")]
#[derive(Clone)]
pub(super) struct Settled {
    pub(super) state: State,
    /// An operation, or new data, wants it again.
    pub(super) stale: bool,
    pub(super) reason: Option<DeadReason>,
    pub(super) counters: Counters,
    pub(super) settled_at: Timestamp,
    pub(super) last_attempt: Option<i64>,
    pub(super) version: Option<i64>,
    pub(super) input_hash: Option<Digest>,
    pub(super) output_hash: Option<Digest>,
    pub(super) output: Option<String>,
    pub(super) error: Option<String>,
}

#[derive(Clone)]
pub(super) struct Queued {
    pub(super) state: State,
    pub(super) stage: i64,
    pub(super) claim_key: i64,
    pub(super) due_at: Timestamp,
    pub(super) first_due_at: Option<Timestamp>,
    pub(super) counters: Counters,
    pub(super) last_attempt: Option<i64>,
    pub(super) operation: Option<i64>,
    pub(super) fence: Option<i64>,
}

#[derive(Clone)]
pub(super) struct Lease {
    pub(super) host: i64,
    pub(super) deadline: Timestamp,
    pub(super) members: Vec<i64>,
}

#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) key: i64,
    pub(super) stage: i64,
    pub(super) prev: Option<i64>,
    pub(super) outcome: Outcome,
    pub(super) host: i64,
    pub(super) fence: i64,
    pub(super) queued_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) ended_at: Timestamp,
    pub(super) version: Option<i64>,
    pub(super) memory_bytes_max: Option<i64>,
    pub(super) input_hash: Option<Digest>,
    pub(super) spec: Option<i64>,
    pub(super) operation: Option<i64>,
    pub(super) error: Option<String>,
    pub(super) log: Option<String>,
}

#[derive(Clone)]
pub(super) struct Cost {
    pub(super) attempt: i64,
    pub(super) meter: String,
    pub(super) amount: f64,
}

#[derive(Clone)]
pub(super) struct Operation {
    pub(super) row: OperationRow,
    pub(super) filter: String,
    pub(super) position: i64,
}

/// Everything. Maps are by id; results, the queue and attempts by the packed key of a stage of an item.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) jobs: BTreeMap<i64, Job>,
    pub(super) specs: BTreeMap<(i64, Digest), Spec>,
    pub(super) stages: BTreeMap<i64, Stage>,
    pub(super) components: BTreeMap<Digest, Component>,
    pub(super) versions: BTreeMap<i64, Version>,
    pub(super) hosts: BTreeMap<i64, Host>,
    pub(super) items: BTreeMap<i64, Item>,
    pub(super) results: BTreeMap<i64, Settled>,
    pub(super) cursors: BTreeMap<i64, (Option<String>, Timestamp)>,
    pub(super) queue: BTreeMap<i64, Queued>,
    pub(super) leases: BTreeMap<i64, Lease>,
    pub(super) attempts: BTreeMap<i64, Attempt>,
    pub(super) costs: BTreeMap<i64, Cost>,
    pub(super) rollups: BTreeMap<(i64, String, i64), (f64, i64)>,
    pub(super) operations: BTreeMap<i64, Operation>,
    pub(super) events: Vec<EventRow>,
    /// While tables come in: items say what is stale before the results are there.
    pub(super) stale: std::collections::BTreeSet<i64>,
    pub(super) last_fence: i64,
    pub(super) last_host: i64,
}

/// The next number of a map.
pub(super) fn next<T>(map: &BTreeMap<i64, T>) -> i64 {
    map.keys().next_back().map_or(1, |last| last + 1)
}

/// One step of priority weighs as much as a minute of waiting.
pub(super) fn claim_key(due_at: Timestamp, priority: i32) -> i64 {
    due_at.0 - i64::from(priority) * 60_000_000
}

impl World {
    pub(super) fn known_job(&self, job: i64) -> Result<(), Error> {
        if self.jobs.contains_key(&job) { Ok(()) } else { Err(Error::UnknownJob(job)) }
    }

    /// The stages in a job's file, in its order.
    pub(super) fn stages_of(&self, job: i64) -> Vec<(StageId, &Stage)> {
        let of_job = self.stages.iter().map(|(id, stage)| (StageId(*id), stage));
        let mut stages: Vec<_> = of_job.filter(|(id, stage)| id.job().0 == job && stage.retired_at.is_none()).collect();
        stages.sort_by_key(|(_, stage)| stage.place);
        stages
    }

    pub(super) fn find(&self, job: i64, key: &str) -> Option<i64> {
        self.items.iter().find(|(_, item)| item.job == job && item.key == key).map(|(id, _)| *id)
    }

    /// The keys of an item's stages, of whatever is known of them.
    pub(super) fn keys(item: i64) -> impl Iterator<Item = i64> {
        (0..64).map(move |bit| StageKey::new(ItemId(item), StageBit(bit)).0)
    }

    pub(super) fn masks(&self, item: i64) -> Masks {
        let mut masks = Masks::default();
        for key in Self::keys(item) {
            let bit = StageKey(key).bit().mask();
            if self.queue.contains_key(&key) {
                masks.live |= bit;
            }
            let Some(result) = self.results.get(&key) else { continue };
            match result.state {
                State::Done => masks.done |= bit,
                State::Skipped => masks.skipped |= bit,
                _ => masks.dead |= bit,
            }
            if result.stale {
                masks.stale |= bit;
            }
        }
        masks
    }

    pub(super) fn status(&self, item: i64) -> ItemStatus {
        let Item { job, cancelled_at, .. } = &self.items[&item];
        let stages = self.stages_of(*job);
        let key = |id: &StageId| StageKey::new(ItemId(item), id.bit()).0;
        let is = |id: &StageId, states: &[State]| {
            self.results.get(&key(id)).is_some_and(|result| states.contains(&result.state) && !result.stale)
        };
        if cancelled_at.is_some() {
            ItemStatus::Cancelled
        } else if stages.iter().all(|(id, _)| is(id, &[State::Done, State::Skipped])) {
            ItemStatus::Done
        } else if stages.iter().any(|(id, _)| self.queue.contains_key(&key(id))) {
            ItemStatus::Active
        } else if stages.iter().any(|(id, _)| is(id, &[State::Dead])) {
            ItemStatus::Failed
        } else {
            ItemStatus::Pending
        }
    }

    /// Whether a stage wants a run, apart from whether it may.
    fn wants(&self, key: i64) -> bool {
        let settled = self.results.get(&key).is_some_and(|result| !result.stale);
        !settled && !self.queue.contains_key(&key)
    }

    /// Whether a stage cannot do without an output that there will not be.
    fn barred(&self, item: i64, stage: &Stage) -> bool {
        let is_skipped = |bit: &i64| {
            let result = self.results.get(&(item << 6 | bit));
            result.is_some_and(|result| result.state == State::Skipped)
        };
        stage.outputs.iter().any(is_skipped)
    }

    /// Whether a stage wants a run and has all that it needs.
    pub(super) fn may_run(&self, item: i64, bit: StageBit) -> bool {
        let usable = |bit: &i64| {
            let key = item << 6 | bit;
            let result = self.results.get(&key);
            result.is_some_and(|result| result.state != State::Dead && !result.stale) && !self.queue.contains_key(&key)
        };
        let stage = self.stages.get(&StageId::new(JobId(self.items[&item].job), bit).0);
        stage.is_some_and(|stage| {
            stage.retired_at.is_none()
                && self.wants(item << 6 | i64::from(bit.0))
                && stage.needs.iter().all(usable)
                && !self.barred(item, stage)
        })
    }

    /// Enqueues whatever may run. Returns how many stages that were.
    pub(super) fn release_runnable(&mut self, item: i64, now: Timestamp) -> u64 {
        let Item { job, cancelled_at, .. } = &self.items[&item];
        if cancelled_at.is_some() {
            return 0;
        }
        let runnable: Vec<i64> = self
            .stages_of(*job)
            .into_iter()
            .filter(|(id, _)| self.may_run(item, id.bit()))
            .map(|(id, _)| item << 6 | i64::from(id.bit().0))
            .collect();
        for key in &runnable {
            self.enqueue(*key, now, None);
        }
        runnable.len() as u64
    }

    pub(super) fn enqueue(&mut self, key: i64, now: Timestamp, operation: Option<i64>) {
        let item = &self.items[&StageKey(key).item().0];
        let queued = Queued {
            state: State::Ready,
            stage: StageId::new(JobId(item.job), StageKey(key).bit()).0,
            claim_key: claim_key(now, item.priority),
            due_at: now,
            first_due_at: None,
            counters: Counters::default(),
            last_attempt: self.results.get(&key).and_then(|result| result.last_attempt),
            operation,
            fence: None,
        };
        assert!(self.queue.insert(key, queued).is_none(), "a stage is enqueued once");
    }

    /// Says that what was made from a stage's result is to be made again.
    pub(super) fn mark_dependents_stale(&mut self, key: i64) {
        let (item, bit) = (StageKey(key).item().0, i64::from(StageKey(key).bit().0));
        let job = self.items[&item].job;
        let dependents: Vec<i64> = self
            .stages_of(job)
            .into_iter()
            .filter(|(_, stage)| stage.needs.contains(&bit))
            .map(|(id, _)| item << 6 | i64::from(id.bit().0))
            .collect();
        for dependent in dependents {
            if let Some(result) = self.results.get_mut(&dependent)
                && result.state != State::Dead
            {
                result.stale = true;
            }
        }
    }

    /// Skips along what can never run, and leaves alone what was skipped so and stays so.
    pub(super) fn skip_along(&mut self, item: i64, now: Timestamp) {
        let stages: Vec<(i64, Stage)> = self
            .stages_of(self.items[&item].job)
            .into_iter()
            .map(|(id, stage)| (item << 6 | i64::from(id.bit().0), stage.clone()))
            .collect();
        let is_skipped =
            |world: &Self, key: &i64| world.results.get(key).is_some_and(|result| result.state == State::Skipped);
        while let Some((key, _)) =
            stages.iter().find(|(key, stage)| self.wants(*key) && !is_skipped(self, key) && self.barred(item, stage))
        {
            let old = self.results.remove(key);
            let skipped = Settled {
                state: State::Skipped,
                stale: false,
                reason: None,
                counters: Counters::default(),
                settled_at: now,
                last_attempt: old.as_ref().and_then(|old| old.last_attempt),
                version: None,
                input_hash: None,
                output_hash: None,
                output: None,
                error: Some("a stage whose output it needs was skipped".to_owned()),
            };
            self.results.insert(*key, skipped);
            if old.is_some() {
                self.mark_dependents_stale(*key);
            }
        }
        for (key, stage) in &stages {
            if is_skipped(self, key) && self.barred(item, stage) && !self.queue.contains_key(key) {
                self.results.get_mut(key).expect("a result").stale = false;
            }
        }
    }

    pub(super) fn event(
        &mut self,
        at: Timestamp,
        kind: &str,
        job: Option<i64>,
        item: Option<i64>,
        operation: Option<i64>,
        data: &(impl ToString + ?Sized),
    ) {
        let id = self.events.last().map_or(1, |event| event.id + 1);
        self.events.push(EventRow {
            id,
            at,
            kind: kind.to_owned(),
            job: job.map(JobId),
            item: item.map(ItemId),
            operation: operation.map(OperationId),
            data: data.to_string(),
        });
    }
}
