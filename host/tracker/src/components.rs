//! The bytes of components, as a tracker keeps them.
//!
//! Owns their bound, their parts, and the check of bytes against their hash. Never reads a file, and never knows what a
//! component is: the canonical hash is its caller's word.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use gristmill_model::Digest;

use crate::Error;
use crate::records::StageRegistration;

/// The largest component that is kept.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;
/// How large the parts are in which a database holds one: a message of a few hundred megabytes would be held whole by
/// both sides.
pub const COMPONENT_PART_BYTES: usize = 1 << 20;

/// A component's file, byte for byte. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct ComponentBytes(pub Arc<[u8]>);

impl Deref for ComponentBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

// Whoever prints a registration does not want megabytes of numbers.
impl fmt::Debug for ComponentBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Makes sure that these are the bytes of a component, and that they may be kept. `component` is its canonical hash,
/// `raw` that of its bytes.
///
/// # Errors
/// `ComponentTooLarge` beyond `COMPONENT_BYTES_MAX`; `Component` if the bytes are others.
pub fn check_component(component: Digest, raw: Digest, bytes: &[u8]) -> Result<(), Error> {
    let size = bytes.len() as u64;
    if size > COMPONENT_BYTES_MAX {
        return Err(Error::ComponentTooLarge { bytes: size, max: COMPONENT_BYTES_MAX });
    }
    if Digest::of(bytes) == raw { Ok(()) } else { Err(Error::Component(component)) }
}

/// One stage for each component of a job: several stages may share one.
pub fn distinct_components(stages: &[StageRegistration]) -> impl Iterator<Item = &StageRegistration> {
    let mut seen = HashSet::new();
    stages.iter().filter(move |stage| seen.insert(stage.component))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_checked_before_they_are_kept() {
        let (component, raw) = (Digest([1; 32]), Digest::of(b"bytes"));
        assert!(check_component(component, raw, b"bytes").is_ok());
        assert!(matches!(check_component(component, raw, b"other"), Err(Error::Component(hash)) if hash == component));
        let large = vec![0; COMPONENT_BYTES_MAX as usize + 1];
        let refused = check_component(component, raw, &large).err().map(|error| error.to_string());
        let text = "a component has 134217729 bytes, and a tracker keeps 134217728 at most";
        assert_eq!(refused.as_deref(), Some(text));
    }
}
