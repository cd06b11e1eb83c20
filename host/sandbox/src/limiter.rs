//! The memory limit of one attempt.
//!
//! Owns the size of a guest's memories and tables, and whether the guest ever wanted more than its limit. Never lets a
//! growth beyond the limit fail quietly: it is a trap, so that handlers in every language end the same way.

use std::io;

use wasmtime::{ResourceLimiter, Result, bail};

use crate::machine;

/// The largest table, in elements. The pool's tables have this size.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 1 << 16;

/// How many instances, memories and tables a component may have. Python's tools make 38 instances; all known tools make
/// at most two memories and two tables. The pool has this many for each attempt, so that no component takes another's
/// place.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;
pub(crate) const MEMORIES_MAX: u32 = 4;
pub(crate) const TABLES_MAX: u32 = 8;

#[derive(Debug)]
pub(crate) struct Limiter {
    bytes_max: usize,
    bytes: usize,
    /// How many bytes the guest wanted when it was refused: for the error.
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

    /// The bytes of all memories of the guest. Memories never shrink, so this is also the most that they ever had.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// How many bytes the guest wanted in total when it was refused.
    pub(crate) fn refused_bytes(&self) -> Option<usize> {
        self.refused_bytes
    }

    /// Why the machine refused memory that the limit allows, if it did.
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
        // The memory's own maximum or the machine stopped it. The guest is told, and if it then traps, this is the
        // reason. The size may now be too high by the refused growth, which does not matter any more.
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
