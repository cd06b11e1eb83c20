//! Counter changes of a batch.
//!
//! Owns their folding, by key and in the order of keys, so that two transactions that write them never deadlock. Never
//! counts rows.

use std::collections::BTreeMap;

use gristmill_model::{ItemStatus, JobId, StageId, State};

/// The changes of counters: positive or negative numbers.
#[derive(Debug, Default)]
pub struct Tally {
    /// Stages of items, by stage and code of their state.
    pub stages: BTreeMap<(i64, i64), i64>,
    /// Items, by job and code of their status.
    pub items: BTreeMap<(i64, i64), i64>,
    /// Outputs, by the number of their version.
    pub versions: BTreeMap<i64, i64>,
}

impl Tally {
    /// Changes the number of items that have a stage in a state.
    pub fn stage(&mut self, stage: StageId, state: State, change: i64) {
        *self.stages.entry((stage.0, state.code())).or_default() += change;
    }

    /// Moves `n` stages of items to another state.
    pub fn moved(&mut self, stage: StageId, from: State, to: State, n: i64) {
        self.stage(stage, from, -n);
        self.stage(stage, to, n);
    }

    /// Changes the number of items with a status.
    pub fn item(&mut self, job: JobId, status: ItemStatus, change: i64) {
        *self.items.entry((job.0, status.code())).or_default() += change;
    }

    /// Changes the number of outputs of a version.
    pub fn version(&mut self, version: i64, change: i64) {
        *self.versions.entry(version).or_default() += change;
    }
}
