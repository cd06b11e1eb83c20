//! Dead stages of the model, and the operations that redrive them.

use gristmill_model::{JobId, OperationId, StageId, StageKey, State, Timestamp};

use super::facts::{Operation, World, next};
use gristmill_tracker::records::{DeadFilter, DeadRow, OperationRow, OperationState, Redrive};
use gristmill_tracker::rules::{events, operation as rules, redrive};
use gristmill_tracker::{Error, filter};

impl World {
    /// All dead stages that match a filter, by key.
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
        let mut row = rules::begin(redrive, self.dead(&redrive.filter).len() as u64, redrive.now);
        row.id = OperationId(next(&self.operations));
        let filter = filter::to_json(&redrive.filter);
        self.note(redrive.now, &events::operation_started(&row, redrive, &filter));
        self.operations.insert(row.id.0, Operation { row: row.clone(), filter, position: 0 });
        Ok(row)
    }

    fn operation(&mut self, id: i64) -> Result<&mut Operation, Error> {
        self.operations.get_mut(&id).ok_or(Error::UnknownOperation(id))
    }

    pub(super) fn step_operation(&mut self, id: i64, limit: u32, now: Timestamp) -> Result<OperationRow, Error> {
        let Operation { mut row, filter, mut position } = self.operation(id)?.clone();
        let Some(share) = rules::share(&row, limit, now) else { return Ok(row) };
        let filter = filter::from_json(row.job, &filter)?;
        let mut taken = 0;
        for dead in self.dead(&filter).into_iter().filter(|dead| dead.key.0 > position).collect::<Vec<_>>() {
            if taken == share {
                break;
            }
            position = dead.key.0;
            taken += u32::from(self.redrive(&dead, row.id, now));
        }
        rules::took(&mut row, taken.into(), taken < share, now);
        if row.state == OperationState::Done {
            self.note(now, &events::operation_done(&row));
        }
        let operation = self.operation(id)?;
        (operation.row, operation.position) = (row.clone(), position);
        Ok(row)
    }

    fn redrive(&mut self, dead: &DeadRow, operation: OperationId, now: Timestamp) -> bool {
        let item = self.item(dead.key.item().0);
        let has_result = self.results[&dead.key.0].output.is_some();
        let dag = self.dag(item.job.0);
        let Some(change) = redrive::redrive(&dag, item, dead.key.bit(), has_result) else { return false };
        self.apply(&change, now, Some(operation.0));
        self.expect(&change);
        self.note(now, &events::redriven(item.job, operation, dead));
        true
    }

    pub(super) fn set_operation(
        &mut self,
        id: i64,
        to: OperationState,
        actor: &str,
        now: Timestamp,
    ) -> Result<OperationRow, Error> {
        let operation = self.operation(id)?;
        rules::set(&mut operation.row, to, now)?;
        let row = operation.row.clone();
        self.note(now, &events::operation_moved(&row, actor));
        Ok(row)
    }
}
