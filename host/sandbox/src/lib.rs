//! Components: load, hash, inspect, check against grants, run one attempt.
//!
//! Owns wasmtime, which no other crate uses: engine, pool, compiled-code cache, the imports that a guest sees, and its
//! limits. Never lets a guest's fault become an error of the host, and never knows jobs, queues or databases.

mod abi;
mod attempt;
mod bytes;
mod cache;
mod compile;
mod engine;
mod error;
mod files;
mod handler;
mod http;
mod imports;
mod inspect;
mod limiter;
mod log;
mod machine;
mod names;
mod outcome;
mod precompiled;
mod run;
mod state;
mod ticker;
mod virtual_world;
mod wasi;

pub use attempt::{
    Attempt, AttemptContext, DiscoverRequest, DiscoveryAttempt, GuestFailure, MergeAttempt, MergeRequest, NewItem,
    Page, Traces, Work,
};
pub use bytes::{COMPONENT_BYTES_MAX, canonical_hash};
pub use compile::{COMPILE_ARGUMENT, Compiler, compile_as_child};
pub use engine::{Compiling, HELD_MAX, Sandbox, Settings, THREAD_STACK_BYTES};
pub use error::Error;
pub use files::Granted;
pub use handler::Handler;
pub use inspect::{GrantUse, Inspection, Offers, StageInfo, inspect, inspect_bytes};
pub use log::LOG_BYTES_MAX;
pub use run::PATIENCE;

#[cfg(test)]
mod tests;
