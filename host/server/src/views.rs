//! The JSON that the HTTP API and the command line write: a stable form of the tracker's records.
//!
//! Owns the names and order of the fields, and how a record becomes a view. Fields may be added, but none is ever
//! renamed, removed, or left out if empty: an unknown value is `null`. Never read back.
//!
//! A time is RFC 3339 in UTC with six decimals. A version is the 64 digits of its digest. JSON from a handler is
//! written unchanged, digit by digit. Statuses, states, reasons and outcomes are the names of the model.

mod item;
mod job;
mod operating;
mod values;

pub use item::{AttemptView, CountersView, ItemDetailView, ItemStageView, ItemView, ItemsPage, SightingView};
pub use job::{JobDetailView, JobView, StageView};
pub use operating::{DeadView, DifferenceView, EventView, ExaminationView, OperationView};
use serde::Serialize;
pub use values::{Counts, JsonText, Sums, Time};

/// Why a request failed, and a hint.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ErrorView<'a> {
    /// One sentence.
    pub error: &'a str,
    /// What to do about it.
    pub hint: &'a str,
}
