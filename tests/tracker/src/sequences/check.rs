//! Checks what must be true whatever the rules say.
//!
//! Owns checks that use no rule: all trackers use the same rules, so their agreement proves little. Each step of each
//! stage must be one of the state machine's, by events that the operation may cause. A stage must enter the queue after
//! the stages that it needs. Masks, states, statuses and counters must agree.

use std::collections::BTreeMap;

use gristmill_model::{DeadReason, Disposition, Event, ItemId, ItemStatus, Masks, StageBit, State, transition};

use super::drive::Side;
use super::operations::Op;
use gristmill_tracker::records::{ItemDetail, ItemsFilter, JobStats};

/// The state of each stage: by the number of its job, its item's key and its name.
pub(super) type Seen = BTreeMap<(usize, String, String), State>;

const LIVE: [State; 3] = [State::Ready, State::Leased, State::Waiting];

/// The events that an operation may cause for a stage, in any order and any number of times.
fn events_of(op: &Op) -> Vec<Event> {
    use Event::{
        Cancel, Claim, Die, GiveBack, KeepDone, KeepSkipped, Postpone, Promote, Redrive, Release, Reprocess, Restore,
        Revive, Skip, Succeed, Withdraw,
    };
    let settle = |disposition| match disposition {
        Disposition::Done => vec![Succeed, Release, Reprocess, Skip],
        // Stages that an older outcome of this stage released leave the queue.
        Disposition::Skipped => vec![Skip, Release, Reprocess, Withdraw, KeepDone, KeepSkipped],
        Disposition::Wait(_) => vec![Postpone, Cancel, Withdraw, KeepDone, KeepSkipped, Skip, Release],
        // Its input may have changed meanwhile: then it starts anew.
        Disposition::Dead(_) => {
            vec![Die, Cancel, Withdraw, KeepDone, KeepSkipped, Redrive, Revive, Release, Reprocess, Skip]
        }
    };
    match op {
        Op::Register { .. } | Op::Rebuild { .. } => {
            vec![Withdraw, KeepDone, KeepSkipped, Release, Reprocess, Skip]
        }
        Op::Upsert { reprocess: false, .. } => vec![Release],
        Op::Upsert { reprocess: true, .. } => vec![Release, Reprocess, Redrive, Revive, Cancel],
        Op::Claim { .. } => vec![Claim],
        Op::Settle { end, claim, .. } => {
            let mut events = settle(end.disposition);
            events.extend(claim.then_some(Claim));
            events
        }
        Op::Work { end, .. } => [vec![Claim], settle(end.disposition)].concat(),
        Op::Release { .. } => vec![GiveBack, Cancel, Withdraw, KeepDone, KeepSkipped],
        Op::Promote { .. } => vec![Promote],
        Op::Reap { .. } => [vec![Postpone, Cancel], settle(Disposition::Dead(DeadReason::Poison))].concat(),
        Op::Cancel { undo: false, .. } => vec![Cancel, KeepDone, KeepSkipped],
        Op::Cancel { undo: true, .. } => vec![Restore, Release, Reprocess, Skip],
        Op::Step { .. } => vec![Redrive, Revive, Release, Reprocess, Skip],
        _ => Vec::new(),
    }
}

/// Whether these events can lead from one state to the other.
fn leads(events: &[Event], from: State, to: State) -> bool {
    let mut reached = vec![from];
    let mut looked = 0;
    while let Some(state) = reached.get(looked).copied() {
        looked += 1;
        for next in events.iter().filter_map(|event| transition(state, *event).ok()) {
            if !reached.contains(&next) {
                reached.push(next);
            }
        }
    }
    reached.contains(&to)
}

