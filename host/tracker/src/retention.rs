//! Deletes old rows.
//!
//! Owns the loop over the rows that `Reader::expired` finds, and the safe order: an archive file is on the disk before
//! the first of its rows is deleted. After a crash in between, rows are archived once more. Transactions that delete
//! take a bounded time, since a host that settles waits for them. Never decides what is old: the backends define the
//! age of a row.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use gristmill_model::{Clock, Expiring, JobId, Retention, Timestamp};

use crate::archive::Archive;
use crate::records::{Expired, ExpiredPage, Prune};
use crate::{Error, Reader, Tracker};

/// How long events of no job are kept, such as those of hosts. No job file can change it.
pub const HOST_EVENTS_KEPT: Duration = Duration::from_hours(90 * 24);

/// The retention of rows of no job: events are kept for `HOST_EVENTS_KEPT`.
pub fn host_retention() -> Retention {
    Retention { keep: BTreeMap::from([(Expiring::Events, HOST_EVENTS_KEPT)]), archive: None }
}

/// How many rows a transaction reads, or deletes at most.
const PAGE_ROWS: u32 = 1000;
/// How many rows the first transaction deletes, since an item may have many results.
const DELETED_ROWS_FIRST: usize = 100;
/// How long a transaction that deletes should take.
const DELETION_TARGET: Duration = Duration::from_millis(50);
/// How many rows an archive file has at most. They are deleted once it is complete.
const FILE_ROWS_MAX: usize = 100_000;

/// What to delete of a job.
#[derive(Clone, Copy, Debug)]
pub struct Pruning<'a> {
    /// The job; none for rows of no job.
    pub job: Option<JobId>,
    /// Its name, which is part of an archive file's name.
    pub name: &'a str,
    /// How long its data is kept.
    pub retention: &'a Retention,
    /// When.
    pub now: Timestamp,
    /// How many rows of each kind are checked, at most.
    pub rows_max: u64,
}

/// Where pruning goes on, for each kind. A kind that is complete starts from the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruningPosition(BTreeMap<Expiring, i64>);

/// The result of pruning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many rows of each kind were deleted. Kinds that are kept for ever are absent.
    pub deleted: BTreeMap<Expiring, u64>,
    /// The archive's files.
    pub archived: Vec<PathBuf>,
    /// Whether there may be more, since `rows_max` was reached.
    pub more: bool,
}

/// How many rows one transaction deletes: as many as fit into `DELETION_TARGET` if they are like the last ones.
#[derive(Clone, Copy, Debug)]
struct Pace(usize);

impl Pace {
    const fn first() -> Self {
        Self(DELETED_ROWS_FIRST)
    }

    /// The next pace, after `rows` rows took `took`: at most twice as many rows as before.
    fn after(self, rows: usize, took: Duration) -> Self {
        let fitting = rows as u128 * DELETION_TARGET.as_micros() / took.as_micros().max(1);
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
        Self(fitting.min(self.0.saturating_mul(2)).clamp(1, PAGE_ROWS as usize))
    }
}

/// Deletes old rows, and archives them first if the job says so. Starts at `position`, and stores there where to go on.
/// The clock measures the transactions.
///
/// # Errors
/// If the tracker fails, or the archive cannot be written. What was not archived is not deleted.
pub async fn prune(
    tracker: &dyn Tracker,
    clock: &dyn Clock,
    pruning: Pruning<'_>,
    position: &mut PruningPosition,
) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    for what in pruning.retention.keep.keys().copied() {
        let deleted = prune_kind((tracker, clock), pruning, what, position, &mut pruned).await?;
        pruned.deleted.insert(what, deleted);
    }
    Ok(pruned)
}

/// How many rows of each kind `prune` would delete now.
///
/// # Errors
/// If the tracker cannot be read.
pub async fn count_expired(reader: &dyn Reader, pruning: Pruning<'_>) -> Result<BTreeMap<Expiring, u64>, Error> {
    let mut counts = BTreeMap::new();
    for what in pruning.retention.keep.keys().copied() {
        let (mut count, mut pages) = (0, Pages::new(pruning, what, 0));
        while let Some(page) = pages.next(reader).await? {
            count += page.numbers.len() as u64;
        }
        counts.insert(what, count);
    }
    Ok(counts)
}

