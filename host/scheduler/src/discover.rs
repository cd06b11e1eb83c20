//! The thread that asks handlers for items.
//!
//! Owns one page at a time: asks for it, checks it, and passes it on. Never writes: the tracker commits a page and its
//! cursor together, and only then is the next page asked for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use gristmill_model::{Clock, Digest, JobId, Merge, Outcome, Timestamp};
use gristmill_sandbox::{
    AttemptContext, DiscoverRequest, Error as SandboxError, GuestFailure, MergeRequest, THREAD_STACK_BYTES,
};
use gristmill_tracker::{Error as TrackerError, KnownItem, Merged, NewItem, Tracker};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::Error;
use crate::load::{LoadedJob, sentence};

/// A request for one page.
pub(crate) struct PageRequest {
    pub(crate) job: JobId,
    pub(crate) loaded: Arc<LoadedJob>,
    pub(crate) cursor: Option<String>,
}

/// Access to known items, which the thread reads if a component merges them.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) tracker: Arc<dyn Tracker>,
    pub(crate) runtime: Handle,
}

/// A page, or why there is none.
pub(crate) struct PageResult {
    pub(crate) job: JobId,
    /// The cursor that the page was asked for with.
    pub(crate) cursor: Option<String>,
    pub(crate) page: Result<Page, PageFailure>,
    pub(crate) log: String,
}

/// Checked items, and the cursor of the next page.
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

/// The handle of the thread. Dropping it ends the thread after its current page.
pub(crate) struct Discoverer {
    requests: Option<SyncSender<PageRequest>>,
    thread: Option<JoinHandle<()>>,
}

