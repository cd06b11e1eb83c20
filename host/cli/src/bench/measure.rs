//! One measurement: the host, and the two ceilings in the same process.
//!
//! Owns what is timed and what is not. Never prints.

use std::sync::Arc;

use std::time::Duration;

use gristmill_scheduler::{Error, Host};
use gristmill_tracker_sqlite::{SqliteOptions, SqliteTracker};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::bed::{Bed, rate, runtime};
use super::ceilings::{sandbox_ceiling, writes_ceiling};
use super::report::{Line, hundredths, size, tenths, whole};

/// The figures of one run: the host and its ceilings. Times in seconds, sizes in bytes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) discovered_per_second: f64,
    pub(crate) executions: u64,
    pub(crate) executions_per_second: f64,
    pub(crate) cpu_micros_per_execution: f64,
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
    pub(crate) mean_batch: u64,
    pub(crate) memory_bytes_max: u64,
    pub(crate) database_bytes: u64,
    pub(crate) writes_ceiling_per_second: f64,
    pub(crate) sandbox_ceiling_per_second: f64,
    pub(crate) ratio_to_writes: f64,
    pub(crate) ratio_to_sandbox: f64,
}

pub(crate) const LINES: [Line<Measured>; 12] = [
    ("stage executions/s", |run| run.executions_per_second, whole),
    ("  (a) the writes alone", |run| run.writes_ceiling_per_second, whole),
    ("  (b) the sandbox alone", |run| run.sandbox_ceiling_per_second, whole),
    ("  ratio to (a)", |run| run.ratio_to_writes, hundredths),
    ("  ratio to (b)", |run| run.ratio_to_sandbox, hundredths),
    ("CPU a stage execution, µs", |run| run.cpu_micros_per_execution, tenths),
    ("discovered items/s", |run| run.discovered_per_second, whole),
    ("ready to settled, p50, ms", |run| run.latency_p50_ms, tenths),
    ("ready to settled, p99, ms", |run| run.latency_p99_ms, tenths),
    ("mean batch", |run| run.mean_batch as f64, whole),
    ("peak memory of the process", |run| run.memory_bytes_max as f64, size),
    ("database", |run| run.database_bytes as f64, size),
];

/// Measures once.
pub(crate) fn measure(bed: &Bed) -> Result<Measured, Error> {
    let (plan, clock, runtime) = (&bed.plan, &bed.clock, runtime()?);
    let data = plan.folder.join("host");
    let options = SqliteOptions { synchronous: plan.synchronous, ..SqliteOptions::default() };
    let discovered = {
        let tracker = SqliteTracker::open(&data, options, clock.now())?;
        runtime.block_on(bed.discover(&tracker))?
    };
    let tracker = SqliteTracker::open(&data, options, clock.now())?;
    let host = Host::new(bed.options(plan.workers), Arc::new(tracker));
    let jobs = vec![bed.job(false)?];
    let (began, cpu) = (clock.now(), cpu_time());
    let summary = runtime.block_on(host.run(jobs, std::future::pending()))?;
    let (elapsed, cpu) = (clock.now().since(began), cpu_time().saturating_sub(cpu));
    let memory_bytes_max = peak_memory();
    let executions = summary.attempts();
    let batch = executions / summary.rounds.max(1);
    let database_bytes = std::fs::metadata(data.join("tracker.db")).map_or(0, |file| file.len());
    let executions_per_second = rate(executions, elapsed);
    let writes = writes_ceiling(bed, batch)?;
    let sandboxed = sandbox_ceiling(bed)?;
    Ok(Measured {
        discovered_per_second: rate(u64::from(plan.items), discovered),
        executions,
        executions_per_second,
        cpu_micros_per_execution: cpu.as_secs_f64() * 1e6 / executions.max(1) as f64,
        latency_p50_ms: summary.latency.quantile(0.5).as_secs_f64() * 1e3,
        latency_p99_ms: summary.latency.quantile(0.99).as_secs_f64() * 1e3,
        mean_batch: batch,
        memory_bytes_max,
        database_bytes,
        writes_ceiling_per_second: writes,
        sandbox_ceiling_per_second: sandboxed,
        ratio_to_writes: executions_per_second / writes,
        ratio_to_sandbox: executions_per_second / sandboxed,
    })
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The most resident memory that this process ever had, in bytes; 0 if the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
