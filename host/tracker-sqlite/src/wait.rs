//! Waits for another process that holds the database.
//!
//! Owns how long to wait, and the reports at its beginning and end. SQLite itself waits a short time at a time, so that
//! a writer that is asked to end can do so in between. Never waits longer than its patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{ErrorCode, Statement};

use super::open::BUSY_TIMEOUT;
use crate::fail::Fail;

/// The wait of one connection, with its patience.
pub(super) struct Wait {
    patience: Duration,
    closing: Arc<AtomicBool>,
    /// The time waited since it was last recorded, in steps of SQLite's own wait.
    waited: Duration,
}

impl Wait {
    pub(super) const fn new(patience: Duration, closing: Arc<AtomicBool>) -> Self {
        Self { patience, closing, waited: Duration::ZERO }
    }

    /// Begins a transaction as soon as no other process holds the database.
    ///
    /// # Errors
    /// `Busy` if that takes longer than patience.
    pub(super) fn begin(&mut self, begin: &mut Statement<'_>) -> Result<(), Fail> {
        let mut waited = Duration::ZERO;
        loop {
            let is_busy = |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
            match begin.execute([]) {
                Err(error) if is_busy(&error) => {
                    waited += BUSY_TIMEOUT;
                    self.waited += BUSY_TIMEOUT;
                    if waited >= self.patience || self.closing.load(Ordering::Relaxed) {
                        return Err(error.into());
                    }
                    if waited == BUSY_TIMEOUT {
                        let patience = self.patience;
                        tracing::warn!("another process holds the tracker: waiting for it, {patience:?} at most");
                    }
                }
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    if !waited.is_zero() {
                        tracing::warn!("the tracker is free again, after {waited:?}");
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The time waited since the last call; none if there was no wait.
    pub(super) fn take(&mut self) -> Option<Duration> {
        Some(std::mem::take(&mut self.waited)).filter(|waited| !waited.is_zero())
    }
}
