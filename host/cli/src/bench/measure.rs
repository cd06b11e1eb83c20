//! One measurement: the host, and the two ceilings in the same process.
//!
//! Owns what is timed and what is not. Prints nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gristmill_config::Overrides;
use gristmill_model::{Clock, Digest, Job, Rediscovery, SystemClock};
use gristmill_sandbox::{AttemptContext, DiscoverRequest, Handler, Sandbox, Settings, Work};
use gristmill_scheduler::{Host, HostOptions, LoadedJob, Store, load};
use gristmill_tracker::{
    Ceiling, HostInfo, NewItem, Source, SqliteOptions, SqliteTracker, Synchronous, Tracker, Upsert,
};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// The stages of the bench's job: each needs the one before.
const STAGES: [&str; 3] = ["a", "b", "c"];
/// How long an output of the bench's handler is.
const OUTPUT_BYTES: usize = 100;
/// How many items a page of discovery holds.
const PAGE: u32 = 5000;

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many items go through the three stages.
    pub(crate) items: u32,
    /// How many attempts run at once.
    pub(crate) workers: usize,
    /// A component with stages `a`, `b`, `c` and a discovery that reads the parameter `items`.
    pub(crate) handler: PathBuf,
    /// How safe a commit is.
    pub(crate) synchronous: Synchronous,
    /// Where the databases are made, and removed again.
    pub(crate) folder: PathBuf,
}

/// One run, the host beside its ceilings. Times in seconds, sizes in bytes.
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

/// Measures once.
pub(crate) fn measure(plan: &Plan) -> Result<Measured, gristmill_scheduler::Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let settings = Settings {
        cache_dir: None,
        parallel: plan.workers,
        memory_bytes_max: gristmill_model::Limits::default().memory_bytes_max,
        clock: Arc::clone(&clock),
    };
    let sandbox = Sandbox::new(settings)?;
    let data = plan.folder.join("host");
    let discovered = discover(plan, &sandbox, &data, clock.as_ref())?;
    let options = HostOptions {
        store: Store::Sqlite { data: data.clone(), synchronous: plan.synchronous },
        workers: plan.workers,
        watch: false,
        grace: Duration::from_secs(30),
        takeover_after: Duration::from_secs(30),
        min_free_bytes: 0,
        trace_file: None,
        clock: Arc::clone(&clock),
    };
    let runtime = runtime()?;
    let host = runtime.block_on(Host::open(options))?;
    let jobs = vec![job(plan, &sandbox, false)?];
    let (began, cpu) = (clock.now(), cpu_time());
    let summary = runtime.block_on(host.run(jobs, std::future::pending()))?;
    let (elapsed, cpu) = (clock.now().since(began), cpu_time().saturating_sub(cpu));
    let memory_bytes_max = peak_memory();
    let executions = summary.attempts();
    let batch = executions / summary.rounds.max(1);
    let database_bytes = std::fs::metadata(data.join("tracker.db")).map_or(0, |file| file.len());
    let executions_per_second = rate(executions, elapsed);
    let writes = writes_ceiling(plan, batch, clock.as_ref())?;
    let sandboxed = sandbox_ceiling(plan, &sandbox, clock.as_ref())?;
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

/// The bench's job, with its discovery or without: the two are measured apart.
fn job(plan: &Plan, sandbox: &Sandbox, discovers: bool) -> Result<LoadedJob, gristmill_scheduler::Error> {
    let handler = plan.handler.display().to_string();
    let discover =
        if discovers { format!("discover: {{ handler: {handler:?}, page: {PAGE} }}\n") } else { String::new() };
    let stages = STAGES.map(|stage| format!("  - {{ name: {stage}, handler: {handler:?} }}\n")).concat();
    let yaml = format!("version: 1\njob: bench\nparams: {{ items: {} }}\n{discover}stages:\n{stages}", plan.items);
    let overrides = Overrides { params: Vec::new(), env: &|_| None };
    let parsed: Result<Job, _> = gristmill_config::parse(&yaml, "bench", Path::new("."), &overrides);
    load(sandbox, parsed.unwrap_or_else(|report| unreachable!("the bench's own job is right: {report}")))
}

