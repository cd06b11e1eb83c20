//! Keeping the tracker small, while the host runs.
//!
//! Owns the rhythm: a little at a time, and soon again while there is more. A failure is warned of and tried again: no
//! job stops for it. What is old, and the order of archive and deletion, are the tracker's.

use std::time::Duration;

use gristmill_model::{JobId, Retention, Timestamp};
use gristmill_tracker::{Error, Pruned, Pruning, PruningPosition, Tracker, prune};

/// How long to rest when everything was looked through.
const REST: Duration = Duration::from_mins(1);
/// How long to rest when there is more.
const PAUSE: Duration = Duration::from_secs(1);
/// How many rows of each kind are looked at in a turn.
const ROWS_MAX: u64 = 5000;

/// See the module.
pub(crate) struct Upkeep {
    jobs: Vec<Kept>,
}

struct Kept {
    id: JobId,
    name: String,
    retention: Retention,
    position: PruningPosition,
}

impl Upkeep {
    /// The upkeep of these jobs; none if all of them keep everything.
    pub(crate) fn new<'j>(jobs: impl IntoIterator<Item = (JobId, &'j str, &'j Retention)>) -> Option<Self> {
        let kept = |(id, name, retention): (JobId, &str, &Retention)| Kept {
            id,
            name: name.to_owned(),
            retention: retention.clone(),
            position: PruningPosition::default(),
        };
        let jobs: Vec<Kept> =
            jobs.into_iter().filter(|(_, _, retention)| !retention.keep.is_empty()).map(kept).collect();
        (!jobs.is_empty()).then_some(Self { jobs })
    }

    /// Does a turn. Returns itself, and how long to rest.
    pub(crate) async fn turn(mut self, tracker: &dyn Tracker, now: Timestamp) -> (Self, Duration) {
        let mut more = false;
        for job in &mut self.jobs {
            match job.turn(tracker, now).await {
                Ok(pruned) => {
                    more |= pruned.more;
                    let rows: u64 = pruned.deleted.values().sum();
                    if rows > 0 {
                        tracing::info!(job = job.name, rows, "deleted what is older than the job keeps it");
                    }
                }
                Err(error) => tracing::warn!(job = job.name, %error, "what is old could not be deleted"),
            }
        }
        (self, if more { PAUSE } else { REST })
    }
}

impl Kept {
    async fn turn(&mut self, tracker: &dyn Tracker, now: Timestamp) -> Result<Pruned, Error> {
        let Self { id, name, retention, position } = self;
        prune(tracker, Pruning { job: *id, name, retention, now, rows_max: ROWS_MAX }, position).await
    }
}
