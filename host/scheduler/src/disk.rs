//! How much room the disk has.
//!
//! Owns two thresholds: below the first, discovery stops; below half of it, claiming stops. So there is room left to
//! record the work in flight. Never frees anything.

use std::path::Path;

/// What the free space allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Everything.
    Ample,
    /// No new items.
    Low,
    /// Nothing new at all: only work in flight is finished.
    Full,
}

impl Disk {
    /// What `free` bytes allow if `min_free` bytes shall stay free; everything if that is 0.
    pub(crate) const fn of(free: u64, min_free: u64) -> Self {
        if free >= min_free {
            Self::Ample
        } else if free >= min_free / 2 {
            Self::Low
        } else {
            Self::Full
        }
    }

    /// The name of the event that reports it.
    pub(crate) const fn event(self) -> &'static str {
        match self {
            Self::Ample => "disk.ample",
            Self::Low => "disk.low",
            Self::Full => "disk.full",
        }
    }
}

/// How many bytes an ordinary process may still write to this folder's disk; none if the system does not say.
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