/// Discovers as a host does, page by page, each committed before the next is asked for. Returns the time it took.
fn discover(
    plan: &Plan,
    sandbox: &Sandbox,
    data: &Path,
    clock: &dyn Clock,
) -> Result<Duration, gristmill_scheduler::Error> {
    let loaded = job(plan, sandbox, true)?;
    let tracker = SqliteTracker::open(data, SqliteOptions { synchronous: plan.synchronous }, clock.now())?;
    let Some((handler, grants)) = &loaded.discover else { unreachable!("the bench's job discovers") };
    runtime()?.block_on(async {
        let host = HostInfo { name: "bench".to_owned(), pid: 0, app_version: String::new(), now: clock.now() };
        let host = tracker.register_host(host).await?;
        let registered = tracker.register_job(loaded.registration(clock.now())).await?;
        let began = clock.now();
        let mut cursor: Option<String> = None;
        loop {
            let context = AttemptContext {
                limits: loaded.job.tuning.discover.limits,
                grants,
                params: &loaded.params,
                frozen_at: began,
                seed: Digest([0; 32]),
            };
            let request = DiscoverRequest { job: "bench", cursor: cursor.as_deref(), limit: PAGE };
            let page = match handler.discover(&request, &context).result {
                Ok(page) => page,
                Err(failure) => {
                    let place = "discover".to_owned();
                    let problem = gristmill_scheduler::Problem { place, message: failure.message, hint: None };
                    return Err(gristmill_scheduler::Error::Job { job: "bench".to_owned(), problems: vec![problem] });
                }
            };
            let items = page.items.into_iter().map(|item| NewItem {
                data_hash: Digest::of(item.data.as_bytes()),
                key: item.key,
                data: item.data,
                priority: item.priority,
                merged: None,
            });
            let (items, next) = (items.collect(), page.next);
            let source = Source::Page { cursor: cursor.take(), next: next.clone() };
            let rediscovery = Rediscovery::default();
            tracker.upsert(Upsert { job: registered.id, items, source, rediscovery, now: clock.now() }).await?;
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let took = clock.now().since(began);
        tracker.retire_host(host, clock.now()).await?;
        Ok(took)
    })
}

/// Ceiling (a): the same writes to the same schema by bare statements, in batches as large as the host's.
fn writes_ceiling(plan: &Plan, batch: u64, clock: &dyn Clock) -> Result<f64, gristmill_scheduler::Error> {
    let ceiling = Ceiling {
        items: plan.items,
        stages: STAGES.len() as u8,
        batch: u32::try_from(batch).unwrap_or(u32::MAX),
        output_bytes: OUTPUT_BYTES,
    };
    let options = SqliteOptions { synchronous: plan.synchronous };
    let took = ceiling.run(&plan.folder.join("ceiling"), options, clock)?;
    Ok(rate(u64::from(plan.items) * STAGES.len() as u64, took))
}

/// Ceiling (b): the same component called as often, a fresh instance each, on as many threads, with no tracker.
fn sandbox_ceiling(plan: &Plan, sandbox: &Sandbox, clock: &dyn Clock) -> Result<f64, gristmill_scheduler::Error> {
    let loaded = job(plan, sandbox, false)?;
    let calls = plan.items as usize * STAGES.len();
    let next = AtomicUsize::new(0);
    let began = clock.now();
    std::thread::scope(|scope| {
        for _ in 0..plan.workers {
            scope.spawn(|| {
                loop {
                    let call = next.fetch_add(1, Ordering::Relaxed);
                    if call >= calls {
                        return;
                    }
                    let stage = call / plan.items as usize;
                    attempt(&loaded, stage, call % plan.items as usize);
                }
            });
        }
    });
    Ok(rate(calls as u64, clock.now().since(began)))
}

fn attempt(loaded: &LoadedJob, stage: usize, item: usize) {
    let handler: &Handler = &loaded.stages[stage].handler;
    let output = "x".repeat(OUTPUT_BYTES);
    let upstream = [("before", output.as_str())];
    let work = Work {
        job: "bench",
        stage: STAGES[stage],
        item_key: &format!("item-{item:08}"),
        data: "1",
        upstream: if stage == 0 { &[] } else { &upstream },
        attempt: 1,
        idempotency_key: Digest([0; 32]),
    };
    let context = AttemptContext {
        limits: loaded.job.tuning.stages[stage].limits,
        grants: &loaded.stages[stage].grants,
        params: &loaded.params,
        frozen_at: gristmill_model::Timestamp::default(),
        seed: Digest([0; 32]),
    };
    // What it returns is dropped: the call is what is measured.
    drop(handler.run(&work, &context));
}

fn runtime() -> Result<tokio::runtime::Runtime, gristmill_scheduler::Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(gristmill_scheduler::Error::Thread)
}

fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The most memory that this process ever had resident; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
