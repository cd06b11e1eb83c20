//! Dead stages, and the operations that redrive them.

use gristmill_model::{ItemId, JobId, OperationId, StageId, StageKey, State, Timestamp};
use serde_json::json;

use super::facts::{Operation, World, next};
use crate::records::{DeadFilter, DeadRow, OperationRow, OperationState, Redrive};
use crate::{Error, filter};

impl World {
    /// All dead stages that a filter means, by key.
    pub(super) fn dead(&self, filter: &DeadFilter) -> Vec<DeadRow> {
        let mut rows = Vec::new();
        for (key, result) in self.results.iter().filter(|(_, result)| result.state == State::Dead) {
            let key = StageKey(*key);
            let item = &self.items[&key.item().0];
            let stage = StageId::new(JobId(item.job), key.bit());
            let error = result.error.as_deref().unwrap_or_default();
            let meant = item.job == filter.job.0
                && filter.stage.is_none_or(|wanted| wanted == stage)
                && filter.reason.is_none_or(|wanted| result.reason == Some(wanted))
                && filter.error.as_ref().is_none_or(|part| result.error.is_some() && error.contains(part.as_str()))
                && filter.before.is_none_or(|before| result.settled_at < before)
                && filter.keys.as_ref().is_none_or(|keys| keys.contains(&item.key));
            if meant {
                rows.push(DeadRow {
                    key,
                    item_key: item.key.clone(),
                    stage: self.stages[&stage.0].name.clone(),
                    reason: result.reason.expect("a dead stage has a reason"),
                    counters: result.counters,
                    settled_at: result.settled_at,
                    error: result.error.clone(),
                });
            }
        }
        rows
    }

    pub(super) fn begin_redrive(&mut self, redrive: &Redrive) -> Result<OperationRow, Error> {
        let job = redrive.filter.job;
        self.known_job(job.0)?;
        let id = next(&self.operations);
        let row = OperationRow {
            id: OperationId(id),
            kind: "redrive".to_owned(),
            job,
            state: OperationState::Running,
            planned: (self.dead(&redrive.filter).len() as u64).min(redrive.limit),
            done: 0,
            limit: redrive.limit,
            rate: redrive.rate,
            next_at: redrive.now,
            actor: redrive.actor.clone(),
            why: redrive.why.clone(),
            created_at: redrive.now,
            updated_at: redrive.now,
        };
        let filter = filter::to_json(&redrive.filter);
        self.operations.insert(id, Operation { row: row.clone(), filter, position: 0 });
        self.event(redrive.now, "operation.started", Some(job.0), None, Some(id), &json!({ "why": redrive.why }));
        Ok(row)
    }

    fn operation(&mut self, id: i64) -> Result<&mut Operation, Error> {
        self.operations.get_mut(&id).ok_or(Error::UnknownOperation(id))
    }

    pub(super) fn step_operation(&mut self, id: i64, limit: u32, now: Timestamp) -> Result<OperationRow, Error> {
        let Operation { row, filter, position } = self.operation(id)?.clone();
        if row.state != OperationState::Running || now < row.next_at {
            return Ok(row);
        }
        let filter = filter::from_json(row.job, &filter)?;
        let by_rate = row.rate.map_or(u64::MAX, |rate| (rate as u64).max(1));
        let most = u64::from(limit).min(row.limit - row.done).min(by_rate);
        let mut last = position;
        let mut found = 0;
        for dead in self.dead(&filter).into_iter().filter(|dead| dead.key.0 > position) {
            if found == most {
                break;
            }
            last = dead.key.0;
            if self.items[&dead.key.item().0].cancelled_at.is_some() {
                continue;
            }
            self.redrive(&dead, id, now);
            found += 1;
        }
        let operation = self.operation(id)?;
        operation.position = last;
        operation.row.done += found;
        operation.row.updated_at = now;
        if let Some(rate) = row.rate.filter(|_| found > 0) {
            operation.row.next_at = Timestamp(now.0.max(row.next_at.0) + (found as f64 / rate * 1e6) as i64);
        }
        if found < most || operation.row.done == row.limit {
            operation.row.state = OperationState::Done;
            self.event(now, "operation.done", Some(row.job.0), None, Some(id), &json!({}));
        }
        Ok(self.operation(id)?.row.clone())
    }

    fn redrive(&mut self, dead: &DeadRow, operation: i64, now: Timestamp) {
        let (key, item) = (dead.key.0, dead.key.item().0);
        let mut result = self.results.remove(&key).expect("a dead stage");
        let history = result.last_attempt;
        if result.output.is_some() {
            (result.state, result.stale) = (State::Done, true);
            (result.reason, result.error) = (None, None);
            self.results.insert(key, result);
        }
        if self.may_run(item, dead.key.bit()) {
            self.enqueue(key, now, Some(operation));
            self.queue.get_mut(&key).expect("just enqueued").last_attempt = history;
        }
        let data = json!({ "item": dead.item_key, "stage": dead.stage });
        let job = self.items[&item].job;
        self.event(now, "stage.redriven", Some(job), Some(ItemId(item).0), Some(operation), &data);
    }

    pub(super) fn set_operation(
        &mut self,
        id: i64,
        to: OperationState,
        actor: &str,
        now: Timestamp,
    ) -> Result<OperationRow, Error> {
        let operation = self.operation(id)?;
        let from = operation.row.state;
        if !from.may_become(to) {
            return Err(Error::OperationState { id, from, to });
        }
        (operation.row.state, operation.row.updated_at) = (to, now);
        let row = operation.row.clone();
        let kind = match to {
            OperationState::Running => "operation.resumed",
            OperationState::Paused => "operation.paused",
            OperationState::Cancelled => "operation.cancelled",
            OperationState::Done => unreachable!("nobody moves an operation there"),
        };
        self.event(now, kind, Some(row.job.0), None, Some(id), &json!({ "actor": actor }));
        Ok(row)
    }
}
