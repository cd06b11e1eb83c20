//! Writes gristmill handlers in Rust: a struct, a trait, and one macro.
//! Owns the bindings to `wit/`, the typed view of them, and the guest's allocator.
//! Never does anything that a handler in another language could not do.
//!
//! # A handler
//!
//! ```
//! use gristmill_guest::{DiscoverRequest, Discovery, Failure, NewItem, Page, Stage, Stages, Work, log, stage};
//! use serde::{Deserialize, Serialize};
//!
//! struct Words;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Text { text: String }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Count { words: usize }
//!
//! impl Discovery for Words {
//!     fn discover(_: &DiscoverRequest) -> Result<Page, Failure> {
//!         let text = Text { text: "to be or not".to_owned() };
//!         Ok(Page::last(vec![NewItem::new("hamlet", &text)?]))
//!     }
//! }
//!
//! impl Stages for Words {
//!     const STAGES: &'static [Stage] = &[
//!         stage!("count", "counts words", count),
//!         stage!("verdict", "says whether a text is long", verdict),
//!     ];
//! }
//!
//! fn count(work: &Work) -> Result<Count, Failure> {
//!     let Text { text } = work.data()?;
//!     if text.is_empty() {
//!         return Err(Failure::skip("no text"));
//!     }
//!     Ok(Count { words: text.split_whitespace().count() })
//! }
//!
//! fn verdict(work: &Work) -> Result<&'static str, Failure> {
//!     let Count { words } = work.upstream("count")?;
//!     if words > 10_000 {
//!         log::warn(format_args!("{words} words"));
//!     }
//!     Ok(if words > 1_000 { "long" } else { "short" })
//! }
//!
//! gristmill_guest::export!(Words: stages, discovery);
//!
//! # fn main() -> Result<(), Failure> {
//! // A stage is a function: test it natively.
//! let work = Work::new("count", "hamlet", &Text { text: "to be or not".to_owned() })?;
//! assert_eq!(count(&work)?.words, 4);
//! let work = Work::new("verdict", "hamlet", &())?.with_upstream("count", &Count { words: 4 })?;
//! assert_eq!(verdict(&work)?, "short");
//! # Ok(())
//! # }
//! ```
//!
//! Build it as a `cdylib` for `wasm32-wasip2` (`gristmill build` does, with the flags that make the bytes immune to
//! formatting). `export!` asks for what the handler offers and nothing else, so a component that only runs stages
//! needs no `discovery`.
//!
//! # Failures
//!
//! A stage returns a [`Failure`]: [`retry`](Failure::retry), [`later`](Failure::later),
//! [`permanent`](Failure::permanent) or [`skip`](Failure::skip). `?` makes any error permanent; [`OrFail`] makes it
//! something else: `read().or_retry()?`.
//!
//! # Panics
//!
//! A panic is an outcome of the attempt (a trap), not of the host. Its message is in the attempt's log, since the host
//! keeps what a handler writes to stderr. File and line are not: release builds leave them out, because one comment
//! line more would change the component's hash. A debug build (`cargo build --target wasm32-wasip2` without
//! `-Zlocation-detail=none`) has them.
//!
//! # Memory
//!
//! Small work lives in 48 KiB of the instance's initial memory; what is larger goes to the system's allocator.

mod arena;
#[doc(hidden)]
pub mod bindings;
mod discovery;
mod export;
mod failure;
mod host;
mod merging;
mod stages;

pub use discovery::{DiscoverRequest, Discovery, NewItem, Page};
#[doc(hidden)]
pub use export::Exported;
pub use failure::{Failure, OrFail};
pub use host::{Secret, charge, log, param, progress, secret};
pub use merging::{MergeRequest, Merging};
pub use stages::{Json, Stage, Stages, Upstream, Work, json};
