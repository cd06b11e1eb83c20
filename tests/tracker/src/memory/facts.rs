//! The facts of the model, and how a change is applied to them.
//!
//! Owns the maps, the facts that rules get from them, and the writing of a change. Never stores masks: they are
//! computed from the rows each time.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_model::{
    Bits, Counters, Dag, DeadReason, Digest, ItemId, ItemStatus, JobId, Masks, Outcome, StageBit, StageId, StageKey,
    State, Timestamp,
};

use gristmill_tracker::records::{EventRow, OperationRow, Sighting};
use gristmill_tracker::rules::change::{Ready, SKIPPED_ALONG};
use gristmill_tracker::rules::events::Event;
use gristmill_tracker::rules::{self, Change};
use gristmill_tracker::{ComponentBytes, Error};

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
    pub(super) job: i64,
    pub(super) name: String,
    pub(super) place: i64,
    pub(super) needs: u64,
    pub(super) outputs: u64,
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
    /// By page, and by the hash of the data: the newest last.
    pub(super) sightings: BTreeSet<(i64, Digest)>,
}

/// A page of discovery: items that were found together.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) job: i64,
    pub(super) at: Timestamp,
    pub(super) source: String,
    pub(super) cursor: Option<String>,
}

#[expect(clippy::struct_field_names, reason = "the columns of the table")]
#[derive(Clone)]
pub(super) struct Settled {
    pub(super) state: State,
    /// It shall run again: an operation asked for it, or its data changed.
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
    /// Its input changed while it was leased.
    pub(super) superseded: bool,
}

#[derive(Clone)]
pub(super) struct Lease {
    pub(super) host: i64,
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

/// All facts. Maps are by id; results, the queue and attempts by the packed key of a stage of an item.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) jobs: BTreeMap<i64, Job>,
    pub(super) specs: BTreeMap<(i64, Digest), Spec>,
    pub(super) stages: BTreeMap<i64, Stage>,
    pub(super) components: BTreeMap<Digest, Component>,
    /// By the canonical hash.
    pub(super) component_bytes: BTreeMap<Digest, ComponentBytes>,
    pub(super) versions: BTreeMap<i64, Version>,
    pub(super) hosts: BTreeMap<i64, Host>,
    pub(super) items: BTreeMap<i64, Item>,
    pub(super) pages: BTreeMap<i64, Page>,
    pub(super) results: BTreeMap<i64, Settled>,
    pub(super) cursors: BTreeMap<i64, (Option<String>, Timestamp)>,
    pub(super) queue: BTreeMap<i64, Queued>,
    pub(super) leases: BTreeMap<i64, Lease>,
    pub(super) attempts: BTreeMap<i64, Attempt>,
    pub(super) costs: BTreeMap<i64, Cost>,
    pub(super) rollups: BTreeMap<(i64, String, i64), (f64, i64)>,
    pub(super) operations: BTreeMap<i64, Operation>,
    pub(super) events: Vec<EventRow>,
    /// Used while tables are imported: items say what is stale before their results are there.
    pub(super) stale: BTreeSet<i64>,
    pub(super) last_fence: i64,
    pub(super) last_host: i64,
}

/// The next number of a map.
pub(super) fn next<T>(map: &BTreeMap<i64, T>) -> i64 {
    map.keys().next_back().map_or(1, |last| last + 1)
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

    /// The sightings of an item, the newest first.
    pub(super) fn sightings(&self, item: &Item) -> Vec<Sighting> {
        let newest = item.sightings.iter().rev();
        let sighting = |(page, data_hash): &(i64, Digest)| {
            let Page { at, source, cursor, .. } = self.pages[page].clone();
            Sighting { source, cursor, at, data_hash: *data_hash }
        };
        newest.map(sighting).collect()
    }

    /// How many sightings a page has.
    pub(super) fn named(&self, page: i64) -> i64 {
        let seen = self.items.values().flat_map(|item| &item.sightings);
        seen.filter(|(other, _)| *other == page).count() as i64
    }

    /// Deletes pages without sightings.
    pub(super) fn forget_pages(&mut self) {
        let named: BTreeSet<i64> =
            self.items.values().flat_map(|item| &item.sightings).map(|(page, _)| *page).collect();
        self.pages.retain(|page, _| named.contains(page));
    }

    /// All possible keys of an item's stages.
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

    /// The DAG of a known job.
    pub(super) fn dag(&self, job: i64) -> Dag {
        let mut dag = Dag::default();
        self.stages_of(job).into_iter().for_each(|(id, stage)| dag.add(id.bit(), stage.needs, stage.outputs));
        dag
    }

    /// An item in the form that rules get.
    pub(super) fn item(&self, id: i64) -> rules::Item {
        let Item { job, priority, cancelled_at, .. } = &self.items[&id];
        let (priority, cancelled) = (i64::from(*priority), cancelled_at.is_some());
        rules::Item { id: ItemId(id), job: JobId(*job), masks: self.masks(id), priority, cancelled }
    }

    pub(super) fn status(&self, id: i64) -> ItemStatus {
        self.item(id).status(&self.dag(self.items[&id].job))
    }

    /// Writes the change of an item.
    pub(super) fn apply(&mut self, change: &Change, now: Timestamp, operation: Option<i64>) {
        for bit in Bits(change.skipped) {
            let key = change.after.key(bit).0;
            let skipped = Settled {
                state: State::Skipped,
                stale: false,
                reason: None,
                counters: Counters::default(),
                settled_at: now,
                last_attempt: self.results.get(&key).and_then(|old| old.last_attempt),
                version: None,
                input_hash: None,
                output_hash: None,
                output: None,
                error: Some(SKIPPED_ALONG.to_owned()),
            };
            self.results.insert(key, skipped);
        }
        for Ready { key, stage, claim_key, chained } in change.ready(now) {
            let queued = Queued {
                state: State::Ready,
                stage: stage.0,
                claim_key,
                due_at: now,
                first_due_at: None,
                counters: Counters::default(),
                last_attempt: self.results.get(&key.0).and_then(|old| old.last_attempt).filter(|_| chained),
                operation,
                fence: None,
                superseded: false,
            };
            assert!(self.queue.insert(key.0, queued).is_none(), "a stage is enqueued once");
        }
        for key in Bits(change.renewed).map(|bit| change.after.key(bit).0) {
            match self.results.get_mut(&key).filter(|result| result.output.is_some()) {
                Some(result) => (result.state, result.reason, result.error) = (State::Done, None, None),
                None => drop(self.results.remove(&key)),
            }
        }
        for bit in Bits(change.superseded) {
            let row = self.queue.get_mut(&change.after.key(bit).0);
            if let Some(row) = row.filter(|row| row.state == State::Leased) {
                row.superseded = true;
            }
        }
        for key in Self::keys(change.after.id.0) {
            if let Some(result) = self.results.get_mut(&key) {
                result.stale = change.after.masks.stale & StageKey(key).bit().mask() != 0;
            }
        }
    }

    /// Compares the masks that a rule computed with the rows that were written.
    pub(super) fn expect(&self, change: &Change) {
        assert_eq!(self.masks(change.after.id.0), change.after.masks, "masks and rows agree after {change:?}");
    }

    pub(super) fn note(&mut self, at: Timestamp, event: &Event<'_>) {
        let id = self.events.last().map_or(1, |event| event.id + 1);
        let Event { kind, job, item, operation, data } = event.clone();
        self.events.push(EventRow { id, at, kind: kind.to_owned(), job, item, operation, data });
    }
}
