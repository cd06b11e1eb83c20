//! Retention, examining and rebuilding of the model.

use std::collections::BTreeSet;

use gristmill_model::{DeadReason, Digest, Expiring, ItemStatus, JobId, StageId, StageKey, State, Timestamp};

use super::facts::{Cost, Version, World};
use gristmill_tracker::records::{
    AttemptCharge, Difference, Examination, Expired, ExpiredAttempt, ExpiredCharge, ExpiredEvent, ExpiredItem,
    ExpiredOutcome, ExpiredPage, ExpiredResult, ExpiredRow, ExpiredSighting, Prune, Sighting, Swept,
};
use gristmill_tracker::rules::{self, events};

/// Whether a row is old enough to delete.
enum Age {
    /// It belongs to another job, or is still in use.
    PassedOver,
    TooYoung,
    Old,
}

impl World {
    pub(super) fn expired(&self, expired: &Expired) -> ExpiredPage {
        if expired.job.is_none() && expired.what != Expiring::Events {
            return ExpiredPage::default();
        }
        let numbers: Vec<i64> = match expired.what {
            Expiring::Attempts => self.attempts.keys().copied().collect(),
            Expiring::Costs => self.costs.keys().copied().collect(),
            Expiring::Events => self.events.iter().map(|event| event.id).collect(),
            Expiring::Items => self.items.keys().copied().collect(),
            Expiring::Results => self.results.keys().copied().collect(),
        };
        let in_order_of_age = matches!(expired.what, Expiring::Attempts | Expiring::Costs | Expiring::Events);
        let mut page = ExpiredPage::default();
        let behind = numbers.into_iter().filter(|number| *number > expired.after);
        for (looked_at, number) in (0..).zip(behind) {
            if looked_at == expired.limit {
                return page;
            }
            match self.age(expired.what, expired.job, (expired.before, expired.now), number) {
                Age::Old => {
                    page.numbers.push(number);
                    page.rows.push(self.expired_row(expired.what, number));
                }
                Age::TooYoung if in_order_of_age => {
                    page.next = None;
                    return page;
                }
                Age::TooYoung | Age::PassedOver => {}
            }
            page.next = Some(number);
        }
        page.next = None;
        page
    }

    /// The content of a row, with the rows that belong to it.
    fn expired_row(&self, what: Expiring, number: i64) -> ExpiredRow {
        let time = |at: Option<Timestamp>| at.map(|at| at.0);
        match what {
            Expiring::Attempts => {
                let row = self.attempts[&number].clone();
                let charges = self.costs.values().filter(|cost| cost.attempt == number);
                ExpiredRow::Attempt(Box::new(ExpiredAttempt {
                    id: number,
                    key: row.key,
                    stage_id: row.stage,
                    prev: row.prev,
                    outcome: row.outcome.code(),
                    host_id: row.host,
                    fence: row.fence,
                    queued_at: row.queued_at.0,
                    started_at: time(row.started_at),
                    ended_at: row.ended_at.0,
                    version_id: row.version,
                    memory_bytes_max: row.memory_bytes_max,
                    input_hash: row.input_hash,
                    spec: row.spec,
                    operation_id: row.operation,
                    error: row.error,
                    log: row.log,
                    charges: charges
                        .map(|cost| AttemptCharge { meter: cost.meter.clone(), amount: cost.amount })
                        .collect(),
                }))
            }
            Expiring::Costs => {
                let Cost { attempt: attempt_id, meter, amount } = self.costs[&number].clone();
                let attempt = &self.attempts[&attempt_id];
                let (stage_id, key) = (Some(attempt.stage), Some(attempt.key));
                let ended_at = Some(attempt.ended_at.0);
                ExpiredRow::Charge(ExpiredCharge { id: number, attempt_id, stage_id, key, ended_at, meter, amount })
            }
            Expiring::Events => {
                let event = self.events.iter().find(|event| event.id == number).expect("an event").clone();
                ExpiredRow::Event(ExpiredEvent {
                    id: number,
                    at: event.at.0,
                    kind: event.kind,
                    job_id: event.job.map(|id| id.0),
                    item_id: event.item.map(|id| id.0),
                    operation_id: event.operation.map(|id| id.0),
                    data: event.data,
                })
            }
            Expiring::Items => ExpiredRow::Item(Box::new(self.expired_item(number))),
            Expiring::Results => {
                let item = &self.items[&StageKey(number).item().0];
                let stage = self.stages[&self.stage_of(number)].name.clone();
                let (job_id, item) = (item.job, item.key.clone());
                ExpiredRow::Result(Box::new(ExpiredResult {
                    job_id,
                    item,
                    stage,
                    outcome: self.expired_outcome(number),
                }))
            }
        }
    }

