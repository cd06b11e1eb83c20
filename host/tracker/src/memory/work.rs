//! Work is claimed, settled, given back, taken away and cancelled.

use std::collections::HashMap;

use gristmill_model::{
    DeadReason, Digest, Disposition, Fence, Outcome, StageBit, StageId, StageKey, State, Timestamp, VersionId,
    decide_lost,
};
use serde_json::json;

use super::facts::{Attempt, Cost, Lease as LeaseRow, Queued, Settled, World, claim_key, next};
use crate::Error;
use crate::records::{
    Cancel, Cancelled, Claim, ClaimRequest, Completion, Lease, Lost, Output, Reap, Release, Round, RoundDone, Upstream,
};

type Specs = HashMap<i64, i64>;

impl World {
    pub(super) fn round(&mut self, round: &Round, specs: &Specs) -> Result<RoundDone, Error> {
        let mut done = RoundDone::default();
        for settlement in &round.settlements {
            for completion in &settlement.completions {
                let Some(taken) = self.take(completion.key.0, settlement.fence) else {
                    done.late += 1;
                    continue;
                };
                let attempt = Attempt {
                    key: completion.key.0,
                    stage: taken.stage,
                    prev: taken.last_attempt,
                    outcome: completion.outcome,
                    host: round.host.0,
                    fence: settlement.fence.0,
                    queued_at: taken.due_at,
                    started_at: Some(completion.started_at),
                    ended_at: completion.ended_at,
                    version: Some(completion.version.0),
                    memory_bytes_max: Some(completion.memory_bytes_max as i64),
                    input_hash: Some(completion.input_hash),
                    spec: specs.get(&StageId(taken.stage).job().0).copied(),
                    operation: taken.operation,
                    error: completion.error.clone(),
                    log: completion.log.clone(),
                };
                let id = self.store_attempt(attempt, &completion.charges);
                done.released += self.settle(round.now, completion, id, &taken);
                done.applied += 1;
            }
        }
        for request in &round.claims {
            self.known_job(request.stage.job().0)?;
            if self.claim(round, request, &mut done.leases) < request.limit {
                done.drained.push(request.stage);
            }
        }
        Ok(done)
    }

    fn take(&mut self, key: i64, fence: Fence) -> Option<Queued> {
        self.queue.get(&key).filter(|queued| queued.fence == Some(fence.0))?;
        self.queue.remove(&key)
    }

    fn store_attempt(&mut self, attempt: Attempt, charges: &[(String, f64)]) -> i64 {
        const MICROS_PER_DAY: i64 = 86_400_000_000;
        let id = next(&self.attempts);
        for (meter, amount) in charges {
            let cost = Cost { attempt: id, meter: meter.clone(), amount: *amount };
            self.costs.insert(next(&self.costs), cost);
            let day = attempt.ended_at.0 / MICROS_PER_DAY;
            let rollup = self.rollups.entry((attempt.stage, meter.clone(), day)).or_default();
            *rollup = (rollup.0 + amount, rollup.1 + 1);
        }
        self.attempts.insert(id, attempt);
        id
    }

    /// Does what an attempt leads to. Its queue row was taken out.
    fn settle(&mut self, now: Timestamp, completion: &Completion, attempt: i64, taken: &Queued) -> u64 {
        let key = completion.key.0;
        let item = completion.key.item().0;
        let counters = taken.counters.after(completion.outcome);
        let old = self.results.get(&key).cloned();
        let mut result = Settled {
            state: State::Done,
            stale: false,
            reason: None,
            counters,
            settled_at: now,
            last_attempt: Some(attempt),
            version: Some(completion.version.0),
            input_hash: Some(completion.input_hash),
            output_hash: completion.output.as_ref().map(|output| output.hash),
            output: completion.output.as_ref().map(|output| output.text.clone()),
            error: completion.error.clone(),
        };
        match completion.disposition {
            Disposition::Wait(delay) => {
                if self.items[&item].cancelled_at.is_none() {
                    let due_at = now + delay;
                    let waiting = Queued {
                        state: State::Waiting,
                        claim_key: claim_key(due_at, self.items[&item].priority),
                        due_at,
                        first_due_at: taken.first_due_at.or(Some(taken.due_at)),
                        counters,
                        last_attempt: Some(attempt),
                        fence: None,
                        ..taken.clone()
                    };
                    self.queue.insert(key, waiting);
                }
                return 0;
            }
            Disposition::Done => {}
            Disposition::Skipped => result.state = State::Skipped,
            Disposition::Dead(reason) => {
                (result.state, result.reason) = (State::Dead, Some(reason));
                // An older result stays readable.
                result.version = old.as_ref().and_then(|old| old.version);
                result.input_hash = old.as_ref().and_then(|old| old.input_hash);
                result.output_hash = old.as_ref().and_then(|old| old.output_hash);
                result.output = old.as_ref().and_then(|old| old.output.clone());
            }
        }
        let was = old.filter(|old| old.state != State::Dead);
        let same = |old: &Settled| old.state == result.state && old.output_hash == result.output_hash;
        let changed = result.state != State::Dead && was.is_some_and(|old| !same(&old));
        self.results.insert(key, result);
        if changed {
            self.mark_dependents_stale(key);
        }
        self.skip_along(item, now);
        self.release_runnable(item, now)
    }

