//! How much the server does at once, and for how long.
//!
//! Owns every bound by name. hyper bounds the rest: at most 100 headers, and a URI of at most 65 534 bytes. Never read
//! from a file: a status page needs no tuning.

use std::time::Duration;

/// The largest head of a request, in bytes. It is the only buffer that a client fills.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// The largest data or output that an item's page contains, in bytes. A larger one has a path of its own.
pub(crate) const SHOWN_BYTES_MAX: usize = 64 << 10;
/// How many bytes of an answer are passed to a connection at a time.
pub(crate) const SLICE_BYTES: usize = 64 << 10;
/// How many items a page holds if the request does not say.
pub(crate) const PAGE_DEFAULT: u32 = 100;
/// How many items a page may hold.
pub(crate) const PAGE_MAX: u32 = 1000;
/// How many meters of a job become metrics. Handlers choose their names, and a label must not have unlimited values.
pub(crate) const METERS_MAX: usize = 100;
/// How often accepting a connection may fail in a row.
pub(crate) const ACCEPT_FAILURES_MAX: u32 = 60;
/// How long to wait after accepting failed. Most likely the process has no open files left.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The server's limits. Tests make them smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections at once. One more replaces the oldest that has not sent its request yet. If all have, it waits in
    /// the system's backlog.
    pub(crate) connections: usize,
    /// Reads of the tracker at once: as many as its pool has connections.
    pub(crate) reads: usize,
    /// The longest time from asking for a read to its answer.
    pub(crate) read_time: Duration,
    /// How long a request's head may take to arrive.
    pub(crate) head_time: Duration,
    /// Slices of all answers that may wait to be sent: at least as many as the largest output has.
    pub(crate) slices: usize,
    /// The longest time from accepting a connection to its end, whatever the client does.
    pub(crate) connection_time: Duration,
    /// How long open requests may take to finish at a shutdown.
    pub(crate) shutdown_time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 64,
            reads: 4,
            read_time: Duration::from_secs(10),
            head_time: Duration::from_secs(5),
            // 512 MiB; an output has at most 256 MiB.
            slices: 8192,
            connection_time: Duration::from_secs(60),
            shutdown_time: Duration::from_secs(5),
        }
    }
}
