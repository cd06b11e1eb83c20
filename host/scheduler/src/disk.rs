//! How much room the disk has.
//!
//! Owns the two thresholds: below the first no new items are looked for, below half of it no more work is claimed. So
//! there is room left to record what is under way. Never frees anything.

use std::path::Path;

/// What the room on the disk allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Everything.
    Ample,
    /// No new items.
    Low,
    /// Nothing new at all: what is under way is finished.
    Full,
}

impl Disk {
    /// What so much room allows, where `min_free` bytes are to stay free; 0: everything.
    pub(crate) const fn of(free: u64, min_free: u64) -> Self {
        if free >= min_free {
            Self::Ample
        } else if free >= min_free / 2 {
            Self::Low
        } else {
            Self::Full
        }
    }

    /// The name of the event that says so.
    pub(crate) const fn event(self) -> &'static str {
        match self {
            Self::Ample => "disk.ample",
            Self::Low => "disk.low",
            Self::Full => "disk.full",
        }
    }
}

/// The bytes that an ordinary process may still write to the disk of this folder; none if the system does not say.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_runs_out_in_two_steps() {
        let at = |free| Disk::of(free, 100);
        assert_eq!([at(100), at(99), at(50), at(49)], [Disk::Ample, Disk::Low, Disk::Low, Disk::Full]);
        assert_eq!(Disk::of(0, 0), Disk::Ample, "without a threshold nothing is held back");
    }

    #[test]
    fn the_system_says_how_much_room_there_is() {
        assert!(free_bytes(Path::new("/")).is_some());
        assert_eq!(free_bytes(Path::new("/no/such/folder")), None);
    }
}
