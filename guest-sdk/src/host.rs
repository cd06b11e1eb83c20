//! What a handler may call with no grant, and the secrets it was granted.
//! Owns nothing: each function is one call to the host.
//! Never available natively: a test that gets here panics, so keep what you test apart from these calls.

use std::fmt::Display;

use serde::de::DeserializeOwned;

pub use crate::bindings::base::gristmill::handler::secrets::Secret;

use crate::bindings::base::gristmill::handler::{host, secrets};
use crate::failure::{Failure, OrFail};

/// Lines of the attempt's log, which is kept with the attempt and bounded.
///
/// ```no_run
/// # use gristmill_guest::log;
/// log::warn("no licence field");
/// log::info(format_args!("{} files", 12));
/// ```
pub mod log {
    use std::fmt::Display;

    use crate::bindings::base::gristmill::handler::host::{Level, log};

    /// For whoever follows each step.
    pub fn trace(message: impl Display) {
        log(Level::Trace, &message.to_string());
    }

    /// For whoever debugs the handler.
    pub fn debug(message: impl Display) {
        log(Level::Debug, &message.to_string());
    }

    /// For whoever runs the job.
    pub fn info(message: impl Display) {
        log(Level::Info, &message.to_string());
    }

    /// Something is odd, and the work goes on.
    pub fn warn(message: impl Display) {
        log(Level::Warn, &message.to_string());
    }

    /// Something is wrong; a failure most often follows.
    pub fn error(message: impl Display) {
        log(Level::Error, &message.to_string());
    }
}

/// The job's parameter of that name; none if the job has no such parameter. Each read is recorded, so a change of the
/// parameter makes stale only what read it.
///
/// # Errors
/// If the parameter is no `T`.
pub fn param<T: DeserializeOwned>(name: &str) -> Result<Option<T>, Failure> {
    host::param(name)
        .map(|text| serde_json::from_str(&text).or_permanent(format_args!("parameter `{name}`")))
        .transpose()
}

/// Says that this attempt used `amount` of what `meter` counts. Traps unless it is finite and not negative.
pub fn charge(meter: &str, amount: f64) {
    host::charge(meter, amount);
}

/// Says how far this attempt is: a fraction from 0 to 1, and a few words.
pub fn progress(fraction: f64, message: impl Display) {
    host::progress(fraction, &message.to_string());
}

/// A secret's handle; [`reveal`](Secret::reveal) gives its text. Permanent if the job does not grant it.
///
/// # Errors
/// If the job does not grant the secret.
pub fn secret(name: &str) -> Result<Secret, Failure> {
    secrets::get(name).ok_or_else(|| {
        Failure::permanent(format!(
            "secret `{name}` is not granted: add `grants: {{ secrets: [{name}] }}` to the stage"
        ))
    })
}
