//! Work of the model: claimed, settled, given back, reaped and cancelled.

use std::collections::HashMap;
use std::time::Duration;

use gristmill_model::{Bits, DeadReason, Disposition, Fence, HostId, ItemId, StageId, StageKey, State, Timestamp};

use super::facts::{Attempt, Cost, Lease as LeaseRow, Queued, Settled, World, next};
use gristmill_tracker::Error;
use gristmill_tracker::records::{
    Cancel, Cancelled, Claim, ClaimRequest, Completion, Lease, Lost, Output, Reap, Release, Round, RoundDone, Upstream,
};
use gristmill_tracker::rules::item::day;
use gristmill_tracker::rules::lose::lose;
use gristmill_tracker::rules::settle::{self, Next, Standing};
use gristmill_tracker::rules::{Rows, Taken, cancel, events};

type Specs = HashMap<i64, i64>;

impl World {
    pub(super) fn round(&mut self, round: &Round, specs: &Specs) -> Result<RoundDone, Error> {
        let mut done = RoundDone::default();
        for settlement in &round.settlements {
            for completion in &settlement.completions {
                // As a database does.
                if completion.charges.iter().any(|(_, amount)| amount.is_nan()) {
                    return Err(Error::Sql("a charge is no number".to_owned()));
                }
                let Some(taken) = self.take(completion.key.0, settlement.fence) else {
                    done.late += 1;
                    continue;
                };
                let id = self.store_attempt(completion, &taken, round.host.0, Some(completion.started_at), specs);
                done.released += self.settle(round.now, completion, id, &taken);
                done.applied += 1;
            }
        }
        for request in &round.claims {
            self.known_job(request.stage.job().0)?;
            if self.claim(round, request, &mut done.leases) {
                done.drained.push(request.stage);
            }
        }
        Ok(done)
    }

    /// Takes a leased stage out of the queue; none if it has another fence by now.
    fn take(&mut self, key: i64, fence: Fence) -> Option<Taken> {
        self.queue.get(&key).filter(|queued| queued.fence == Some(fence.0))?;
        let Queued { stage, due_at, first_due_at, counters, last_attempt, operation, superseded, .. } =
            self.queue.remove(&key)?;
        let first_due_at = first_due_at.unwrap_or(due_at).0;
        let (key, stage, due_at) = (StageKey(key), StageId(stage), due_at.0);
        Some(Taken { key, fence, stage, due_at, first_due_at, counters, last_attempt, operation, superseded })
    }

    fn store_attempt(
        &mut self,
        completion: &Completion,
        taken: &Taken,
        host: i64,
        started_at: Option<Timestamp>,
        specs: &Specs,
    ) -> i64 {
        let id = next(&self.attempts);
        for (meter, amount) in &completion.charges {
            let cost = Cost { attempt: id, meter: meter.clone(), amount: *amount };
            self.costs.insert(next(&self.costs), cost);
            let day = day(completion.ended_at);
            let rollup = self.rollups.entry((taken.stage.0, meter.clone(), day)).or_default();
            *rollup = (rollup.0 + amount, rollup.1 + 1);
        }
        let ran = started_at.is_some();
        let attempt = Attempt {
            key: taken.key.0,
            stage: taken.stage.0,
            prev: taken.last_attempt,
            outcome: completion.outcome,
            host,
            fence: taken.fence.0,
            queued_at: Timestamp(taken.due_at),
            started_at,
            ended_at: completion.ended_at,
            version: ran.then_some(completion.version.0),
            memory_bytes_max: ran.then_some(completion.memory_bytes_max as i64),
            input_hash: ran.then_some(completion.input_hash),
            spec: specs.get(&taken.stage.job().0).copied(),
            operation: taken.operation,
            error: completion.error.clone(),
            log: completion.log.clone(),
        };
        self.attempts.insert(id, attempt);
        id
    }

    /// Settles an attempt whose queue row was taken out.
    fn settle(&mut self, now: Timestamp, completion: &Completion, attempt: i64, taken: &Taken) -> u64 {
        let key = completion.key.0;
        // The row that was taken out made its stage live.
        let mut item = self.item(completion.key.item().0);
        item.masks.live |= completion.key.bit().mask();
        let old = self.results.get(&key).cloned();
        let standing = old.as_ref().filter(|old| old.output.is_some());
        let standing = standing.map(|old| Standing { version: old.version, output_hash: old.output_hash });
        let dag = self.dag(item.job.0);
        let left = self.leave_queue(item.id.0, settle::leaves(&dag, &item, taken, completion));
        let settled = settle::settle(&dag, item, taken, completion, standing, left, now);
        let counters = settled.counters;
        match settled.next {
            Next::Nothing => {}
            Next::Wait { due_at, claim_key } => {
                let waiting = Queued {
                    state: State::Waiting,
                    stage: taken.stage.0,
                    claim_key,
                    due_at: Timestamp(due_at),
                    first_due_at: Some(Timestamp(taken.first_due_at)),
                    counters,
                    last_attempt: Some(attempt),
                    operation: taken.operation,
                    fence: None,
                    superseded: false,
                };
                self.queue.insert(key, waiting);
            }
            Next::Outcome { state, reason } => {
                let output = completion.output.as_ref();
                let mut result = Settled {
                    state,
                    stale: false,
                    reason,
                    counters,
                    settled_at: now,
                    last_attempt: Some(attempt),
                    version: Some(completion.version.0),
                    input_hash: Some(completion.input_hash),
                    output_hash: output.map(|output| output.hash),
                    output: output.map(|output| output.text.clone()),
                    error: completion.error.clone(),
                };
                if state == State::Dead {
                    // An older result stays readable.
                    let old = old.as_ref();
                    result.version = old.and_then(|old| old.version);
                    result.input_hash = old.and_then(|old| old.input_hash);
                    result.output_hash = old.and_then(|old| old.output_hash);
                    result.output = old.and_then(|old| old.output.clone());
                }
                self.results.insert(key, result);
            }
        }
        self.apply(&settled.change, now, None);
        self.expect(&settled.change);
        if completion.disposition == Disposition::Dead(DeadReason::Damaged) {
            self.note(now, &events::stage_damaged(taken.key, taken.stage, completion.error.as_deref()));
        }
        settled.change.entered.ready.count_ones().into()
    }

