//! The trace file: which attempts were begun, told from outside the tracker.
//!
//! Owns one file that only grows: a line before each attempt, in one write, so that lines of several threads and hosts
//! never mix. A line that is there for no recorded attempt is one that was lost with its host.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use gristmill_model::{Fence, HostId};

use crate::Error;

pub(crate) struct Trace {
    path: PathBuf,
    file: File,
    failed: AtomicBool,
}

impl Trace {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|source| Error::TraceFile { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, failed: AtomicBool::new(false) })
    }

    /// Says that an attempt begins. A disk that takes no more is warned of once: the tracker's own account is whole.
    pub(crate) fn begins(&self, host: HostId, fence: Fence, stage: &str, item: &str, attempt: u32) {
        let line = serde_json::json!({
            "host": host.0, "fence": fence.0, "stage": stage, "item": item, "attempt": attempt,
        });
        let written = (&self.file).write_all(format!("{line}\n").as_bytes());
        if let Err(error) = written
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(file = %self.path.display(), %error, "the trace file cannot be written: it has gaps");
        }
    }
}