    fn expired_item(&self, number: i64) -> ExpiredItem {
        let (item, masks) = (self.items[&number].clone(), self.masks(number));
        let outcomes = Self::keys(number).filter(|key| self.results.contains_key(key));
        let seen = self.sightings(&item).into_iter().rev();
        ExpiredItem {
            id: number,
            job_id: item.job,
            key: item.key,
            done: masks.done as i64,
            skipped: masks.skipped as i64,
            dead: masks.dead as i64,
            live: masks.live as i64,
            stale: masks.stale as i64,
            priority: item.priority.into(),
            cancelled_at: item.cancelled_at.map(|at| at.0),
            discovered_at: item.discovered_at.0,
            changed_at: item.changed_at.0,
            data_hash: item.data_hash,
            seen_hash: item.seen_hash,
            data: item.data,
            stages: outcomes.map(|key| self.expired_outcome(key)).collect(),
            sightings: seen
                .map(|Sighting { source, cursor, at, data_hash }| ExpiredSighting {
                    item_id: number,
                    data_hash,
                    at: at.0,
                    source,
                    cursor,
                })
                .collect(),
        }
    }

    fn expired_outcome(&self, key: i64) -> ExpiredOutcome {
        let row = self.results[&key].clone();
        ExpiredOutcome {
            key,
            state: row.state.code(),
            reason: row.reason.map(DeadReason::code),
            attempts: row.counters.attempts.into(),
            lost: row.counters.lost.into(),
            deferrals: row.counters.deferrals.into(),
            settled_at: row.settled_at.0,
            last_attempt: row.last_attempt,
            version_id: row.version,
            input_hash: row.input_hash,
            output_hash: row.output_hash,
            output: row.output,
            error: row.error,
        }
    }

    fn age(&self, what: Expiring, job: Option<JobId>, (before, now): (Timestamp, Timestamp), number: i64) -> Age {
        let of_job = |stage: i64| Some(StageId(stage).job()) == job;
        let (mine, at) = match what {
            Expiring::Attempts => {
                let attempt = &self.attempts[&number];
                let newest = self.attempts.keys().next_back() == Some(&number);
                (of_job(attempt.stage) && !newest, attempt.ended_at)
            }
            Expiring::Costs => {
                let attempt = &self.attempts[&self.costs[&number].attempt];
                (of_job(attempt.stage), attempt.ended_at)
            }
            Expiring::Events => {
                let newest = self.events.last().is_some_and(|event| event.id == number);
                let event = self.events.iter().find(|event| event.id == number).expect("an event");
                (event.job == job && !newest, event.at)
            }
            Expiring::Items => {
                let newest = self.items.keys().next_back() == Some(&number);
                let item = &self.items[&number];
                let live = Self::keys(number).any(|key| self.queue.contains_key(&key));
                let settled = Self::keys(number).filter_map(|key| self.results.get(&key));
                let last = settled.map(|result| result.settled_at).max().unwrap_or(item.discovered_at);
                let finished = matches!(self.status(number), ItemStatus::Done | ItemStatus::Cancelled) && !live;
                (Some(JobId(item.job)) == job && finished && !newest, item.cancelled_at.unwrap_or(last))
            }
            Expiring::Results => {
                let key = StageKey(number);
                let stage = StageId::new(JobId(self.items[&key.item().0].job), key.bit());
                let retired = self.stages[&stage.0].retired_at.is_some();
                (of_job(stage.0) && retired, self.results[&number].settled_at)
            }
        };
        match (at < before, mine) {
            // A clock that was ahead recorded it.
            (false, _) if at > now => Age::PassedOver,
            (false, _) => Age::TooYoung,
            (true, false) => Age::PassedOver,
            (true, true) => Age::Old,
        }
    }

    fn has(&self, what: Expiring, number: i64) -> bool {
        match what {
            Expiring::Attempts => self.attempts.contains_key(&number),
            Expiring::Costs => self.costs.contains_key(&number),
            Expiring::Events => self.events.iter().any(|event| event.id == number),
            Expiring::Items => self.items.contains_key(&number),
            Expiring::Results => self.results.contains_key(&number),
        }
    }

