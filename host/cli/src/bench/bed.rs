//! The test bed of every measurement: one job, one component, one sandbox.
//!
//! Owns the job's shape, and discovery as a host does it. Never interprets the figures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gristmill_config::{Draft, Overrides};
use gristmill_model::{Clock, Digest, Rediscovery, SystemClock};
use gristmill_sandbox::{AttemptContext, Compiler, DiscoverRequest, Sandbox, Settings};
use gristmill_scheduler::{Error, HostOptions, LoadedJob, load};
use gristmill_tracker::{ClaimRequest, HostInfo, NewItem, RegisteredJob, Release, Round, Source};
use gristmill_tracker::{Tracker, Upsert};
use gristmill_tracker_sqlite::Synchronous;

/// The stages of the bench's job: each needs the previous one.
pub(crate) const STAGES: [&str; 3] = ["a", "b", "c"];
/// The length of an output of the bench's handler.
pub(crate) const OUTPUT_BYTES: usize = 100;
/// How many items a page of discovery holds.
const PAGE: u32 = 5000;
/// How many claims are timed, and of how many rows each.
const CLAIMS: (u32, u32) = (101, 64);

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many items go through the three stages.
    pub(crate) items: u32,
    /// How many bytes of data each item has, at least: those of its number are the fewest.
    pub(crate) data_bytes: u32,
    /// How many attempts run at once.
    pub(crate) workers: usize,
    /// A component with stages `a`, `b`, `c` and a discovery that reads the parameter `items`.
    pub(crate) handler: PathBuf,
    /// How durable a commit is.
    pub(crate) synchronous: Synchronous,
    /// The folder where the databases are created, and deleted again.
    pub(crate) folder: PathBuf,
}

/// A plan, with everything needed to run it.
pub(crate) struct Bed {
    pub(crate) plan: Plan,
    pub(crate) sandbox: Sandbox,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Bed {
    pub(crate) fn new(plan: Plan) -> Result<Self, Error> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let settings = Settings {
            cache_dir: None,
            parallel: plan.workers,
            memory_bytes_max: gristmill_model::Limits::default().memory_bytes_max,
            clock: Arc::clone(&clock),
            compiler: Compiler::Here,
            compiling: Box::new(|_, _| {}),
        };
        Ok(Self { plan, sandbox: Sandbox::new(settings)?, clock })
    }

    /// How many stage executions it takes until everything is done.
    pub(crate) fn executions(&self) -> u64 {
        u64::from(self.plan.items) * STAGES.len() as u64
    }

    /// How a host of this bench runs.
    pub(crate) fn options(&self, workers: usize) -> HostOptions {
        HostOptions {
            workers,
            watch: false,
            grace: Duration::from_secs(30),
            takeover_after: Duration::from_secs(30),
            in_flight_bytes_max: u64::MAX,
            min_free_bytes: 0,
            trace_file: None,
            clock: Arc::clone(&self.clock),
        }
    }

    /// The bench's job, with or without discovery: the two are measured separately.
    pub(crate) fn job(&self, discovers: bool) -> Result<LoadedJob, Error> {
        let handler = self.plan.handler.display().to_string();
        let discover =
            if discovers { format!("discover: {{ handler: {handler:?}, page: {PAGE} }}\n") } else { String::new() };
        let stages = STAGES.map(|stage| format!("  - {{ name: {stage}, handler: {handler:?} }}\n")).concat();
        let items = self.plan.items;
        let yaml = format!("version: 1\njob: bench\nparams: {{ items: {items} }}\n{discover}stages:\n{stages}");
        let overrides = Overrides { params: Vec::new(), env: &|_| None };
        let job = Draft::parse(yaml.as_bytes(), "bench", Path::new("."), &overrides).and_then(Draft::finish);
        load(&self.sandbox, job.unwrap_or_else(|report| unreachable!("the bench's own job is right: {report}")))
    }

    /// Registers the job.
    pub(crate) async fn register(&self, tracker: &dyn Tracker) -> Result<RegisteredJob, Error> {
        Ok(tracker.register_job(self.job(true)?.registration(self.clock.now())).await?)
    }

    /// Discovers as a host does, page by page, each committed before the next is asked for. Returns the time it took.
    pub(crate) async fn discover(&self, tracker: &dyn Tracker) -> Result<Duration, Error> {
        let (loaded, clock) = (self.job(true)?, &self.clock);
        let Some((handler, granted)) = &loaded.discover else { unreachable!("the bench's job discovers") };
        let registered = self.register(tracker).await?;
        let began = clock.now();
        let mut cursor: Option<String> = None;
        loop {
            let context = AttemptContext {
                limits: loaded.job.tuning.discover.limits,
                granted,
                params: &loaded.params,
                frozen_at: began,
                seed: Digest([0; 32]),
            };
            let request = DiscoverRequest { job: "bench", cursor: cursor.as_deref(), limit: PAGE };
            let page = match handler.discover(&request, &context)?.result {
                Ok(page) => page,
                Err(failure) => {
                    let problem = gristmill_scheduler::Problem { stage: None, message: failure.message, hint: None };
                    return Err(Error::Job { job: "bench".to_owned(), problems: vec![problem] });
                }
            };
            let items = page.items.into_iter().map(|item| {
                // White space before a value is JSON too, and any component's item can be made as long as it should be.
                let missing = (self.plan.data_bytes as usize).saturating_sub(item.data.len());
                let data = " ".repeat(missing) + &item.data;
                let data_hash = Digest::of(data.as_bytes());
                NewItem { key: item.key, data, data_hash, priority: item.priority, merged: None }
            });
            let (items, next) = (items.collect(), page.next);
            let source = Source::Page { cursor: cursor.take(), next: next.clone() };
            let rediscovery = Rediscovery::default();
            tracker.upsert(Upsert { job: registered.id, items, source, rediscovery, now: clock.now() }).await?;
            cursor = next;
            if cursor.is_none() {
                return Ok(clock.now().since(began));
            }
        }
    }

    /// The median time to claim a chunk of ready work. The claimed work is given back.
    pub(crate) async fn claim_time(&self, tracker: &dyn Tracker) -> Result<Duration, Error> {
        let (clock, (claims, rows)) = (&self.clock, CLAIMS);
        let registered = self.register(tracker).await?;
        let info = HostInfo { name: "bench".to_owned(), pid: 0, app_version: String::new(), now: clock.now() };
        let host = tracker.register_host(info).await?;
        let request = ClaimRequest { stage: registered.stages[0].id, limit: rows, chunk: rows, bytes: u64::MAX };
        let mut times = Vec::new();
        for _ in 0..claims {
            let began = clock.now();
            let round = Round { host, now: began, settlements: Vec::new(), claims: vec![request] };
            let done = tracker.round(round.into()).await?;
            times.push(clock.now().since(began));
            let keys = |lease: &gristmill_tracker::Lease| lease.claims.iter().map(|claim| claim.key).collect();
            let releases = done.leases.iter().map(|lease| Release { fence: lease.fence, keys: keys(lease) });
            tracker.release(releases.collect()).await?;
        }
        tracker.retire_host(host, clock.now()).await?;
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }
}

/// A runtime for the calling thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)
}

pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}
