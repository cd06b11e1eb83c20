//! The DAGs of the jobs, as the database has them.
//!
//! Owns a cache of them, and reads a DAG again when its generation has changed: several hosts may declare the same job,
//! and an operator's process declares none. Never uses a job file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use gristmill_model::{Dag, JobId, StageId};
use tokio_postgres::Row;

use super::fail::Fail;
use super::tx::Tx;

/// There are few jobs, so each transaction reads them all.
pub(super) const JOBS: &str = "SELECT id, generation, reconciled FROM jobs";
const STAGES: &str = "SELECT id, needs, outputs FROM stages WHERE retired_at IS NULL AND job_id = ANY ($1)";

/// A job's state at the beginning of a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobState {
    pub(super) id: JobId,
    pub(super) generation: i64,
    pub(super) reconciled: Option<i64>,
}

impl JobState {
    pub(super) fn read(row: &Row) -> Self {
        Self { id: JobId(row.get(0)), generation: row.get(1), reconciled: row.get(2) }
    }
}

#[derive(Default)]
pub(super) struct Shapes {
    dags: RefCell<HashMap<JobId, (i64, Rc<Dag>)>>,
    /// `job_specs.number` of the specs that were registered through this tracker.
    specs: RefCell<HashMap<JobId, i64>>,
}

impl Shapes {
    /// Reads the DAGs that changed.
    pub(super) async fn refresh(&self, tx: &Tx<'_>, jobs: &[JobState]) -> Result<(), Fail> {
        let is_old =
            |job: &&JobState| self.dags.borrow().get(&job.id).is_none_or(|(known, _)| *known != job.generation);
        let old: Vec<JobState> = jobs.iter().filter(is_old).copied().collect();
        if old.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = old.iter().map(|job| job.id.0).collect();
        let stages = tx.query(STAGES, &[&ids]).await?;
        let mut dags: HashMap<JobId, Dag> = old.iter().map(|job| (job.id, Dag::default())).collect();
        for row in stages {
            let stage = StageId(row.get(0));
            let (needs, outputs): (i64, i64) = (row.get(1), row.get(2));
            if let Some(dag) = dags.get_mut(&stage.job()) {
                dag.add(stage.bit(), needs as u64, outputs as u64);
            }
        }
        let mut known = self.dags.borrow_mut();
        for job in old {
            if let Some(dag) = dags.remove(&job.id) {
                known.insert(job.id, (job.generation, Rc::new(dag)));
            }
        }
        Ok(())
    }

    pub(super) fn dag(&self, job: JobId) -> Option<Rc<Dag>> {
        self.dags.borrow().get(&job).map(|(_, dag)| Rc::clone(dag))
    }

    pub(super) fn declare(&self, job: JobId, spec: i64) {
        self.specs.borrow_mut().insert(job, spec);
    }

    pub(super) fn spec(&self, job: JobId) -> Option<i64> {
        self.specs.borrow().get(&job).copied()
    }
}
