//! Hosts and jobs: what a tracker is told of them, and what it makes of that.

use crate::ComponentBytes;
use gristmill_model::{Dag, Digest, ItemId, JobId, Need, StageId, Timestamp, VersionId};

/// A process that runs jobs.
#[derive(Clone, Debug)]
pub struct HostInfo {
    /// The machine's name, for people.
    pub name: String,
    /// Its process.
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
    /// What it needs, by position.
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

/// What a tracker made of a registration.
#[derive(Clone, Debug)]
pub struct RegisteredJob {
    /// The job.
    pub id: JobId,
    /// In the order of the registration.
    pub stages: Vec<RegisteredStage>,
    /// The DAG by bits.
    pub dag: Dag,
    /// The DAG was edited: `reconcile` is due from behind this item on, before anything else is done with the job.
    pub reconcile: Option<ItemId>,
    /// Where the last pass of discovery was interrupted; none: it came to its end, or there was none.
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
