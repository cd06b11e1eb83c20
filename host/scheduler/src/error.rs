//! What can go wrong with a host.
//!
//! Owns the crate's error type, and the problems of a job. Never describes what a guest does: that is an outcome.

use std::path::PathBuf;

use thiserror::Error;

/// What can go wrong with a host.
#[derive(Debug, Error)]
pub enum Error {
    /// The tracker failed. Nothing can be recorded any more, so nothing more is run.
    #[error(transparent)]
    Tracker(#[from] gristmill_tracker::Error),
    /// The sandbox could not be made.
    #[error(transparent)]
    Sandbox(#[from] gristmill_sandbox::Error),
    /// A job cannot be run as it is.
    #[error("job `{job}` cannot run")]
    Job {
        /// The job's name.
        job: String,
        /// Everything that is wrong with it.
        problems: Vec<Problem>,
    },
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
    /// All threads that run attempts hang, and no more of them may be replaced.
    #[error("all threads that run attempts hang in calls of the system ({threads} of them)")]
    Held {
        /// How many.
        threads: usize,
    },
    /// The trace file cannot be made.
    #[error("the trace file {} cannot be written: {source}", path.display())]
    TraceFile {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The disk has too little room to go on, and there is work left.
    #[error("the disk of {} has too little room left to go on", data.display())]
    DiskLow {
        /// The data folder.
        data: PathBuf,
        /// How many bytes shall stay free.
        min_free_bytes: u64,
    },
    /// The threads that run attempts have ended unexpectedly.
    #[error("the threads that run attempts have stopped")]
    Stopped,
}

/// One thing that is wrong with a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The stage; none for `discover`.
    pub stage: Option<String>,
    /// What is wrong.
    pub message: String,
    /// A hint.
    pub hint: Option<String>,
}
