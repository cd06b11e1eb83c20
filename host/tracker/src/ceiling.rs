//! The bare writes that a host is compared with in the bench.
//!
//! Owns the size of the comparison; each backend has its own statements. Never used by a host.

/// A run of bare writes: `items` items through `stages` chained stages.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    /// How many items.
    pub items: u32,
    /// How many stages each item has.
    pub stages: u8,
    /// How many stage executions each transaction writes.
    pub batch: u32,
    /// How many bytes of data each item has.
    pub data_bytes: usize,
    /// How many bytes each output has.
    pub output_bytes: usize,
}
