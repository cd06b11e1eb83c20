//! The memory limit of one attempt.
//!
//! Owns the count of what a guest's memories and tables hold, and whether it ever wanted more than it may have. Never
//! lets a growth fail quietly where the limit forbids it: that is a trap, so that every language ends the same way.

use std::io;

use wasmtime::{ResourceLimiter, Result, bail};

use crate::machine;

/// The largest table, in elements: the pool's tables are made for it.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 1 << 16;

/// How many of each a component may have. Python's tools make 38 instances, every known one at most two memories and two
/// tables. The pool has so many for each attempt, so that no component takes another's.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;
pub(crate) const MEMORIES_MAX: u32 = 4;
pub(crate) const TABLES_MAX: u32 = 8;

#[derive(Debug)]
pub(crate) struct Limiter {
    bytes_max: usize,
    bytes: usize,
    /// What the guest wanted, and could not have.
    refused_bytes: Option<usize>,
    /// What the machine said when it refused memory that the limit allows.
    refusal: Option<io::Error>,
}

impl Limiter {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            bytes: 0,
            refused_bytes: None,
            refusal: None,
        }
    }

    /// What all memories of the guest hold; as they never shrink, also the most they ever held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// What the guest wanted in all when it was refused.
    pub(crate) fn refused_bytes(&self) -> Option<usize> {
        self.refused_bytes
    }

    /// Why the machine gave less than the limit allows, if it did.
    pub(crate) fn refusal(&self) -> Option<&io::Error> {
        self.refusal.as_ref()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.bytes_max {
            self.refused_bytes = Some(bytes);
            bail!("the memory limit");
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        // The memory's own maximum, or the machine's: the guest is told, and if it traps upon it, this is why. A guess
        // too high by what was just asked for does not matter any more.
        self.refused_bytes = Some(self.bytes);
        self.refusal = machine::refusal(&error);
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            self.refused_bytes = Some(self.bytes);
            bail!("the table limit");
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}
