//! The loop: discover, claim, run, settle, reap.
//!
//! Owns what runs next, and on which thread. The tracker records and the sandbox runs; this crate carries work from one
//! to the other, with a bound on everything. Never knows SQL or WebAssembly, never prints and never exits.

mod attempt;
mod discover;
mod disk;
mod dispatcher;
mod driver;
mod error;
mod event;
mod flight;
mod host;
mod load;
mod pace;
mod pending;
mod source;
mod summary;
mod trace;
mod trail;
mod upkeep;
mod vitals;
mod workers;

pub use error::{Error, Problem};
pub use host::{Host, HostOptions};
pub use load::{LoadedJob, load};
pub use pace::{ATTEMPTS_IN_FLIGHT_MAX, CHUNK_MAX};
pub use summary::{Latency, Summary};
