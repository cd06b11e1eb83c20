//! Returns the item's data as it is: the neighbour that must not notice the attacks.

use gristmill_guest::{Failure, Work};

pub(crate) fn run(work: &Work) -> Result<String, Failure> {
    Ok(work.data.clone())
}