    /// Returns whether fewer stages were ready than requested.
    fn claim(&mut self, round: &Round, request: &ClaimRequest, leases: &mut Vec<Lease>) -> bool {
        let (mut claimed, mut bytes) = (0, 0);
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
            let got = ready.len();
            ready.retain(|(_, key)| {
                let fits = bytes < request.bytes || claimed == 0;
                if fits {
                    bytes += self.show(*key, &self.queue[key]).bytes();
                    claimed += 1;
                }
                fits
            });
            let (suspects, others): (Vec<i64>, Vec<i64>) =
                ready.iter().map(|(_, key)| *key).partition(|key| self.queue[key].counters.lost > 0);
            // A stage that was lost before may have crashed its host, so it gets its own lease.
            let alone = suspects.into_iter().map(|key| vec![key]);
            for members in std::iter::once(others).filter(|others| !others.is_empty()).chain(alone) {
                leases.push(self.lease(round, request, members));
            }
            if ready.len() < got {
                return false;
            }
            if got < wanted as usize {
                return true;
            }
        }
        false
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
        self.leases.insert(fence, LeaseRow { host: round.host.0, members });
        Lease { fence: Fence(fence), stage: request.stage, claims }
    }

    fn show(&self, key: i64, queued: &Queued) -> Claim {
        let key = StageKey(key);
        let item = &self.items[&key.item().0];
        let upstream = Bits(self.stages[&queued.stage].needs).filter_map(|bit| {
            let need = StageKey::new(key.item(), bit);
            let result = self.results.get(&need.0).filter(|result| result.state == State::Done)?;
            let output = Output { text: result.output.clone()?, hash: result.output_hash? };
            Some(Upstream { bit, output })
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
            damage: None,
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
                let held = |queued: &&mut Queued| queued.fence == Some(fence.0);
                let item = self.items.contains_key(&key.item().0).then(|| self.item(key.item().0));
                let change = item.and_then(|item| cancel::give_up(&self.dag(item.job.0), item, key.bit()));
                let Some(queued) = self.queue.get_mut(&key.0).filter(held) else { continue };
                released += 1;
                (queued.state, queued.fence, queued.superseded) = (State::Ready, None, false);
                if let Some(change) = change {
                    self.queue.remove(&key.0);
                    self.expect(&change);
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
            .filter(|(fence, lease)| !self.held(**fence).is_empty() && vanished(lease))
            .map(|(fence, _)| *fence)
            .take(reap.leases_max as usize)
            .collect();
        for fence in overdue {
            lost.leases += 1;
            for key in self.held(fence) {
                let taken = self.take(key, Fence(fence)).expect("it is held");
                let completion = lose(&taken, reap, reap.now);
                let id = self.store_attempt(&completion, &taken, self.leases[&fence].host, None, specs);
                self.settle(reap.now, &completion, id, &taken);
                lost.count(&completion);
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
                self.note(reap.now, &events::host_lost(HostId(host)));
            }
        }
        lost
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

    pub(super) fn shorten_waits(&mut self, longest: &HashMap<StageId, Duration>, now: Timestamp) -> u64 {
        let mut shortened = 0;
        for queued in self.queue.values_mut().filter(|queued| queued.state == State::Waiting) {
            let Some(latest) = longest.get(&StageId(queued.stage)).map(|longest| now + *longest) else { continue };
            if queued.due_at > latest {
                queued.claim_key -= queued.due_at.0 - latest.0;
                queued.due_at = latest;
                shortened += 1;
            }
        }
        shortened
    }

    pub(super) fn cancel(&mut self, cancel: &Cancel) -> Result<Cancelled, Error> {
        self.known_job(cancel.job.0)?;
        let mut done = Cancelled::default();
        for item_key in &cancel.keys {
            let Some(id) = self.find(cancel.job.0, item_key) else {
                done.unknown.push(item_key.clone());
                continue;
            };
            if self.items[&id].cancelled_at.is_some() != cancel.undo {
                continue;
            }
            let item = self.item(id);
            let change = if cancel.undo {
                cancel::restore(&self.dag(cancel.job.0), item)
            } else {
                let left = self.leave_queue(id, item.masks.live);
                cancel::cancel(item, left)
            };
            let row = self.items.get_mut(&id).expect("the item");
            row.cancelled_at = change.after.cancelled.then_some(cancel.now);
            self.apply(&change, cancel.now, None);
            self.expect(&change);
            self.note(cancel.now, &events::cancelled(ItemId(id), item_key, cancel));
            done.count(&change.after);
        }
        Ok(done)
    }

    /// Takes these stages of an item out of the queue, except leased ones. Returns the rows that it took.
    pub(super) fn leave_queue(&mut self, item: i64, stages: u64) -> Rows {
        let mut left = Rows::default();
        for bit in Bits(stages) {
            let key = StageKey::new(ItemId(item), bit).0;
            if self.queue.get(&key).is_some_and(|row| row.state != State::Leased) {
                left.add(self.queue.remove(&key).map(|row| row.state), bit.mask());
            }
        }
        left
    }
}
