//! Registration of hosts and jobs, and its result.

use crate::ComponentBytes;
use gristmill_model::{Dag, Digest, ItemId, JobId, Need, StageId, Timestamp, VersionId};

/// A process that runs jobs.
#[derive(Clone, Debug)]
pub struct HostInfo {
    /// The machine's name, for people.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub app_version: String,
    /// When it started.
    pub now: Timestamp,
}

/// A job as its file declares it.
#[derive(Clone, Debug)]
pub struct JobRegistration {
    /// The job's name.
    pub name: String,
    /// The spec's identity.
    pub spec_id: Digest,
    /// The file's text, without secrets.
    pub yaml: String,
    /// In the order of the file.
    pub stages: Vec<StageRegistration>,
    /// When.
    pub now: Timestamp,
}

/// A stage as its job's file declares it.
#[derive(Clone, Debug)]
pub struct StageRegistration {
    /// The stage's name.
    pub name: String,
    /// The stages that it needs, by position.
    pub needs: Vec<Need>,
    /// Its version.
    pub version: Digest,
    /// The canonical hash of its component.
    pub component: Digest,
    /// The hash of the component's bytes as they are.
    pub component_raw: Digest,
    /// The component's size in bytes.
    pub component_size: u64,
    /// Those bytes, to be kept; none: they are not at hand, and what the tracker has of them stays as it is.
    pub component_bytes: Option<ComponentBytes>,
    /// Where the component came from.
    pub source: String,
    /// A version that its author declared.
    pub declared: Option<String>,
}

/// The result of a job's registration.
#[derive(Clone, Debug)]
pub struct RegisteredJob {
    /// The job.
    pub id: JobId,
    /// In the order of the registration.
    pub stages: Vec<RegisteredStage>,
    /// The DAG by bits.
    pub dag: Dag,
    /// If the DAG was edited: `reconcile` must start after this item, before anything else is done with the job.
    pub reconcile: Option<ItemId>,
    /// The cursor where the last pass of discovery was interrupted; none if it ended, or if there was none.
    pub cursor: Option<String>,
}

/// A stage and its current version.
#[derive(Clone, Copy, Debug)]
pub struct RegisteredStage {
    /// The stage.
    pub id: StageId,
    /// Its current version.
    pub version: VersionId,
}
