//! What a running host shows over HTTP: health, metrics, the state of its jobs.
//!
//! Owns the connections, the routes, and `views`, the JSON that both the API and the command line write. Never changes
//! anything: it has only a `Reader`, answers only `GET` (and `HEAD`), and reads no request's body.
//!
//! **There is no authentication and no TLS.** Whoever can connect reads every item, output and log. Listen on loopback,
//! or behind a proxy that identifies users. A listener on loopback answers only to its own names.
//!
//! | path | answer |
//! |---|---|
//! | `/health` | `ok`; 503 and a sentence if the tracker cannot be read |
//! | `/metrics` | the counters, as Prometheus text 0.0.4 |
//! | `/api/jobs` | a list of [`views::JobView`] |
//! | `/api/jobs/{job}` | a [`views::JobDetailView`] |
//! | `/api/jobs/{job}/items?status=&prefix=&after=&limit=` | a [`views::ItemsPage`]; `next` is the next `after` |
//! | `/api/jobs/{job}/item?key=` | a [`views::ItemDetailView`], with data and outputs up to 64 KiB |
//! | `/api/jobs/{job}/data?key=` | an item's data, whole |
//! | `/api/jobs/{job}/output?key=&stage=` | an output, whole |
//!
//! Every other answer is a [`views::ErrorView`]: 400 what was asked makes no sense, 404 there is no such thing, 405 not
//! a `GET`, 421 the `Host` is not this server's, 503 the tracker cannot be read or takes too long.

mod bounds;
mod error;
mod fault;
mod hosts;
mod metrics;
mod parameters;
mod reads;
mod routes;
mod serve;
mod slices;
#[cfg(test)]
mod tests;
pub mod views;

pub use error::Error;
pub use serve::serve;
