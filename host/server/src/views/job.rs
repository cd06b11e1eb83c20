//! A job as JSON.
//!
//! Owns the views of a job's counters. Never contains or counts items.

use gristmill_model::{ItemStatus, State};
use gristmill_tracker::{JobStats, StageStats};
use serde::Serialize;

use super::{Counts, Sums};

/// A job in a list.
#[derive(Clone, Debug, Serialize)]
pub struct JobView<'a> {
    /// Its name.
    pub job: &'a str,
    /// How many items it has.
    pub items_total: u64,
    /// How many items have each status.
    pub items: Counts,
}

impl<'a> JobView<'a> {
    /// The view of a job with that name and these counters.
    pub fn new(job: &'a str, stats: &JobStats) -> Self {
        Self { job, items_total: stats.total(), items: items(stats) }
    }
}

/// A job with its stages.
#[derive(Clone, Debug, Serialize)]
pub struct JobDetailView<'a> {
    /// Its name.
    pub job: &'a str,
    /// How many items it has.
    pub items_total: u64,
    /// How many items have each status.
    pub items: Counts,
    /// In the order of the job file.
    pub stages: Vec<StageView<'a>>,
    /// What was charged since the beginning, by meter.
    pub charges: Sums<'a>,
}

impl<'a> JobDetailView<'a> {
    /// The view of a job with that name and these counters.
    pub fn new(job: &'a str, stats: &'a JobStats) -> Self {
        Self {
            job,
            items_total: stats.total(),
            items: items(stats),
            stages: stats.stages.iter().map(StageView::from).collect(),
            charges: Sums::from(&stats.charges[..]),
        }
    }
}

/// A stage of a job.
#[derive(Clone, Debug, Serialize)]
pub struct StageView<'a> {
    /// Its name.
    pub stage: &'a str,
    /// Its current version.
    pub version: Option<String>,
    /// How many results were made by another version than the current one.
    pub other_versions: u64,
    /// How many items are in each state, as fields of the stage. Blocked and cancelled ones are not counted, since
    /// nothing is stored about them.
    #[serde(flatten)]
    pub states: Counts,
}

impl<'a> From<&'a StageStats> for StageView<'a> {
    fn from(stage: &'a StageStats) -> Self {
        let counted = State::ALL.into_iter().filter(|state| !matches!(state, State::Blocked | State::Cancelled));
        Self {
            stage: &stage.name,
            version: stage.version.map(|version| version.to_string()),
            other_versions: stage.other_versions,
            states: Counts(counted.map(|state| (state.name(), stage.count(state))).collect()),
        }
    }
}

fn items(stats: &JobStats) -> Counts {
    let count = |status| stats.items.get(&status).copied().unwrap_or(0);
    Counts(ItemStatus::ALL.into_iter().map(|status| (status.name(), count(status))).collect())
}
