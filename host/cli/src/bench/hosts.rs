//! Several hosts on one Postgres, compared with the ceiling of the same database.
//!
//! Owns the hosts: each has its own thread and runtime, as processes would. Never measures in a database that is not
//! empty, and leaves it empty.

use std::sync::Arc;

use gristmill_model::Timestamp;
use gristmill_scheduler::{Error, Host, LoadedJob, Summary};
use gristmill_tracker_postgres::{PostgresOptions, PostgresTracker, Scratch};
use serde::Serialize;

use super::bed::{Bed, rate, runtime};
use super::ceilings::ceiling;
use super::report::{Line, hundredths, tenths, whole};

/// How many stage executions each transaction of the ceiling writes.
const CEILING_BATCH: u64 = 256;

/// The figures of one run: the hosts and the ceiling.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shared {
    pub(crate) hosts: usize,
    pub(crate) discovered_per_second: f64,
    pub(crate) rediscovered_per_second: f64,
    pub(crate) executions: u64,
    pub(crate) executions_per_second: f64,
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
    pub(crate) mean_batch: u64,
    pub(crate) writes_ceiling_per_second: f64,
    pub(crate) ratio_to_writes: f64,
}

pub(crate) const LINES: [Line<Shared>; 8] = [
    ("stage executions/s, all hosts", |run| run.executions_per_second, whole),
    ("  (a) the writes alone", |run| run.writes_ceiling_per_second, whole),
    ("  ratio to (a)", |run| run.ratio_to_writes, hundredths),
    ("discovered items/s, new", |run| run.discovered_per_second, whole),
    ("discovered items/s, unchanged", |run| run.rediscovered_per_second, whole),
    ("ready to settled, p50, ms", |run| run.latency_p50_ms, tenths),
    ("ready to settled, p99, ms", |run| run.latency_p99_ms, tenths),
    ("mean batch", |run| run.mean_batch as f64, whole),
];

/// Measures once, with `hosts` hosts of equal size.
pub(crate) fn shared(bed: &Bed, scratch: &Scratch, hosts: usize) -> Result<Shared, Error> {
    scratch.clear()?;
    let took = gristmill_tracker_postgres::ceiling(&ceiling(bed, CEILING_BATCH), scratch, bed.clock.as_ref())?;
    scratch.clear()?;
    let writes = rate(bed.executions(), took);
    let (new, known) = {
        let tracker = PostgresTracker::connect(scratch.url(), PostgresOptions::default(), bed.clock.now())?;
        runtime()?.block_on(async { Ok::<_, Error>((bed.discover(&tracker).await?, bed.discover(&tracker).await?)) })?
    };
    let workers = (bed.plan.workers / hosts).max(1);
    let mut opened = Vec::new();
    for _ in 0..hosts {
        let tracker = PostgresTracker::connect(scratch.url(), PostgresOptions::default(), bed.clock.now())?;
        opened.push((Host::new(bed.options(workers), Arc::new(tracker)), bed.job(false)?));
    }
    let began = bed.clock.now();
    let summaries = run(opened)?;
    let ended = summaries.iter().filter_map(|summary| summary.settled_at).max().unwrap_or(Timestamp::default());
    let executions: u64 = summaries.iter().map(Summary::attempts).sum();
    let rounds: u64 = summaries.iter().map(|summary| summary.rounds).sum();
    let executions_per_second = rate(executions, ended.since(began));
    let slowest = |part| summaries.iter().map(|summary| summary.latency.quantile(part)).max().unwrap_or_default();
    Ok(Shared {
        hosts,
        discovered_per_second: rate(u64::from(bed.plan.items), new),
        rediscovered_per_second: rate(u64::from(bed.plan.items), known),
        executions,
        executions_per_second,
        latency_p50_ms: slowest(0.5).as_secs_f64() * 1e3,
        latency_p99_ms: slowest(0.99).as_secs_f64() * 1e3,
        mean_batch: executions / rounds.max(1),
        writes_ceiling_per_second: writes,
        ratio_to_writes: executions_per_second / writes,
    })
}

/// Runs all hosts until nothing is left.
fn run(hosts: Vec<(Host, LoadedJob)>) -> Result<Vec<Summary>, Error> {
    let one = |host: Host, job| runtime()?.block_on(host.run(vec![job], std::future::pending()));
    std::thread::scope(|scope| {
        let running: Vec<_> = hosts.into_iter().map(|(host, job)| scope.spawn(move || one(host, job))).collect();
        running.into_iter().map(|host| host.join().unwrap_or(Err(Error::Stopped))).collect()
    })
}