async fn prune_kind(
    (tracker, clock): (&dyn Tracker, &dyn Clock),
    pruning: Pruning<'_>,
    what: Expiring,
    position: &mut PruningPosition,
    pruned: &mut Pruned,
) -> Result<u64, Error> {
    let mut pages = Pages::new(pruning, what, position.0.remove(&what).unwrap_or(0));
    let (mut deleted, mut pace) = (0, Pace::first());
    loop {
        let batch = gather(tracker, &mut pages, pruning, what).await?;
        let Some(batch) = batch else { break };
        pruned.archived.extend(batch.archived);
        let mut numbers = batch.numbers;
        while !numbers.is_empty() {
            let rest = numbers.split_off(numbers.len().min(pace.0));
            let (rows, began) = (numbers.len(), clock.now());
            deleted += tracker.prune(Prune { job: pruning.job, what, before: pages.before, numbers }).await?;
            pace = pace.after(rows, clock.now().since(began));
            numbers = rest;
        }
    }
    if let Some(after) = pages.after {
        position.0.insert(what, after);
        pruned.more = true;
    }
    Ok(deleted)
}

/// Rows that may be deleted now.
struct Batch {
    numbers: Vec<i64>,
    archived: Option<PathBuf>,
}

/// The next rows, already in an archive file if the job has an archive; none if there are no more.
async fn gather(
    tracker: &dyn Tracker,
    pages: &mut Pages,
    pruning: Pruning<'_>,
    what: Expiring,
) -> Result<Option<Batch>, Error> {
    let Some(folder) = &pruning.retention.archive else {
        let page = pages.next(tracker).await?;
        return Ok(page.map(|page| Batch { numbers: page.numbers, archived: None }));
    };
    let (mut numbers, mut archive) = (Vec::new(), None);
    while numbers.len() < FILE_ROWS_MAX {
        let Some(page) = pages.next(tracker).await? else { break };
        if page.numbers.is_empty() {
            continue;
        }
        numbers.extend(page.numbers);
        let folder = folder.clone();
        archive = Some(blocking(move || Archive::append(archive, &folder, &page.rows)).await?);
    }
    let Some(archive) = archive else { return Ok(None) };
    let (name, now) = (pruning.name.to_owned(), pruning.now);
    let path = blocking(move || archive.finish(&name, what, now)).await?;
    Ok(Some(Batch { numbers, archived: Some(path) }))
}

/// Writes files outside the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Stopped))
}

/// The pages of one kind.
struct Pages {
    job: Option<JobId>,
    what: Expiring,
    before: Timestamp,
    now: Timestamp,
    /// Where to go on; none if that was all.
    after: Option<i64>,
    rows_left: u64,
}

impl Pages {
    fn new(pruning: Pruning<'_>, what: Expiring, after: i64) -> Self {
        let keep = pruning.retention.keep.get(&what).copied().unwrap_or_default();
        let (job, before) = (pruning.job, pruning.now - keep);
        Self { job, what, before, now: pruning.now, after: Some(after), rows_left: pruning.rows_max }
    }

    /// The next page, which may be empty; none if that was all, or as much as is allowed.
    async fn next(&mut self, reader: &(impl Reader + ?Sized)) -> Result<Option<ExpiredPage>, Error> {
        let limit = self.rows_left.min(PAGE_ROWS.into()) as u32;
        let Some(after) = self.after.filter(|_| limit > 0) else { return Ok(None) };
        let Self { job, what, before, now, .. } = *self;
        let expired = Expired { job, what, before, now, after, limit };
        let page = reader.expired(expired).await?;
        self.rows_left -= u64::from(limit);
        self.after = page.next;
        Ok(Some(page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_what_a_row_takes() {
        let millis = Duration::from_millis;
        let pace = Pace::first();
        assert_eq!(pace.after(100, millis(100)).0, 50);
        assert_eq!(pace.after(100, millis(10)).0, 200, "at most twice as many");
        assert_eq!(pace.after(100, Duration::ZERO).0, 200);
        assert_eq!(pace.after(1, Duration::from_hours(1)).0, 1, "and one at least");
        assert_eq!(Pace(900).after(900, millis(1)).0, 1000);
    }
}
