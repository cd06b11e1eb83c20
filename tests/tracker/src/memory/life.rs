//! Data grows old, and what can be computed is made anew.

use gristmill_model::{Expiring, ItemStatus, StageId, StageKey, State, Timestamp};
use serde_json::json;

use super::facts::World;
use gristmill_tracker::records::{Difference, Examination, Expired, ExpiredPage, Prune};
use gristmill_tracker::rules::events;

/// What is known of a row that may be old enough.
enum Age {
    /// Of another job, or still in use.
    PassedOver,
    TooYoung,
    Old,
}

impl World {
    pub(super) fn expired(&self, expired: &Expired) -> ExpiredPage {
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
            match self.age(expired.what, expired.job.0, expired.before, number) {
                Age::Old => {
                    page.numbers.push(number);
                    page.rows.push(json!({ "id": number }).to_string());
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

    fn age(&self, what: Expiring, job: i64, before: Timestamp, number: i64) -> Age {
        let of_job = |stage: i64| StageId(stage).job().0 == job;
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
                (event.job.is_none_or(|of| of.0 == job) && !newest, event.at)
            }
            Expiring::Items => {
                let newest = self.items.keys().next_back() == Some(&number);
                let item = &self.items[&number];
                let live = Self::keys(number).any(|key| self.queue.contains_key(&key));
                let settled = Self::keys(number).filter_map(|key| self.results.get(&key));
                let last = settled.map(|result| result.settled_at).max().unwrap_or(item.discovered_at);
                let finished = matches!(self.status(number), ItemStatus::Done | ItemStatus::Cancelled) && !live;
                (item.job == job && finished && !newest, item.cancelled_at.unwrap_or(last))
            }
            Expiring::Results => {
                let key = StageKey(number);
                let stage = StageId::new(gristmill_model::JobId(self.items[&key.item().0].job), key.bit());
                let retired = self.stages[&stage.0].retired_at.is_some();
                (of_job(stage.0) && retired, self.results[&number].settled_at)
            }
        };
        match (at < before, mine) {
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
                || !matches!(self.age(prune.what, prune.job.0, prune.before, *number), Age::Old)
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

    pub(super) fn rebuild(&mut self, now: Timestamp) {
        self.queue.clear();
        self.leases.clear();
        for job in self.jobs.values_mut() {
            job.reconciled = Some(0);
        }
        self.note(now, &events::rebuilt());
    }

    /// The model keeps next to nothing twice, so that little can differ. What is left is what no backend may do.
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
            // Each job's attempts go by themselves, the oldest first.
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
