//! A reader that answers when it is told to, or never.
//!
//! Owns a gate before its one answer, and counts who came. Knows no jobs.

use std::sync::Arc;

use gristmill_model::{ItemId, JobId, StageId, Timestamp};
use gristmill_tracker::{
    AttemptRow, AttemptsFilter, BoxFuture, Error, ItemDetail, ItemRow, ItemsFilter, JobRow, JobStats, Reader, ResultRow,
};
use tokio::sync::Semaphore;

/// Its health waits for `gate`; every other read fails.
pub(super) struct Stub {
    /// A read takes one permit and keeps it.
    pub(super) gate: Semaphore,
    /// One permit for each read that came to the gate.
    pub(super) came: Semaphore,
}

impl Stub {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { gate: Semaphore::new(0), came: Semaphore::new(0) })
    }
}

impl Reader for Stub {
    fn jobs(&self) -> BoxFuture<'_, Vec<JobRow>> {
        Box::pin(async { Err(Error::Missing("/secret/folder".into())) })
    }

    fn stats(&self, _: JobId) -> BoxFuture<'_, JobStats> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn items(&self, _: ItemsFilter) -> BoxFuture<'_, Vec<ItemRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn item<'a>(&'a self, _: JobId, _: &'a str) -> BoxFuture<'a, Option<ItemDetail>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn results(&self, _: StageId, _: ItemId, _: u32) -> BoxFuture<'_, Vec<ResultRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn attempts(&self, _: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn next_due(&self) -> BoxFuture<'_, Option<Timestamp>> {
        Box::pin(async {
            self.came.add_permits(1);
            // A closed gate is a tracker that fails.
            self.gate.acquire().await.map_err(|_| Error::Stopped)?.forget();
            Ok(None)
        })
    }
}