    fn claim(&mut self, round: &Round, request: &ClaimRequest, leases: &mut Vec<Lease>) -> u32 {
        let mut claimed = 0;
        while claimed < request.limit {
            let wanted = request.chunk.max(1).min(request.limit - claimed);
            let mut ready: Vec<(i64, i64)> = self
                .queue
                .iter()
                .filter(|(_, queued)| queued.state == State::Ready && queued.stage == request.stage.0)
                .map(|(key, queued)| (queued.claim_key, *key))
                .collect();
            ready.sort_unstable();
            ready.truncate(wanted as usize);
            claimed += ready.len() as u32;
            let (suspects, others): (Vec<i64>, Vec<i64>) =
                ready.iter().map(|(_, key)| *key).partition(|key| self.queue[key].counters.lost > 0);
            // Who was lost before may have taken its host along: it goes alone.
            let alone = suspects.into_iter().map(|key| vec![key]);
            for members in std::iter::once(others).filter(|others| !others.is_empty()).chain(alone) {
                leases.push(self.lease(round, request, members));
            }
            if ready.len() < wanted as usize {
                break;
            }
        }
        claimed
    }

    fn lease(&mut self, round: &Round, request: &ClaimRequest, members: Vec<i64>) -> Lease {
        self.last_fence += 1;
        let fence = self.last_fence;
        let mut claims = Vec::new();
        for key in &members {
            let queued = self.queue.get_mut(key).expect("a ready stage");
            (queued.state, queued.fence) = (State::Leased, Some(fence));
            let queued = queued.clone();
            claims.push(self.show(*key, &queued));
        }
        let deadline = round.now + request.lease;
        self.leases.insert(fence, LeaseRow { host: round.host.0, deadline, members });
        Lease { fence: Fence(fence), stage: request.stage, claims }
    }

    fn show(&self, key: i64, queued: &Queued) -> Claim {
        let key = StageKey(key);
        let item = &self.items[&key.item().0];
        let mut needs = self.stages[&queued.stage].needs.clone();
        needs.sort_unstable();
        needs.dedup();
        let upstream = needs.into_iter().filter_map(|bit| {
            let result = self.results.get(&(key.item().0 << 6 | bit)).filter(|result| result.state == State::Done)?;
            let output = Output { text: result.output.clone()?, hash: result.output_hash? };
            Some(Upstream { bit: StageBit(bit as u8), output })
        });
        Claim {
            key,
            counters: queued.counters,
            ready_at: queued.due_at,
            first_ready_at: queued.first_due_at.unwrap_or(queued.due_at),
            item_key: item.key.clone(),
            data: item.data.clone(),
            data_hash: item.data_hash,
            discovered_at: item.discovered_at,
            upstream: upstream.collect(),
        }
    }

    /// The members of a lease that are still held under its fence.
    pub(super) fn held(&self, fence: i64) -> Vec<i64> {
        let members = self.leases.get(&fence).map(|lease| lease.members.clone()).unwrap_or_default();
        members.into_iter().filter(|key| self.queue.get(key).is_some_and(|row| row.fence == Some(fence))).collect()
    }

    pub(super) fn release(&mut self, releases: &[Release]) -> u64 {
        let mut released = 0;
        for Release { fence, keys } in releases {
            for key in keys {
                let Some(mut queued) = self.take(key.0, *fence) else { continue };
                released += 1;
                if self.items[&key.item().0].cancelled_at.is_none() {
                    (queued.state, queued.fence) = (State::Ready, None);
                    self.queue.insert(key.0, queued);
                }
            }
        }
        released
    }

