//! A reader that answers when it is told to, or never.
//!
//! Owns a gate before its one answer, and counts who came. Knows no jobs.

use std::sync::Arc;

use gristmill_model::{ItemId, JobId, OperationId, StageId, StageKey};
use gristmill_tracker::tables::{Row, Sequences, Table};
use gristmill_tracker::{
    AttemptRow, AttemptsFilter, BoxFuture, DeadFilter, DeadRow, Error, EventRow, EventsFilter, Examination, Expired,
    ExpiredPage, ItemDetail, ItemRow, ItemsFilter, JobRow, JobStats, KnownItem, OperationRow, Outlook, Outputs, Reader,
    ResultRow,
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

    fn item_with<'a>(&'a self, _: JobId, _: &'a str, _: Outputs) -> BoxFuture<'a, Option<ItemDetail>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn results(&self, _: StageId, _: ItemId, _: u32) -> BoxFuture<'_, Vec<ResultRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn attempts(&self, _: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn outlook(&self) -> BoxFuture<'_, Outlook> {
        Box::pin(async {
            self.came.add_permits(1);
            // A closed gate is a tracker that fails.
            self.gate.acquire().await.map_err(|_| Error::Stopped)?.forget();
            Ok(Outlook::default())
        })
    }

    fn known(&self, _: JobId, _: Vec<String>) -> BoxFuture<'_, Vec<KnownItem>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn dead(&self, _: DeadFilter, _: StageKey, _: u32) -> BoxFuture<'_, Vec<DeadRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn count_dead(&self, _: DeadFilter) -> BoxFuture<'_, u64> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn outdated(&self, _: StageId, _: ItemId, _: u32) -> BoxFuture<'_, Vec<ItemId>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn operations(&self, _: Option<JobId>, _: u32) -> BoxFuture<'_, Vec<OperationRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn operation(&self, _: OperationId) -> BoxFuture<'_, Option<OperationRow>> {
        Box::pin(async { Ok(None) })
    }

    fn events(&self, _: EventsFilter) -> BoxFuture<'_, Vec<EventRow>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn expired(&self, _: Expired) -> BoxFuture<'_, ExpiredPage> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn examine(&self) -> BoxFuture<'_, Examination> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn export(&self, _: &'static Table, _: Option<Row>, _: u32) -> BoxFuture<'_, Vec<Row>> {
        Box::pin(async { Err(Error::Stopped) })
    }

    fn sequences(&self) -> BoxFuture<'_, Sequences> {
        Box::pin(async { Err(Error::Stopped) })
    }
}
