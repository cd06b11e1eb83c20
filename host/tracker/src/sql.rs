//! SQL text that both backends share.
//!
//! Owns lists of columns in the order in which they are read, values that SQL and Rust must compute alike, and the
//! choice of an index for a list of items. Never has a whole statement: those stand beside their row mapping, in their
//! backend.

use gristmill_model::ItemStatus;

use crate::records::ItemsFilter;

/// The columns of an item that rules are given, of the narrow table `items`.
#[macro_export]
macro_rules! item_columns {
    () => {
        "items.id, items.job_id, done, skipped, dead, live, stale, priority, cancelled_at IS NOT NULL"
    };
}

/// The columns of an item that people are shown, of `items` and `item_data`.
#[macro_export]
macro_rules! item_row_columns {
    () => {
        "items.id, item_data.key, done, skipped, dead, live, stale, cancelled_at IS NOT NULL, discovered_at, changed_at"
    };
}

/// The columns of an operation.
#[macro_export]
macro_rules! operation_columns {
    () => {
        "id, kind, job_id, state, planned, done, most, rate, next_at, actor, why, created_at, updated_at, filter, position"
    };
}

/// The columns of a dead stage, of `item_stages AS settled`, `item_data` and `stages`.
#[macro_export]
macro_rules! dead_columns {
    () => {
        "settled.key, item_data.key, stages.name, reason, attempts, lost, deferrals, settled_at, error"
    };
}

/// The status of an item, as SQL. `?2` is the mask of all stages. It says the same as `ItemStatus::of`, and a test
/// compares the two over all small masks.
pub const STATUS_CASE: &str = "CASE
    WHEN cancelled_at IS NOT NULL THEN 5
    WHEN (done | skipped) & ~stale & ?2 = ?2 THEN 1
    WHEN live & ?2 <> 0 THEN 2
    WHEN dead & ?2 <> 0 THEN 3
    ELSE 4 END";

/// How many keys with a prefix are read and sorted at most, for a page of items.
pub const PREFIX_KEYS_MAX: u32 = 10_000;

/// The index that finds the items of a list. All but the first return items by id, and read some that do not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemsBy {
    /// The index of keys: few keys have the prefix.
    Key,
    /// The index of items with a dead stage.
    Dead,
    /// The index of cancelled items.
    Cancelled,
    /// The queue, which has rows only of active items.
    Queue,
    /// Their ids: most items have that status, or the list has no status.
    Id,
}

impl ItemsBy {
    /// The index for a list. `is_rare` says that at most `PREFIX_KEYS_MAX` keys have its prefix.
    pub const fn of(filter: &ItemsFilter, is_rare: bool) -> Self {
        match filter.status {
            _ if is_rare => Self::Key,
            Some(ItemStatus::Failed) => Self::Dead,
            Some(ItemStatus::Cancelled) => Self::Cancelled,
            Some(ItemStatus::Active) => Self::Queue,
            Some(ItemStatus::Done | ItemStatus::Pending) | None => Self::Id,
        }
    }
}

/// The canonical hashes of the components whose bytes are needed: by a stage of a job's file as its current version, by
/// a result, or perhaps by what is leased, which may run an earlier version. A counter may be spread over several rows.
pub const NEEDED_COMPONENTS: &str = "SELECT component_hash FROM versions
    WHERE id IN (SELECT version_id FROM stages WHERE retired_at IS NULL)
        OR id IN (SELECT version_id FROM version_counts GROUP BY version_id HAVING sum(n) > 0)
        OR stage_id IN (SELECT stage_id FROM stage_counts WHERE state = 2 GROUP BY stage_id HAVING sum(n) > 0)";

/// Whether the counters say that a job has no item of the status of a list: nothing is looked through for that. Only
/// for what no index leads to, and in a job whose items are all counted.
pub const fn asks_counter(filter: &ItemsFilter) -> bool {
    matches!(filter.status, Some(ItemStatus::Done | ItemStatus::Pending))
}

/// The first text after all texts with a prefix; none if there is no such text.
pub fn prefix_end(prefix: &str) -> Option<String> {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        // Surrogates are no characters, so the character after them follows.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            end.push(next);
            return Some(end.into_iter().collect());
        }
    }
    None
}
