//! The tests of every tracker.
//!
//! Owns the conformance suite that each backend passes, the model that backends are compared with, and the random
//! sequences that compare them. The model is a whole tracker on plain maps, so tests of other crates use it too. Never
//! used outside tests.

#![expect(missing_docs, clippy::missing_panics_doc, reason = "these are tests: their names say what they show")]

pub mod conformance;
mod memory;
pub mod sequences;

pub use memory::{Gate, Model};

/// A place for a tracker, so that a test can open it again.
pub trait Location {
    /// Opens it.
    fn open(&self) -> Box<dyn gristmill_tracker::Tracker>;
}
