//! Upkeep of a tracker: rows that are old enough to delete, and the result of an examination.

use gristmill_model::{Expiring, JobId, Timestamp};

use super::expired::ExpiredRow;

/// Which old rows to find.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The job; none for rows of no job, such as events of hosts.
    pub job: Option<JobId>,
    /// What kind.
    pub what: Expiring,
    /// Older than this.
    pub before: Timestamp,
    /// The time now. A row with a later date was recorded by a clock that was ahead, so it says nothing about the age
    /// of the rows after it.
    pub now: Timestamp,
    /// Only rows after this number: the table is read in the order of its numbers. The newest attempt, event and item
    /// of a tracker are never old enough, since their numbers must not be used again.
    pub after: i64,
    /// How many rows are checked, at most.
    pub limit: u32,
}

/// A page of rows that are old enough to delete.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpiredPage {
    /// The rows, by number.
    pub numbers: Vec<i64>,
    /// Their contents, in the same order.
    pub rows: Vec<ExpiredRow>,
    /// Where to go on; none if that was all.
    pub next: Option<i64>,
}

/// Rows to delete, as `expired` found them. Rows that have changed since are not deleted.
#[derive(Clone, Debug)]
pub struct Prune {
    /// The job; none for rows of no job, such as events of hosts.
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
    /// How many items were checked.
    pub items: u64,
    /// How many blobs were checked.
    pub blobs: u64,
    /// The first `DIFFERENCES_MAX` differences.
    pub differences: Vec<Difference>,
    /// The number of differences.
    pub differences_total: u64,
}

/// How many differences an examination returns.
pub const DIFFERENCES_MAX: usize = 1000;

/// A stored value that differs from what the facts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The kind of value: `stage count`, `mask`, `queue row without item`.
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
    /// The bytes of those.
    pub bytes: u64,
    /// The folder to go on with; none after the last of the 256.
    pub next: Option<u8>,
}
