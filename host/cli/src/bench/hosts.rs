//! Several hosts on one Postgres, beside the ceiling of the same database.
//!
//! Owns the hosts: each has a thread and a runtime of its own, as processes would. Never measures what the server could
//! do with more cores than it has.

use gristmill_scheduler::{Error, Host, Store, Summary};
use gristmill_tracker::{Error as TrackerError, PostgresCeiling, PostgresOptions, PostgresTracker, Reader};
use serde::Serialize;

use super::bed::{Bed, OUTPUT_BYTES, STAGES, rate, runtime};

/// How many executions a transaction of the ceiling writes.
const CEILING_BATCH: u32 = 256;

/// One run, the hosts beside the ceiling.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shared {
    pub(crate) hosts: usize,
    pub(crate) discovered_per_second: f64,
    pub(crate) executions: u64,
    pub(crate) executions_per_second: f64,
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
    pub(crate) mean_batch: u64,
    pub(crate) writes_ceiling_per_second: f64,
    pub(crate) ratio_to_writes: f64,
}

/// Measures on a database that is empty, and leaves it so.
pub(crate) fn shared(bed: &Bed, url: &str, hosts: usize) -> Result<Shared, Error> {
    let (plan, clock, runtime) = (&bed.plan, &bed.clock, runtime()?);
    let discovered = runtime.block_on(async {
        let tracker = PostgresTracker::connect(url, PostgresOptions::default(), clock.now()).await?;
        if !tracker.jobs().await?.is_empty() {
            return Err(Error::Tracker(TrackerError::NotEmpty(tracker.place())));
        }
        bed.discover(&tracker).await
    })?;
    let began = clock.now();
    let summaries = std::thread::scope(|scope| {
        let workers = (plan.workers / hosts).max(1);
        let run = || -> Result<Summary, Error> {
            let runtime = super::bed::runtime()?;
            runtime.block_on(async {
                let host = Host::open(bed.options(Store::Postgres { url: url.to_owned() }, workers)).await?;
                host.run(vec![bed.job(false)?], std::future::pending()).await
            })
        };
        let running: Vec<_> = (0..hosts).map(|_| scope.spawn(run)).collect();
        let ended = running.into_iter().map(|host| host.join().unwrap_or(Err(Error::Stopped)));
        ended.collect::<Result<Vec<Summary>, Error>>()
    })?;
    let ended = summaries.iter().filter_map(|summary| summary.settled_at).max().unwrap_or(began);
    runtime.block_on(PostgresCeiling::clear(url))?;
    let ceiling =
        PostgresCeiling { items: plan.items, stages: STAGES.len() as u8, batch: CEILING_BATCH, output_bytes: OUTPUT_BYTES };
    let took = runtime.block_on(ceiling.run(url, clock.as_ref()))?;
    runtime.block_on(PostgresCeiling::clear(url))?;
    let executions: u64 = summaries.iter().map(Summary::attempts).sum();
    let rounds: u64 = summaries.iter().map(|summary| summary.rounds).sum();
    let executions_per_second = rate(executions, ended.since(began));
    let writes = rate(u64::from(plan.items) * STAGES.len() as u64, took);
    let slowest = |fraction| summaries.iter().map(|summary| summary.latency.quantile(fraction)).max().unwrap_or_default();
    Ok(Shared {
        hosts,
        discovered_per_second: rate(u64::from(plan.items), discovered),
        executions,
        executions_per_second,
        latency_p50_ms: slowest(0.5).as_secs_f64() * 1e3,
        latency_p99_ms: slowest(0.99).as_secs_f64() * 1e3,
        mean_batch: executions / rounds.max(1),
        writes_ceiling_per_second: writes,
        ratio_to_writes: executions_per_second / writes,
    })
}
