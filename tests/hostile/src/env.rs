//! Reads environment and arguments: both are empty in a sandbox.

use gristmill_guest::{Failure, Work};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Surroundings {
    env: Vec<(String, String)>,
    args: Vec<String>,
}

pub(crate) fn run(_: &Work) -> Result<Surroundings, Failure> {
    Ok(Surroundings { env: std::env::vars().collect(), args: std::env::args().collect() })
}
