//! The trace file: a record of begun attempts outside the tracker.
//!
//! Owns one file that only grows. It gets a line before each attempt, in one write, so that lines of several threads
//! and hosts never mix. A line without a recorded attempt is an attempt that was lost with its host. Never read by the
//! host.

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

    /// Writes that an attempt begins. Warns only once if the disk is full, since the tracker's own records are
    /// complete.
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
