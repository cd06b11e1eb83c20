//! Returns text that is not JSON.

use gristmill_guest::{Failure, Work};

pub(crate) fn run(_: &Work) -> Result<String, Failure> {
    Ok("{ not json".to_owned())
}
