//! What ends a server early.
//!
//! Owns the one error type of the crate. What goes wrong within a request is no such thing: see `fault`.

use std::io;

use thiserror::Error;

/// What ends a server early.
#[derive(Debug, Error)]
pub enum Error {
    /// The system gives out no connections any more.
    #[error("no connection can be accepted: {0}")]
    Accept(#[source] io::Error),
}