    pub(super) fn reap(&mut self, reap: &Reap, specs: &Specs) -> Lost {
        let mut lost = Lost::default();
        let vanished = |lease: &LeaseRow| {
            lease.host != reap.host.0 && self.hosts[&lease.host].heartbeat_at < reap.heartbeat_before
        };
        let overdue: Vec<i64> = self
            .leases
            .iter()
            .filter(|(fence, lease)| !self.held(**fence).is_empty() && (vanished(lease) || lease.deadline < reap.now))
            .map(|(fence, _)| *fence)
            .take(reap.leases_max as usize)
            .collect();
        for fence in overdue {
            lost.leases += 1;
            for key in self.held(fence) {
                let taken = self.take(key, Fence(fence)).expect("it is held");
                lost.attempts += 1;
                lost.dead += u64::from(self.lose(key, fence, &taken, reap, specs));
            }
        }
        if lost.leases < u64::from(reap.leases_max) {
            let gone: Vec<i64> = self
                .hosts
                .iter()
                .filter(|(id, host)| {
                    **id != reap.host.0 && host.ended_at.is_none() && host.heartbeat_at < reap.heartbeat_before
                })
                .map(|(id, _)| *id)
                .collect();
            for host in gone {
                self.hosts.get_mut(&host).expect("a host").ended_at = Some(reap.now);
                self.event(reap.now, "host.lost", None, None, None, &json!({ "host": host }));
            }
        }
        lost
    }

    /// Charges a lost attempt. Returns whether that was one too many.
    fn lose(&mut self, key: i64, fence: i64, taken: &Queued, reap: &Reap, specs: &Specs) -> bool {
        let stage = StageId(taken.stage);
        let mut policy = reap.policies.get(&stage).copied().unwrap_or_default();
        if !reap.policies.contains_key(&stage) {
            policy.max_lost = u32::MAX;
        }
        let disposition = decide_lost(taken.counters, &policy, StageKey(key));
        let error = Some("its host vanished".to_owned());
        let attempt = Attempt {
            key,
            stage: stage.0,
            prev: taken.last_attempt,
            outcome: Outcome::Lost,
            host: self.leases[&fence].host,
            fence,
            queued_at: taken.due_at,
            started_at: None,
            ended_at: reap.now,
            version: None,
            memory_bytes_max: None,
            input_hash: None,
            spec: specs.get(&stage.job().0).copied(),
            operation: taken.operation,
            error: error.clone(),
            log: None,
        };
        let id = self.store_attempt(attempt, &[]);
        let completion = Completion {
            key: StageKey(key),
            version: VersionId(0),
            outcome: Outcome::Lost,
            disposition,
            output: None,
            input_hash: Digest([0; 32]),
            error,
            log: None,
            ready_at: reap.now,
            started_at: reap.now,
            ended_at: reap.now,
            memory_bytes_max: 0,
            charges: Vec::new(),
        };
        self.settle(reap.now, &completion, id, taken);
        disposition == Disposition::Dead(DeadReason::Poison)
    }

    pub(super) fn promote(&mut self, now: Timestamp, limit: u32) -> u64 {
        let mut due: Vec<(Timestamp, i64)> = self
            .queue
            .iter()
            .filter(|(_, queued)| queued.state == State::Waiting && queued.due_at <= now)
            .map(|(key, queued)| (queued.due_at, *key))
            .collect();
        due.sort_unstable();
        due.truncate(limit as usize);
        for (_, key) in &due {
            self.queue.get_mut(key).expect("a waiting stage").state = State::Ready;
        }
        due.len() as u64
    }

    pub(super) fn cancel(&mut self, cancel: &Cancel) -> Result<Cancelled, Error> {
        self.known_job(cancel.job.0)?;
        let mut done = Cancelled::default();
        for item_key in &cancel.keys {
            let Some(item) = self.find(cancel.job.0, item_key) else {
                done.unknown.push(item_key.clone());
                continue;
            };
            let row = self.items.get_mut(&item).expect("the item");
            if row.cancelled_at.is_some() != cancel.undo {
                continue;
            }
            row.cancelled_at = (!cancel.undo).then_some(cancel.now);
            done.changed += 1;
            if cancel.undo {
                self.release_runnable(item, cancel.now);
            } else {
                for key in Self::keys(item) {
                    match self.queue.get(&key).map(|queued| queued.state) {
                        Some(State::Leased) => done.running += 1,
                        Some(_) => drop(self.queue.remove(&key)),
                        None => {}
                    }
                }
            }
            let kind = if cancel.undo { "item.restored" } else { "item.cancelled" };
            let data = json!({ "item": item_key, "actor": cancel.actor, "why": cancel.why });
            self.event(cancel.now, kind, Some(cancel.job.0), Some(item), None, &data);
        }
        Ok(done)
    }
}
