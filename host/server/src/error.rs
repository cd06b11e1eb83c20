//! What ends a server early.
//!
//! Owns the one error type of the crate. Never describes a fault within a request: see `fault`.

use std::io;

use thiserror::Error;

/// What ends a server early.
#[derive(Debug, Error)]
pub enum Error {
    /// The system accepts no connections any more.
    #[error("no connection can be accepted: {0}")]
    Accept(#[source] io::Error),
}
