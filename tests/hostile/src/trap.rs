//! Panics, which is a trap after a message on stderr. With `{"silent": true}` as data it traps without a word.

use gristmill_guest::{Failure, Work};
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Wanted {
    silent: bool,
}

pub(crate) fn run(work: &Work) -> Result<(), Failure> {
    let Wanted { silent } = work.data().unwrap_or_default();
    if silent {
        std::process::abort();
    }
    panic!("this handler panics on purpose");
}