impl Side<'_> {
    /// Checks the visible state after an operation, and remembers it. The error says what is wrong.
    pub(super) async fn check(&mut self, op: &Op) -> Result<(), String> {
        let mut seen = Seen::new();
        let events = events_of(op);
        for (number, job) in self.jobs.iter().enumerate() {
            let Some(job) = job else { continue };
            let stats = self.tracker().stats(job.id).await.expect("counters");
            let filter =
                ItemsFilter { job: job.id, status: None, prefix: String::new(), after: ItemId(0), limit: u32::MAX };
            let mut details = Vec::new();
            for row in self.tracker().items(filter).await.expect("items") {
                details.push(self.tracker().item(job.id, &row.key).await.expect("a read").expect("the item"));
            }
            counted(&stats, &details)?;
            for detail in &details {
                masks_agree(&stats, detail)?;
                for (stage, known) in detail.stages.iter().zip(&stats.stages) {
                    let place = (number, detail.row.key.clone(), stage.name.clone());
                    // A stage may have changed while it was out of the job's file.
                    let unknown = if matches!(op, Op::Register { .. }) { stage.state } else { State::Blocked };
                    let was = self.seen.get(&place).copied().unwrap_or(unknown);
                    if !leads(&events, was, stage.state) {
                        return Err(format!("{place:?} went from {} to {}", was.name(), stage.state.name()));
                    }
                    // A leased stage may finish, even if its input changes.
                    let waits = matches!(stage.state, State::Ready | State::Waiting);
                    let Masks { done, skipped, .. } = detail.row.masks;
                    let settled = Masks { done: done | skipped, ..Masks::default() };
                    if waits && job.dag.lacks(settled, known.id.bit()) {
                        return Err(format!("{place:?} is {} before what it needs", stage.state.name()));
                    }
                    seen.insert(place, stage.state);
                }
            }
        }
        self.seen = seen;
        Ok(())
    }
}

/// Compares the counters of a job with its visible items.
fn counted(stats: &JobStats, items: &[ItemDetail]) -> Result<(), String> {
    for status in ItemStatus::ALL {
        let n = items.iter().filter(|item| item.row.status == status).count() as u64;
        if stats.items[&status] != n {
            return Err(format!("{} items are {}, and {n} are counted", stats.items[&status], status.name()));
        }
    }
    for (place, stage) in stats.stages.iter().enumerate() {
        for state in State::ALL.into_iter().filter(|state| !matches!(state, State::Blocked | State::Cancelled)) {
            let is_in = |item: &&ItemDetail| {
                let settled = outcome(item.row.masks, stage.id.bit());
                item.stages[place].state == state || settled == Some(state)
            };
            let n = items.iter().filter(is_in).count() as u64;
            if stage.count(state) != n {
                let (name, counter) = (&stage.name, stage.count(state));
                return Err(format!("{name} is {} of {n} items, and of {counter} by its counter", state.name()));
            }
        }
    }
    Ok(())
}

/// The outcome of a stage, by the masks of its item.
fn outcome(masks: Masks, bit: StageBit) -> Option<State> {
    let settled = [(masks.done, State::Done), (masks.skipped, State::Skipped), (masks.dead, State::Dead)];
    settled.into_iter().find(|(mask, _)| mask & bit.mask() != 0).map(|(_, state)| state)
}

/// Compares an item's masks and its status with its stages.
fn masks_agree(stats: &JobStats, item: &ItemDetail) -> Result<(), String> {
    let Masks { done, skipped, dead, live, stale } = item.row.masks;
    if done & skipped | dead & (done | skipped | live) | stale & !(done | skipped) != 0 {
        return Err(format!("{:?} contradict each other", item.row.masks));
    }
    for (stage, known) in item.stages.iter().zip(&stats.stages) {
        let bit = known.id.bit();
        let settled = outcome(item.row.masks, bit);
        let is_live = live & bit.mask() != 0;
        let agrees = match stage.state {
            state @ (State::Done | State::Skipped | State::Dead) => !is_live && settled == Some(state),
            State::Blocked => !is_live && settled.is_none() && item.row.status != ItemStatus::Cancelled,
            State::Cancelled => !is_live && settled.is_none() && item.row.status == ItemStatus::Cancelled,
            _ => is_live && settled != Some(State::Dead),
        };
        let has_output = settled == Some(State::Done) || settled == Some(State::Dead);
        if !agrees || stage.settled_at.is_some() != settled.is_some() || stage.output.is_some() && !has_output {
            return Err(format!("{:?} and {stage:?} contradict each other", item.row));
        }
    }
    let any = |states: &[State]| item.stages.iter().any(|stage| states.contains(&stage.state));
    let is_stale = |bit: StageBit| stale & bit.mask() != 0;
    let all_fresh = item
        .stages
        .iter()
        .zip(&stats.stages)
        .all(|(stage, known)| matches!(stage.state, State::Done | State::Skipped) && !is_stale(known.id.bit()));
    let status = match item.row.status {
        ItemStatus::Cancelled => ItemStatus::Cancelled,
        _ if all_fresh => ItemStatus::Done,
        _ if any(&LIVE) => ItemStatus::Active,
        _ if any(&[State::Dead]) => ItemStatus::Failed,
        _ => ItemStatus::Pending,
    };
    if status == item.row.status { Ok(()) } else { Err(format!("{:?} is {}", item.row, status.name())) }
}
