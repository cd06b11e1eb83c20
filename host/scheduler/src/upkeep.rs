//! Keeping the tracker small, while the host runs.
//!
//! Owns the rhythm: a little at a time, and soon again while there is more. Rows of no job have a retention of their
//! own. A failure is logged and tried again, and stops no job. Never decides what is old, or the order of archive and
//! deletion: the tracker does.

use std::time::Duration;

use gristmill_model::{Clock, JobId, Retention};
use gristmill_tracker::{Error, Pruned, Pruning, PruningPosition, Tracker, host_retention, prune};

/// How long to rest when everything has been checked.
const REST: Duration = Duration::from_mins(1);
/// How long to rest when there is more.
const PAUSE: Duration = Duration::from_secs(1);
/// How many rows of each kind are checked in a turn.
const ROWS_MAX: u64 = 5000;

/// The upkeep of all jobs of a host.
pub(crate) struct Upkeep {
    kept: Vec<Kept>,
}

struct Kept {
    /// The job; none for rows of no job.
    job: Option<JobId>,
    name: String,
    retention: Retention,
    /// Where the next turn goes on.
    position: PruningPosition,
}

impl Upkeep {
    /// The upkeep of these jobs, and of rows of no job.
    pub(crate) fn new<'j>(jobs: impl IntoIterator<Item = (JobId, &'j str, &'j Retention)>) -> Self {
        let kept = |job, name: &str, retention| {
            let (name, position) = (name.to_owned(), PruningPosition::default());
            Kept { job, name, retention, position }
        };
        let jobs = jobs.into_iter().filter(|(_, _, retention)| !retention.keep.is_empty());
        let jobs = jobs.map(|(job, name, retention)| kept(Some(job), name, retention.clone()));
        Self { kept: jobs.chain([kept(None, "", host_retention())]).collect() }
    }

    /// Does a turn. Returns itself, and how long to rest after it.
    pub(crate) async fn turn(mut self, tracker: &dyn Tracker, clock: &dyn Clock) -> (Self, Duration) {
        let mut more = false;
        for job in &mut self.kept {
            match job.turn(tracker, clock).await {
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
    async fn turn(&mut self, tracker: &dyn Tracker, clock: &dyn Clock) -> Result<Pruned, Error> {
        let Self { job, name, retention, position } = self;
        let pruning = Pruning { job: *job, name, retention, now: clock.now(), rows_max: ROWS_MAX };
        prune(tracker, clock, pruning, position).await
    }
}
