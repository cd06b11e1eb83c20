//! Texts of SQL that both backends say alike.
//!
//! Owns columns in the order in which they are read, and what must be computed in SQL and in Rust alike. Never a whole
//! statement: those stand beside their row mapping, in their backend.

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
