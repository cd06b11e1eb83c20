//! The model keeps its own contract.

use crate::conformance::conformance;
use crate::memory;

conformance!(memory);
