//! What a host is compared with.
//!
//! Owns the size of the comparison; each backend writes it in its own way. Never used by a host.

/// A run of bare writes: `items` items through `stages` chained stages.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    /// How many items.
    pub items: u32,
    /// How many stages each.
    pub stages: u8,
    /// How many stage executions a transaction.
    pub batch: u32,
    /// How many bytes of output each.
    pub output_bytes: usize,
}
