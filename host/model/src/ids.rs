//! The ids that cross crates.
//!
//! Owns their packing: one integer identifies a stage of a job, and one a stage of an item. Never allocates an id: the
//! tracker does.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A job in one tracker.
    JobId
);
id!(
    /// An item in one tracker.
    ItemId
);
id!(
    /// One stage version that the tracker has seen.
    VersionId
);
id!(
    /// One process that runs jobs, from its start to its end: a restarted host has another id.
    HostId
);
id!(
    /// One recorded attempt.
    AttemptId
);
id!(
    /// One operation: what a person asked to be done with many items.
    OperationId
);
id!(
    /// The number of a lease. A later lease has a higher one, and every write to leased work must match it. So a host
    /// that was thought dead cannot settle work that was given to another host.
    Fence
);

/// How many low bits of a packed key hold the stage.
const BIT_WIDTH: u32 = 6;

/// A stage's position in the masks of its job: 0 to 62. The tracker assigns it once, and it outlives edits of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageBit(pub u8);

impl StageBit {
    /// The mask with this bit alone.
    pub const fn mask(self) -> u64 {
        1 << self.0
    }
}

/// A stage of a job: `job << 6 | bit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub i64);

impl StageId {
    /// Packs a job and a bit.
    pub const fn new(job: JobId, bit: StageBit) -> Self {
        Self(job.0 << BIT_WIDTH | bit.0 as i64)
    }

    /// The stage's bit.
    pub const fn bit(self) -> StageBit {
        StageBit((self.0 & ((1 << BIT_WIDTH) - 1)) as u8)
    }

    /// The stage's job.
    pub const fn job(self) -> JobId {
        JobId(self.0 >> BIT_WIDTH)
    }
}

/// A stage of an item: `item << 6 | bit`. One integer, because a table keyed by one is a quarter faster to write than
/// one keyed by two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageKey(pub i64);

impl StageKey {
    /// Packs an item and a bit.
    pub const fn new(item: ItemId, bit: StageBit) -> Self {
        Self(item.0 << BIT_WIDTH | bit.0 as i64)
    }

    /// The item.
    pub const fn item(self) -> ItemId {
        ItemId(self.0 >> BIT_WIDTH)
    }

    /// The stage's bit.
    pub const fn bit(self) -> StageBit {
        StageBit((self.0 & ((1 << BIT_WIDTH) - 1)) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_reversible() {
        for item in [1, 2, 77, 1 << 40] {
            for bit in [0, 1, 62] {
                let key = StageKey::new(ItemId(item), StageBit(bit));
                assert_eq!((key.item(), key.bit()), (ItemId(item), StageBit(bit)));
                let stage = StageId::new(JobId(item), StageBit(bit));
                assert_eq!((stage.job(), stage.bit()), (JobId(item), StageBit(bit)));
            }
        }
    }
}
