//! Job YAML to a checked job: every error at once, with its place.
//!
//! Owns the job file: its keys, its grammar, its JSON Schema, and the report on what is wrong with one. Never looks at
//! what the file points to (components, folders), never reads the environment, never prints.

mod check;
mod formats;
mod interpolate;
mod keys;
mod load;
mod report;
mod resolve;
mod schema;
mod shape;
mod stages;
mod units;
mod yaml;

pub use load::{FILE_BYTES_MAX, Overrides, load, load_from, parse};
pub use report::{Place, Problem, Report};
pub use schema::schema;
pub use units::{duration, rate, size};
