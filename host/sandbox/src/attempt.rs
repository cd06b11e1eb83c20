//! The input and the result of an attempt.
//!
//! Owns the types that the scheduler uses. Never contains a type of wasmtime.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{Digest, Limits, Outcome, Timestamp};

use crate::Granted;

/// One stage of one item, as the handler receives it.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The stage to run.
    pub stage: &'a str,
    /// The item's key.
    pub item_key: &'a str,
    /// The item's data, JSON.
    pub data: &'a str,
    /// Name and output of each stage that this one needs, in the order of the job file; a skipped one is absent.
    pub upstream: &'a [(&'a str, &'a str)],
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The same whenever the same version is given the same inputs for the same item.
    pub idempotency_key: Digest,
}

/// Which page of items discovery shall return.
#[derive(Clone, Copy, Debug)]
pub struct DiscoverRequest<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The `next` of the previous page; none for the first page.
    pub cursor: Option<&'a str>,
    /// How many items at most.
    pub limit: u32,
}

/// Two versions of an item's data to merge.
#[derive(Clone, Copy, Debug)]
pub struct MergeRequest<'a> {
    /// The item's key.
    pub item_key: &'a str,
    /// The data that the host has: JSON.
    pub existing: &'a str,
    /// What discovery found now: JSON.
    pub incoming: &'a str,
}

/// What surrounds an attempt. The pointers are shared, since an attempt's store cannot hold borrowed data.
#[derive(Clone, Copy, Debug)]
pub struct AttemptContext<'a> {
    /// What it may use.
    pub limits: Limits,
    /// What it may touch, as `Handler::grant` opened it.
    pub granted: &'a Arc<Granted>,
    /// The job's parameters, each as JSON.
    pub params: &'a Arc<BTreeMap<String, String>>,
    /// The time on the clock of a handler without the clock grant: when the item was discovered.
    pub frozen_at: Timestamp,
    /// The seed of the random numbers of a handler without the random grant: the idempotency key.
    pub seed: Digest,
}

/// The result of an attempt at a stage.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// What it returned: JSON, byte for byte; present if and only if the outcome is `Done`.
    pub output: Option<String>,
    /// Why it did not succeed, or why it skips, for people: bounded.
    pub error: Option<String>,
    /// How long it asked to wait.
    pub after: Option<Duration>,
    /// What it left behind.
    pub traces: Traces,
}

/// The result of a call of discovery.
#[derive(Clone, Debug)]
pub struct DiscoveryAttempt {
    /// The page, or how it failed.
    pub result: Result<Page, GuestFailure>,
    /// What it left behind.
    pub traces: Traces,
}

/// The result of a call of merging.
#[derive(Clone, Debug)]
pub struct MergeAttempt {
    /// The merged data, JSON byte for byte, or how it failed.
    pub result: Result<String, GuestFailure>,
    /// What it left behind.
    pub traces: Traces,
}

/// How a guest failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFailure {
    /// How it ended: never `Done`.
    pub outcome: Outcome,
    /// How long it asked to wait.
    pub after: Option<Duration>,
    /// Why, for people: bounded.
    pub message: String,
}

/// What the host keeps of an attempt, however it ends.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// `host.log`, stdout and stderr, each line with its origin: `[info] fetched`, `[stderr] oops`. At most
    /// `LOG_BYTES_MAX` and a last line that says what was cut.
    pub log: String,
    /// The parameters it read, with the values it got, sorted by name.
    pub params_read: Vec<(String, Option<String>)>,
    /// What it charged, summed by meter, in the order of first use.
    pub charges: Vec<(String, f64)>,
    /// The last progress it reported.
    pub progress: Option<(f64, String)>,
    /// The most linear memory it held, in bytes.
    pub memory_bytes_max: u64,
    /// How long it took, including the time to make and drop its sandbox.
    pub elapsed: Duration,
}

/// One page of discovered items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The items.
    pub items: Vec<NewItem>,
    /// Where the next page starts; none: this was the last.
    pub next: Option<String>,
}

/// An item that discovery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewItem {
    /// Unique in the job: 1 to 1024 bytes.
    pub key: String,
    /// JSON.
    pub data: String,
    /// Higher runs sooner.
    pub priority: i32,
}
