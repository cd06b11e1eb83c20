//! What is known, as JSON: the stable form that the HTTP API and the command line both write.
//!
//! Owns the names and order of the fields, and how a record becomes a view. Fields may be added; none is ever renamed,
//! removed, or left out for being empty: what is not known is `null`. Never read back.
//!
//! A time is RFC 3339 in UTC with six decimals. A version is the 64 digits of its digest. What a handler gave as JSON
//! stands as it gave it, digit by digit. Statuses, states, reasons and outcomes are the names of the model.

mod item;
mod job;
mod operating;
mod values;

pub use item::{AttemptView, CountersView, ItemDetailView, ItemStageView, ItemView, ItemsPage, SightingView};
pub use job::{JobDetailView, JobView, StageView};
pub use operating::{DeadView, DifferenceView, EventView, ExaminationView, OperationView};
use serde::Serialize;
pub use values::{Counts, JsonText, Sums, Time};

/// Why there is no answer, and what may help.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ErrorView<'a> {
    /// One sentence.
    pub error: &'a str,
    /// What to do about it.
    pub hint: &'a str,
}
