//! The thread that asks handlers for items.
//!
//! Owns one page at a time: it asks, checks what came, and hands it over. Never writes: a page and its cursor are
//! committed together by the tracker, and the next page is asked for only then.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use gristmill_model::{Clock, Digest, JobId, Outcome, Timestamp};
use gristmill_sandbox::{AttemptContext, DiscoverRequest};
use gristmill_tracker::NewItem;
use tokio::sync::mpsc;

use crate::Error;
use crate::load::LoadedJob;

/// A wish for one page.
pub(crate) struct PageRequest {
    pub(crate) job: JobId,
    pub(crate) loaded: Arc<LoadedJob>,
    pub(crate) cursor: Option<String>,
}

/// A page, or why there is none.
pub(crate) struct PageResult {
    pub(crate) job: JobId,
    pub(crate) page: Result<Page, PageFailure>,
    pub(crate) log: String,
}

/// Checked items, and where the next page starts.
pub(crate) struct Page {
    pub(crate) items: Vec<NewItem>,
    pub(crate) next: Option<String>,
}

/// Why there is no page.
pub(crate) struct PageFailure {
    pub(crate) outcome: Outcome,
    pub(crate) after: Option<Duration>,
    pub(crate) message: String,
}

/// The handle of the thread. Dropping it ends the thread after the page at hand.
pub(crate) struct Discoverer {
    requests: Option<std::sync::mpsc::SyncSender<PageRequest>>,
    thread: Option<JoinHandle<()>>,
}

impl Discoverer {
    /// `jobs` is how many jobs may each have one request waiting.
    pub(crate) fn start(jobs: usize, clock: Arc<dyn Clock>, results: mpsc::Sender<PageResult>) -> Result<Self, Error> {
        let (requests, waiting) = std::sync::mpsc::sync_channel::<PageRequest>(jobs.max(1));
        let thread = std::thread::Builder::new()
            .name("discovery".to_owned())
            .spawn(move || {
                while let Ok(request) = waiting.recv() {
                    if results.blocking_send(discover(&request, clock.now())).is_err() {
                        return;
                    }
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    pub(crate) fn ask(&self, request: PageRequest) -> Result<(), Error> {
        self.requests.as_ref().ok_or(Error::Stopped)?.send(request).map_err(|_| Error::Stopped)
    }

    /// Leaves the thread behind. For a host that ends while a page is still being made.
    pub(crate) fn abandon(mut self) {
        self.thread = None;
    }
}

impl Drop for Discoverer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn discover(request: &PageRequest, now: Timestamp) -> PageResult {
    let job = &request.loaded.job;
    let Some((handler, grants)) = &request.loaded.discover else {
        unreachable!("a page is asked of a job that discovers")
    };
    let tuning = &job.tuning.discover;
    let cursor = request.cursor.as_deref();
    let fields = [job.spec.name.as_bytes(), cursor.unwrap_or_default().as_bytes()];
    let context = AttemptContext {
        limits: tuning.limits,
        grants,
        params: &request.loaded.params,
        frozen_at: now,
        seed: Digest::of_fields("gristmill discovery 1", fields),
    };
    let asked = DiscoverRequest { job: &job.spec.name, cursor, limit: tuning.page };
    let done = handler.discover(&asked, &context);
    let page = done
        .result
        .map_err(|failure| PageFailure { outcome: failure.outcome, after: failure.after, message: failure.message })
        .and_then(|page| check(page, cursor));
    PageResult { job: request.job, page, log: done.traces.log }
}

/// Refuses a page that would be asked for again and again.
fn check(page: gristmill_sandbox::Page, cursor: Option<&str>) -> Result<Page, PageFailure> {
    if page.next.is_some() && page.next.as_deref() == cursor {
        let message = "the next page's cursor is the same as this one's: discovery would never end".to_owned();
        return Err(PageFailure { outcome: Outcome::BadOutput, after: None, message });
    }
    let items = page.items.into_iter().map(|item| {
        let data_hash = Digest::of(item.data.as_bytes());
        NewItem { key: item.key, data: item.data, data_hash, priority: item.priority }
    });
    Ok(Page { items: items.collect(), next: page.next })
}
