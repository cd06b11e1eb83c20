//! A reader that answers when it is told to, or never: an empty tracker behind a gate.

use std::sync::Arc;

use gristmill_test_tracker::{Gate, Location, Model};
use gristmill_tracker::Reader;

pub(super) struct Stub {
    pub(super) gate: Arc<Gate>,
    pub(super) reader: Arc<dyn Reader>,
}

impl Stub {
    pub(super) fn new() -> Self {
        let gate = Gate::new();
        let reader: Box<dyn Reader> = Model::behind(&gate).open();
        Self { gate, reader: reader.into() }
    }
}
