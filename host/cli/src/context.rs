//! What every command is given.
//!
//! Owns the global options, and the runtime that a command waits in. Never prints itself: `out` does.

use std::path::PathBuf;
use std::sync::Arc;

use gristmill_model::{Clock, SystemClock};
use tokio::runtime::{Builder, Runtime};

use crate::failure::Failure;
use crate::out::Out;

/// What every command is given.
pub(crate) struct Context {
    /// Prints.
    pub(crate) out: Out,
    /// The data folder, if `--data` names one.
    pub(crate) data: Option<PathBuf>,
    /// The tracker, if `--tracker` names one.
    pub(crate) tracker: Option<String>,
    /// Tells the time.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Context {
    pub(crate) fn new(out: Out, data: Option<PathBuf>, tracker: Option<String>) -> Self {
        Self { out, data, tracker, clock: Arc::new(SystemClock) }
    }
}

/// A runtime for the calling thread.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::of_machine("the event loop cannot be started", &error))
}

/// Waits for a future on the calling thread.
pub(crate) fn wait<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime()?.block_on(future)
}
