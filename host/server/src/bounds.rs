//! How much the server does at once, and for how long.
//!
//! Owns every bound by name. What it leaves to hyper: at most 100 headers, and a URI of at most 65 534 bytes. Never
//! read from a file: nobody has to tune a status page.

use std::time::Duration;

/// How large a request's head may be, and with it the only buffer that a stranger fills.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// The largest data or output that an item's page holds. A larger one has a path of its own.
pub(crate) const SHOWN_BYTES_MAX: usize = 64 << 10;
/// How much of an answer is handed to a connection at a time.
pub(crate) const SLICE_BYTES: usize = 64 << 10;
/// How many items a page holds if the request does not say.
pub(crate) const PAGE_DEFAULT: u32 = 100;
/// How many items a page may hold.
pub(crate) const PAGE_MAX: u32 = 1000;
/// How many meters of a job become metrics. Their names are a handler's, and a label must not take any value.
pub(crate) const METERS_MAX: usize = 100;
/// How often accepting a connection may fail in a row.
pub(crate) const ACCEPT_FAILURES_MAX: u32 = 60;
/// How long to wait after accepting failed, since then most likely no file is left to open.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The most of each. Tests make them smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections at once. Another one takes the place of the oldest that has not asked for anything yet; if all have,
    /// it waits in the system's backlog.
    pub(crate) connections: usize,
    /// Reads of the tracker at once: as many as its pool keeps connections.
    pub(crate) reads: usize,
    /// From asking for a read to its answer.
    pub(crate) read_time: Duration,
    /// How long a request's head may take to arrive.
    pub(crate) head_time: Duration,
    /// Slices of answers that wait for their readers at once: at least as many as the largest output has.
    pub(crate) slices: usize,
    /// From accepting a connection to its end, whatever its other side does or leaves undone.
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
            // 512 MiB; an output has 256 at most.
            slices: 8192,
            connection_time: Duration::from_secs(60),
            shutdown_time: Duration::from_secs(5),
        }
    }
}
