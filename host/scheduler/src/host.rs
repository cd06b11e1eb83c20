//! The host: starts a run from its options.
//!
//! Owns the order in which a run begins: the tracker, this host's registration, the jobs, the work that earlier hosts
//! left behind. Never runs the loop itself: the driver does.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{Clock, HostId, Timestamp};
use gristmill_tracker::{HostInfo, Lost, Reap, Tracker};
use tokio::sync::mpsc;

use crate::Error;
use crate::discover::{Discoverer, Known};
use crate::dispatcher::Dispatcher;
use crate::driver::{ANSWERS_MAX, Loop, Parts, REAP_MAX};
use crate::event::Event;
use crate::load::{LoadedJob, StageContext};
use crate::summary::Summary;
use crate::trace::Trace;
use crate::vitals::Vitals;
use crate::workers::Workers;

/// How many items are brought in line with an edited DAG at once.
const RECONCILE_MAX: u32 = 2000;

/// How a host runs.
pub struct HostOptions {
    /// How many attempts run at once.
    pub workers: usize,
    /// Whether to stay when everything is done, and discover again when a job says so.
    pub watch: bool,
    /// How long running attempts may take to finish once the host is asked to stop.
    pub grace: Duration,
    /// How long after its last heartbeat another host counts as vanished, and its work is reaped.
    pub takeover_after: Duration,
    /// Nothing is claimed while this many bytes of data and outputs are in flight.
    pub in_flight_bytes_max: u64,
    /// How many bytes shall stay free on the disk of a data folder.
    pub min_free_bytes: u64,
    /// A file that gets a line before each attempt.
    pub trace_file: Option<PathBuf>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// A host that has its tracker.
pub struct Host {
    options: HostOptions,
    tracker: Arc<dyn Tracker>,
}

impl Host {
    /// A host on a tracker that was opened for it.
    pub const fn new(options: HostOptions, tracker: Arc<dyn Tracker>) -> Self {
        Self { options, tracker }
    }

    /// The tracker, to read while the host runs.
    pub fn tracker(&self) -> Arc<dyn Tracker> {
        Arc::clone(&self.tracker)
    }

    /// Runs jobs until nothing is left, or `shutdown` resolves and what was running is finished or given back.
    ///
    /// # Errors
    /// If the tracker fails: the next host then reaps what this one had claimed, and charges it as lost. If the machine
    /// refuses a sandbox: what was claimed is given back.
    pub async fn run(self, jobs: Vec<LoadedJob>, shutdown: impl Future<Output = ()>) -> Result<Summary, Error> {
        let clock = Arc::clone(&self.options.clock);
        let started = clock.now();
        let trace = self.options.trace_file.as_deref().map(Trace::open).transpose()?.map(Arc::new);
        let host = self.register().await?;
        let (mut dispatcher, parts) = self.prepare(host, jobs).await?;
        let lost = self.reap_vanished(host, &parts).await?;
        let shortened = self.tracker.shorten_waits(parts.longest_waits(), clock.now()).await?;
        if shortened > 0 {
            tracing::warn!(
                stages = shortened,
                "they were to wait longer than any policy says, by a clock that was ahead"
            );
        }
        let (finished, finished_events) = mpsc::channel(ANSWERS_MAX);
        let (pages, page_events) = mpsc::channel(ANSWERS_MAX);
        let known = Known { tracker: self.tracker(), runtime: tokio::runtime::Handle::current() };
        let workers =
            Workers::start(self.options.workers, &clock, trace.as_ref().map(|trace| (host, trace)), &finished)?;
        let discoverer = Discoverer::start(parts.jobs.len(), Arc::clone(&clock), known, pages)?;
        let vitals = Vitals::new(self.options.takeover_after, clock.now());
        let mut running = Loop::new(
            host,
            &self.options,
            self.tracker.as_ref(),
            (finished_events, page_events),
            (workers, discoverer),
            parts,
            vitals,
        );
        // Attempts that were lost with an earlier host are part of this run's summary.
        let first = Event::Reaped(lost);
        let ended_in_time = match running.run(&mut dispatcher, first, shutdown).await {
            Ok(in_time) => in_time,
            Err(error) => {
                // Nothing that still runs can be recorded, so nobody waits for it.
                running.abandon();
                return Err(error);
            }
        };
        let ended = running.end(&dispatcher, ended_in_time).await;
        self.tracker.retire_host(host, clock.now()).await?;
        ended?;
        dispatcher.summary.elapsed = clock.now().since(started);
        Ok(dispatcher.summary)
    }

    async fn register(&self) -> Result<HostId, Error> {
        let info = HostInfo {
            name: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
            pid: std::process::id(),
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            now: self.options.clock.now(),
        };
        Ok(self.tracker.register_host(info).await?)
    }

    /// Registers the jobs, and reconciles their items if a DAG was edited.
    async fn prepare(&self, host: HostId, jobs: Vec<LoadedJob>) -> Result<(Dispatcher, Parts), Error> {
        let clock = &self.options.clock;
        let mut dispatcher =
            Dispatcher::new(host, self.options.workers, self.options.watch, self.options.in_flight_bytes_max);
        let mut parts = Parts { jobs: HashMap::new(), stages: HashMap::new() };
        for loaded in jobs {
            let registered = self.tracker.register_job(loaded.registration(clock.now())).await?;
            loaded.drop_contents();
            let mut position = registered.reconcile;
            while let Some(after) = position {
                position = self.tracker.reconcile(registered.id, after, RECONCILE_MAX, clock.now()).await?;
            }
            let loaded = Arc::new(loaded);
            for (index, stage) in registered.stages.iter().enumerate() {
                let context = StageContext::new(&loaded, &registered, index);
                dispatcher.add_stage(stage.id, &context.spec().name);
                parts.stages.insert(stage.id, Arc::new(context));
            }
            if loaded.discover.is_some() {
                let (name, tuning) = (&loaded.job.spec.name, loaded.job.tuning.discover.clone());
                dispatcher.add_source(registered.id, name, tuning, registered.cursor, clock.now());
            }
            parts.jobs.insert(registered.id, loaded);
        }
        Ok((dispatcher, parts))
    }

    /// Reaps the work of vanished hosts. If this is the only possible host, all others have vanished. Hosts that share
    /// a tracker have `takeover_after` to send a heartbeat.
    async fn reap_vanished(&self, host: HostId, parts: &Parts) -> Result<Lost, Error> {
        let now = self.options.clock.now();
        let heartbeat_before =
            if self.tracker.is_sole() { Timestamp(i64::MAX) } else { now - self.options.takeover_after };
        let mut total = Lost::default();
        loop {
            let reap = Reap { host, now, heartbeat_before, leases_max: REAP_MAX, policies: parts.policies() };
            let lost = self.tracker.reap(reap).await?;
            total.leases += lost.leases;
            total.attempts += lost.attempts;
            total.dead += lost.dead;
            if lost.leases < u64::from(REAP_MAX) {
                break;
            }
        }
        if total.attempts > 0 {
            tracing::warn!(attempts = total.attempts, "an earlier host vanished: its attempts are charged as lost");
        }
        Ok(total)
    }
}
