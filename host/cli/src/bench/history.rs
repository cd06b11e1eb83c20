//! The cost of a long history: the same work on an empty tracker, and on one with many finished items.
//!
//! Owns the comparison. The history belongs to the same job, and is written as bare rows. Never measures writing it.

use std::sync::Arc;

use gristmill_scheduler::{Error, Host};
use gristmill_tracker_sqlite::{History, SqliteOptions, SqliteTracker};
use serde::Serialize;

use super::bed::{Bed, OUTPUT_BYTES, rate, runtime};
use super::report::{Line, size, whole};

/// The figures of one tracker. Times in seconds, sizes in bytes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Grown {
    pub(crate) history: u32,
    pub(crate) executions_per_second: f64,
    pub(crate) discovered_per_second: f64,
    pub(crate) rediscovered_per_second: f64,
    pub(crate) claim_micros: f64,
    pub(crate) database_bytes: u64,
}

pub(crate) const LINES: [Line<Grown>; 5] = [
    ("stage executions/s", |run| run.executions_per_second, whole),
    ("discovered items/s, new", |run| run.discovered_per_second, whole),
    ("discovered items/s, unchanged", |run| run.rediscovered_per_second, whole),
    ("a claim of 64, µs", |run| run.claim_micros, whole),
    ("database", |run| run.database_bytes as f64, size),
];

/// Measures on a tracker with `history` finished items.
pub(crate) fn grown(bed: &Bed, history: u32) -> Result<Grown, Error> {
    let (plan, clock, runtime) = (&bed.plan, &bed.clock, runtime()?);
    let data = plan.folder.join(format!("history-{history}"));
    let options = SqliteOptions { synchronous: plan.synchronous, ..SqliteOptions::default() };
    let job = {
        let tracker = SqliteTracker::open(&data, options, clock.now())?;
        runtime.block_on(bed.register(&tracker))?
    };
    History { items: history, output_bytes: OUTPUT_BYTES }.write(&data, &job, clock.as_ref())?;
    let (new, known, claim) = {
        let tracker = SqliteTracker::open(&data, options, clock.now())?;
        runtime.block_on(async {
            let new = bed.discover(&tracker).await?;
            let known = bed.discover(&tracker).await?;
            Ok::<_, Error>((new, known, bed.claim_time(&tracker).await?))
        })?
    };
    let tracker = SqliteTracker::open(&data, options, clock.now())?;
    let host = Host::new(bed.options(plan.workers), Arc::new(tracker));
    let jobs = vec![bed.job(false)?];
    let began = clock.now();
    let summary = runtime.block_on(host.run(jobs, std::future::pending()))?;
    let elapsed = clock.now().since(began);
    let database_bytes = std::fs::metadata(data.join("tracker.db")).map_or(0, |file| file.len());
    std::fs::remove_dir_all(&data).ok();
    Ok(Grown {
        history,
        executions_per_second: rate(summary.attempts(), elapsed),
        discovered_per_second: rate(u64::from(plan.items), new),
        rediscovered_per_second: rate(u64::from(plan.items), known),
        claim_micros: claim.as_secs_f64() * 1e6,
        database_bytes,
    })
}
