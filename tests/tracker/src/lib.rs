//! What every tracker must do.
//!
//! Owns the suite that each backend passes, the model that it is compared with, and the random sequences that compare
//! them. The model is a whole tracker on plain maps, so tests of other crates use it too. Never used outside tests.

#![expect(missing_docs, clippy::missing_panics_doc, reason = "these are tests: their names say what they show")]

pub mod conformance;
mod memory;
pub mod sequences;

pub use memory::{Gate, Model};

/// Where a tracker is kept, so that it can be opened again.
pub trait Location {
    /// Opens it.
    fn open(&self) -> Box<dyn gristmill_tracker::Tracker>;
}
