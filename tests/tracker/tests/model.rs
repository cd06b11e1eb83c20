//! The model keeps the contract that the backends are held to.

use gristmill_test_tracker::{Model, conformance};

conformance!(Model::default());
