//! The care of a tracker: what is old enough to go, and what is not as it should be.

use gristmill_model::{Expiring, JobId, Timestamp};

use super::expired::ExpiredRow;

/// Data that is old enough to go.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The job; none: what belongs to no job, as some events do.
    pub job: Option<JobId>,
    /// What kind.
    pub what: Expiring,
    /// Older than this.
    pub before: Timestamp,
    /// Behind this number of its table, in whose order it is looked through. The newest attempt, event and item of a
    /// tracker are never old enough: a number must not be given out again.
    pub after: i64,
    /// How many rows are looked at, at most.
    pub limit: u32,
}

/// A page of data that is old enough to go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpiredPage {
    /// The rows, by number.
    pub numbers: Vec<i64>,
    /// What they hold, in the same order.
    pub rows: Vec<ExpiredRow>,
    /// Where to go on; none: that was all.
    pub next: Option<i64>,
}

/// Data to delete: what `expired` found. What has changed since is left alone.
#[derive(Clone, Debug)]
pub struct Prune {
    /// The job; none: what belongs to no job, as some events do.
    pub job: Option<JobId>,
    /// What kind.
    pub what: Expiring,
    /// Older than this.
    pub before: Timestamp,
    /// The rows, by number.
    pub numbers: Vec<i64>,
}

/// What a tracker's own examination found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// How many items were looked at.
    pub items: u64,
    /// How many blobs were looked at.
    pub blobs: u64,
    /// What differs: the first `DIFFERENCES_MAX` of it.
    pub differences: Vec<Difference>,
    /// How much differs.
    pub differences_total: u64,
}

/// How many differences an examination tells of.
pub const DIFFERENCES_MAX: usize = 1000;

/// Something that is not as the facts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind of thing: `stage count`, `mask`, `queue row without item`.
    pub kind: &'static str,
    /// Which one.
    pub place: String,
    /// What is stored.
    pub found: String,
    /// What the facts say.
    pub expected: String,
}

/// What sweeping blobs or components did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files that were looked at, or components.
    pub looked: u64,
    /// Files that no result names any more, or components that nothing needs any more, and that are gone.
    pub removed: u64,
    /// What those held.
    pub bytes: u64,
    /// The folder to go on with; none: that was the last of the 256.
    pub next: Option<u8>,
}