impl Discoverer {
    /// `jobs` is the number of jobs: each may have one request waiting.
    pub(crate) fn start(
        jobs: usize,
        clock: Arc<dyn Clock>,
        known: Known,
        results: mpsc::Sender<PageResult>,
    ) -> Result<Self, Error> {
        let (requests, waiting) = std::sync::mpsc::sync_channel::<PageRequest>(jobs.max(1));
        let thread = std::thread::Builder::new()
            .name("discovery".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || {
                while let Ok(request) = waiting.recv() {
                    if results.blocking_send(discover(request, clock.now(), &known)).is_err() {
                        return;
                    }
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// A handle that asks for pages.
    pub(crate) fn asker(&self) -> Asker {
        Asker(self.requests.clone())
    }

    /// Ends without waiting for the thread: for a host that ends while a page is still being made.
    pub(crate) fn abandon(mut self) {
        self.thread = None;
    }
}

/// Asks for pages.
pub(crate) struct Asker(Option<SyncSender<PageRequest>>);

impl Asker {
    pub(crate) fn ask(&self, request: PageRequest) -> Result<(), Error> {
        self.0.as_ref().ok_or(Error::Stopped)?.send(request).map_err(|_| Error::Stopped)
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

fn discover(request: PageRequest, now: Timestamp, known: &Known) -> PageResult {
    let job = &request.loaded.job;
    let Some((handler, granted)) = &request.loaded.discover else {
        unreachable!("a page is asked of a job that discovers")
    };
    let tuning = &job.tuning.discover;
    let cursor = request.cursor.as_deref();
    let fields = [job.spec.name.as_bytes(), cursor.unwrap_or_default().as_bytes()];
    let context = AttemptContext {
        limits: tuning.limits,
        granted,
        params: &request.loaded.params,
        frozen_at: now,
        seed: Digest::of_fields("gristmill discovery 1", fields),
    };
    let asked = DiscoverRequest { job: &job.spec.name, cursor, limit: tuning.page };
    let (page, mut log) = match handler.discover(&asked, &context) {
        Ok(done) => (done.result.map(hashed).map_err(PageFailure::from), done.traces.log),
        Err(refusal) => (Err(of_machine(&refusal).into()), String::new()),
    };
    let mut by_component = |item_key: &str, existing: &str, incoming: &str| {
        let merged = handler.merge(&MergeRequest { item_key, existing, incoming }, &context);
        let merged = merged.map_err(|refusal| of_machine(&refusal))?;
        log.push_str(&merged.traces.log);
        merged.result
    };
    let page = page.and_then(|page| {
        let (mut items, folded) = fold(page.items, |key, one, other| match &tuning.rediscovery.merge {
            Merge::Replace => Ok(other.to_owned()),
            Merge::Fields(policy) => Ok(policy.merge(one, other, false).unwrap_or_else(|| one.to_owned())),
            Merge::Handler => by_component(key, one, other),
        })?;
        if let Some(key) = folded.first() {
            let (job, keys) = (&job.spec.name, folded.len());
            tracing::warn!(
                job,
                keys,
                key,
                "a page has keys more than once: the data of each is merged, and is one item"
            );
        }
        if tuning.rediscovery.merge == Merge::Handler {
            let keys = items.iter().map(|item| item.key.clone()).collect();
            let known = known.runtime.block_on(known.tracker.known(request.job, keys));
            let known = known.map_err(|error| PageFailure::of_host(error.to_string()))?;
            merge_page(&mut items, &known, by_component)?;
        }
        Ok(Page { items, next: page.next })
    });
    PageResult { job: request.job, page, log, cursor: request.cursor }
}

/// The failure of a page for which the machine refuses a sandbox: it is tried again.
fn of_machine(refusal: &SandboxError) -> GuestFailure {
    GuestFailure { outcome: Outcome::Retry, after: None, message: sentence(refusal) }
}

/// Merges items with the same key into one, at the position of the first, with the priority of the last. Otherwise each
/// pass over the page would see each of them as a change of the other. Returns the keys that occurred with different
/// data.
fn fold(
    items: Vec<NewItem>,
    mut merge: impl FnMut(&str, &str, &str) -> Result<String, GuestFailure>,
) -> Result<(Vec<NewItem>, BTreeSet<String>), PageFailure> {
    let mut keys = HashSet::with_capacity(items.len());
    if items.iter().all(|item| keys.insert(item.key.as_str())) {
        return Ok((items, BTreeSet::new()));
    }
    let mut indexes: HashMap<String, usize> = HashMap::with_capacity(items.len());
    let mut folded: Vec<NewItem> = Vec::with_capacity(items.len());
    let mut several = BTreeSet::new();
    for item in items {
        let Some(before) = indexes.get(&item.key).map(|index| &mut folded[*index]) else {
            indexes.insert(item.key.clone(), folded.len());
            folded.push(item);
            continue;
        };
        before.priority = item.priority;
        if before.data_hash == item.data_hash {
            continue;
        }
        before.data = merge(&item.key, &before.data, &item.data).map_err(|failure| unmerged(&item.key, failure))?;
        before.data_hash = Digest::of(before.data.as_bytes());
        several.insert(item.key);
    }
    Ok((folded, several))
}

fn unmerged(key: &str, failure: GuestFailure) -> PageFailure {
    let message = format!("item `{key}` could not be merged: {}", failure.message);
    PageFailure { message, ..failure.into() }
}

/// Merges the items of a page into the known data. An item that was last seen with the same data stays unchanged. The
/// tracker refuses the page if somebody else changes one of its items in the meantime.
fn merge_page(
    items: &mut [NewItem],
    known: &[KnownItem],
    mut merge: impl FnMut(&str, &str, &str) -> Result<String, GuestFailure>,
) -> Result<(), PageFailure> {
    let known: HashMap<&str, &KnownItem> = known.iter().map(|item| (item.key.as_str(), item)).collect();
    for item in items {
        let Some(before) = known.get(item.key.as_str()).filter(|before| before.seen_hash != item.data_hash) else {
            continue;
        };
        let data = merge(&item.key, &before.data, &item.data).map_err(|failure| unmerged(&item.key, failure))?;
        item.merged = Some(Merged { data, replaces: before.data_hash });
    }
    Ok(())
}

impl From<GuestFailure> for PageFailure {
    fn from(failure: GuestFailure) -> Self {
        Self { outcome: failure.outcome, after: failure.after, message: failure.message }
    }
}

impl PageFailure {
    /// A page that the tracker refuses to record.
    pub(crate) fn refused(error: &TrackerError) -> Self {
        let message = format!("the tracker refused to record the page: {error}");
        Self { outcome: Outcome::Permanent, after: None, message }
    }

    /// A page that failed for a reason that is not the handler's: it is tried again.
    pub(crate) fn of_host(message: String) -> Self {
        Self { outcome: Outcome::Retry, after: None, message }
    }
}

/// A page as the tracker takes it, with hashes.
fn hashed(page: gristmill_sandbox::Page) -> Page {
    let items = page.items.into_iter().map(|item| {
        let data_hash = Digest::of(item.data.as_bytes());
        NewItem { key: item.key, data: item.data, data_hash, priority: item.priority, merged: None }
    });
    Page { items: items.collect(), next: page.next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, data: &str) -> NewItem {
        let data_hash = Digest::of(data.as_bytes());
        NewItem { key: key.to_owned(), data: data.to_owned(), data_hash, priority: 0, merged: None }
    }

    #[test]
    fn a_page_is_merged_with_what_is_known_and_what_was_seen_is_left_alone() {
        let known = |key: &str, data: &str, seen: &str| KnownItem {
            key: key.to_owned(),
            data: data.to_owned(),
            data_hash: Digest::of(data.as_bytes()),
            seen_hash: Digest::of(seen.as_bytes()),
        };
        let mut items = [item("a", "2"), item("seen", "1"), item("new", "1")];
        let held = [known("a", "0+1", "1"), known("seen", "0+1", "1")];
        let merged = merge_page(&mut items, &held, |_, existing, incoming| Ok(format!("{existing}+{incoming}")));
        assert!(merged.is_ok());
        let came: Vec<_> = items.iter().map(|item| item.merged.as_ref().map(|made| made.data.as_str())).collect();
        assert_eq!(came, [Some("0+1+2"), None, None]);
        assert_eq!(items[0].merged.as_ref().map(|made| made.replaces), Some(Digest::of(b"0+1")));
    }

    #[test]
    fn one_key_twice_on_a_page_is_one_item() {
        let page = vec![item("a", "1"), item("b", "1"), item("a", "2"), item("b", "1"), item("a", "3")];
        let (items, several) = fold(page, |_, one, other| Ok(format!("{one}+{other}"))).ok().unwrap();
        let found: Vec<_> = items.iter().map(|item| (item.key.as_str(), item.data.as_str(), item.data_hash)).collect();
        assert_eq!(found, [("a", "1+2+3", Digest::of(b"1+2+3")), ("b", "1", Digest::of(b"1"))]);
        assert_eq!(several, BTreeSet::from(["a".to_owned()]), "what says the same is no news");
    }

    #[test]
    fn an_item_that_cannot_be_merged_fails_its_page_and_is_named() {
        let known = KnownItem {
            key: "a".to_owned(),
            data: "1".to_owned(),
            data_hash: Digest::of(b"1"),
            seen_hash: Digest::of(b"1"),
        };
        let failure = GuestFailure { outcome: Outcome::Trap, after: None, message: "it trapped".to_owned() };
        let failed = merge_page(&mut [item("a", "2")], &[known], |_, _, _| Err(failure.clone()));
        assert_eq!(
            failed.err().map(|failure| failure.message).as_deref(),
            Some("item `a` could not be merged: it trapped")
        );
    }
}