    pub(super) fn prune(&mut self, prune: &Prune) -> u64 {
        let mut gone = 0;
        for number in &prune.numbers {
            if !self.has(prune.what, *number)
                || !matches!(self.age(prune.what, prune.job, (prune.before, Timestamp(i64::MAX)), *number), Age::Old)
            {
                continue;
            }
            gone += 1;
            match prune.what {
                Expiring::Attempts => {
                    self.attempts.remove(number);
                    self.costs.retain(|_, cost| cost.attempt != *number);
                }
                Expiring::Costs => drop(self.costs.remove(number)),
                Expiring::Events => self.events.retain(|event| event.id != *number),
                Expiring::Items => {
                    self.items.remove(number);
                    self.results.retain(|key, _| StageKey(*key).item().0 != *number);
                    self.forget_pages();
                }
                Expiring::Results => drop(self.results.remove(number)),
            }
        }
        gone
    }

    pub(super) fn sweep_components(&mut self) -> Swept {
        let is_needed = |(id, version): &(&i64, &Version)| {
            let stage = self.stages.get(&version.stage);
            let is_current = stage.is_some_and(|stage| stage.retired_at.is_none() && stage.version == Some(**id));
            let mut outputs = self.results.values().filter(|row| row.output.is_some());
            let has_results = outputs.any(|row| row.version == Some(**id));
            let mut leased = self.queue.values().filter(|row| row.state == State::Leased);
            is_current || has_results || leased.any(|row| row.stage == version.stage)
        };
        let needed: BTreeSet<Digest> =
            self.versions.iter().filter(is_needed).map(|(_, version)| version.component).collect();
        let mut swept = Swept { looked: self.component_bytes.len() as u64, ..Swept::default() };
        let gone = self.component_bytes.extract_if(.., |hash, _| !needed.contains(hash));
        for (_, bytes) in gone {
            swept.removed += 1;
            swept.bytes += bytes.len() as u64;
        }
        swept
    }

    pub(super) fn rebuild(&mut self, now: Timestamp) {
        self.leases.clear();
        for (key, mut queued) in std::mem::take(&mut self.queue) {
            let (key, stage) = (StageKey(key), StageId(queued.stage));
            // Without its queue rows, none of its stages is live.
            let mut item = self.item(key.item().0);
            item.masks.live = 0;
            let dag = self.dag(item.job.0);
            if let Some(state) = rules::rebuild::kept(&dag, &item, key.bit(), stage, queued.state) {
                (queued.state, queued.fence, queued.superseded) = (state, None, false);
                self.queue.insert(key.0, queued);
            }
        }
        for job in self.jobs.values_mut() {
            job.reconciled = Some(0);
        }
        self.note(now, &events::rebuilt());
    }

    /// The model stores almost nothing twice, so little can differ. The rest is what no backend may do.
    pub(super) fn examine(&self) -> Examination {
        let mut differences = Vec::new();
        let mut differs = |kind, key: i64, found: &str| {
            let (place, found) = (key.to_string(), found.to_owned());
            differences.push(Difference { kind, place, found, expected: String::new() });
        };
        for (key, queued) in &self.queue {
            let result = self.results.get(key);
            if !self.items.contains_key(&StageKey(*key).item().0) {
                differs("queue row without item", *key, "");
            }
            if result.is_some_and(|result| !result.stale) {
                differs("queue row of a settled stage", *key, "");
            }
            if (queued.state == State::Leased) != queued.fence.is_some_and(|fence| self.held(fence).contains(key)) {
                differs("leased row without lease", *key, queued.state.name());
            }
        }
        for (key, result) in &self.results {
            if !self.items.contains_key(&StageKey(*key).item().0) {
                differs("result without item", *key, "");
                continue;
            }
            // Each job's attempts are deleted separately, the oldest first.
            let job = self.stage_of(*key) >> 6;
            let kept = self.attempts.iter().find(|(_, attempt)| attempt.stage >> 6 == job).map(|(id, _)| *id);
            let missing = |id: i64| kept.is_some_and(|kept| id >= kept) && !self.attempts.contains_key(&id);
            if result.last_attempt.is_some_and(missing) {
                differs("result without attempt", *key, "");
            }
        }
        let differences_total = differences.len() as u64;
        Examination { items: self.items.len() as u64, blobs: 0, differences, differences_total }
    }
}
