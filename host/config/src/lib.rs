//! From job YAML to a checked job: reports every error at once, with its place.
//!
//! Owns the job file: its keys, its grammar, its JSON Schema, and the report of its faults. Never looks at what the
//! file points to (components, folders), never reads the environment, never prints.

mod check;
mod draft;
mod encoding;
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

pub use draft::Draft;
pub use load::{FILE_BYTES_MAX, Overrides};
pub use report::{Place, Problem, Report};
pub use schema::schema;
pub use units::{duration, rate, size};
