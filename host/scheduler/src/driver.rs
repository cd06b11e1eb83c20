//! The host: what turns commands into deeds.
//!
//! Owns the event loop and everything that waits: the tracker's futures, the threads' answers, the clock. Decides
//! nothing: every decision is the dispatcher's.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gristmill_model::{Clock, HostId, JobId, RetryPolicy, StageId, Timestamp};
use gristmill_tracker::{HostInfo, Lost, Reap, SqliteOptions, SqliteTracker, Synchronous, Tracker};
use tokio::sync::mpsc;

use crate::Error;
use crate::discover::{Discoverer, PageRequest, PageResult};
use crate::dispatcher::{Command, Dispatcher, Event};
use crate::load::{LoadedJob, StageContext};
use crate::summary::Summary;
use crate::workers::{Chunk, Finished, Workers};

/// How often a host says that it is alive, and looks for hosts that are not.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How many leases are taken from vanished hosts at once.
const REAP_MAX: u32 = 256;
/// How many items are brought in line with an edited DAG at once.
const RECONCILE_MAX: u32 = 2000;
/// How many answers of threads may wait for the loop.
const ANSWERS_MAX: usize = 64;

/// How a host runs.
pub struct HostOptions {
    /// The data folder.
    pub data: PathBuf,
    /// How safe a commit is from a power cut.
    pub synchronous: Synchronous,
    /// How many attempts run at once.
    pub workers: usize,
    /// Stay when everything is done, and discover again when a job says so.
    pub watch: bool,
    /// How long running attempts may take to finish once the host is asked to stop.
    pub grace: Duration,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// A host that holds a data folder.
pub struct Host {
    options: HostOptions,
    tracker: Arc<SqliteTracker>,
}

impl Host {
    /// Takes a data folder: its lock, its database, migrated.
    ///
    /// # Errors
    /// If another host holds it, or it cannot be used.
    pub fn open(options: HostOptions) -> Result<Self, Error> {
        let sqlite = SqliteOptions { synchronous: options.synchronous };
        let tracker = Arc::new(SqliteTracker::open(&options.data, sqlite, options.clock.now())?);
        Ok(Self { options, tracker })
    }

    /// The tracker, to look at while the host runs.
    pub fn tracker(&self) -> Arc<dyn Tracker> {
        Arc::clone(&self.tracker) as Arc<dyn Tracker>
    }

    /// Runs jobs until nothing is left, or `shutdown` resolves and what was running is finished or given back.
    ///
    /// # Errors
    /// If the tracker fails. What was claimed is then taken from this host by the next one, and charged as lost.
    pub async fn run(self, jobs: Vec<LoadedJob>, shutdown: impl Future<Output = ()>) -> Result<Summary, Error> {
        let started = self.options.clock.now();
        let host = self.register().await?;
        let (mut dispatcher, parts) = self.prepare(host, jobs).await?;
        let lost = self.reap_all(host, &parts.policies()).await?;
        let (finished, finished_events) = mpsc::channel(ANSWERS_MAX);
        let (pages, page_events) = mpsc::channel(ANSWERS_MAX);
        let clock = &self.options.clock;
        let mut running = Loop {
            host,
            options: &self.options,
            tracker: self.tracker.as_ref(),
            workers: Workers::start(self.options.workers, clock, &finished)?,
            discoverer: Discoverer::start(parts.jobs.len(), Arc::clone(clock), pages)?,
            writes: FuturesUnordered::new(),
            finished: finished_events,
            pages: page_events,
            parts,
            next_heartbeat: clock.now() + HEARTBEAT,
        };
        // Attempts that died with an earlier host are part of this run's account.
        let first = Event::Reaped(lost);
        let ended_in_time = running.run(&mut dispatcher, first, shutdown).await?;
        running.end(&dispatcher, ended_in_time).await?;
        self.tracker.retire_host(host, self.options.clock.now()).await?;
        dispatcher.summary.elapsed = self.options.clock.now().since(started);
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

    /// Makes the jobs known, and brings their items in line where a DAG was edited.
    async fn prepare(&self, host: HostId, jobs: Vec<LoadedJob>) -> Result<(Dispatcher, Parts), Error> {
        let clock = &self.options.clock;
        let mut dispatcher = Dispatcher::new(host, self.options.workers, self.options.watch);
        let mut parts = Parts { jobs: HashMap::new(), stages: HashMap::new() };
        for loaded in jobs {
            let registered = self.tracker.register_job(loaded.registration(clock.now())).await?;
            let mut position = registered.reconcile;
            while let Some(after) = position {
                position = self.tracker.reconcile(registered.id, after, RECONCILE_MAX, clock.now()).await?;
            }
            let loaded = Arc::new(loaded);
            for (place, stage) in registered.stages.iter().enumerate() {
                let context = StageContext::new(&loaded, &registered, place);
                dispatcher.add_stage(stage.id, &context.spec().name, context.tuning().limits.timeout);
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

    /// The lock says that no other host is alive on this data folder: what one left behind is taken at once.
    async fn reap_all(&self, host: HostId, policies: &HashMap<StageId, RetryPolicy>) -> Result<Lost, Error> {
        let now = self.options.clock.now();
        let mut total = Lost::default();
        loop {
            let heartbeat_before = now + Duration::from_micros(1);
            let reap = Reap { host, now, heartbeat_before, leases_max: REAP_MAX, policies: policies.clone() };
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

/// What commands need that the dispatcher does not: the components, and what surrounds them.
struct Parts {
    jobs: HashMap<JobId, Arc<LoadedJob>>,
    stages: HashMap<StageId, Arc<StageContext>>,
}

impl Parts {
    fn policies(&self) -> HashMap<StageId, RetryPolicy> {
        self.stages.iter().map(|(id, stage)| (*id, stage.tuning().retry)).collect()
    }
}

type Pending<'a> = Pin<Box<dyn Future<Output = Result<Option<Event>, Error>> + Send + 'a>>;

struct Loop<'a> {
    host: HostId,
    options: &'a HostOptions,
    tracker: &'a SqliteTracker,
    writes: FuturesUnordered<Pending<'a>>,
    // Before the threads: one that waits for room in a channel ends when the channel does, and can then be joined.
    finished: mpsc::Receiver<Finished>,
    pages: mpsc::Receiver<PageResult>,
    workers: Workers,
    discoverer: Discoverer,
    parts: Parts,
    next_heartbeat: Timestamp,
}

impl Loop<'_> {
    /// Runs until the dispatcher says that it is over. False: the grace ran out before.
    async fn run(
        &mut self,
        dispatcher: &mut Dispatcher,
        first: Event,
        shutdown: impl Future<Output = ()>,
    ) -> Result<bool, Error> {
        let clock = Arc::clone(&self.options.clock);
        let mut shutdown = pin!(shutdown);
        let mut stop_by = None;
        let mut event = Some(first);
        loop {
            let now = clock.now();
            if let Some(event) = event.take() {
                for command in dispatcher.handle(event, now) {
                    self.perform(command, now)?;
                }
            }
            self.beat(now);
            if dispatcher.is_over() {
                return Ok(true);
            }
            if stop_by.is_some_and(|by| by <= now) {
                return Ok(false);
            }
            let wake_at = dispatcher.wake_at(now).min(self.next_heartbeat).min(stop_by.unwrap_or(Timestamp(i64::MAX)));
            event = tokio::select! {
                biased;
                () = &mut shutdown, if stop_by.is_none() => {
                    stop_by = Some(clock.now() + self.options.grace);
                    Some(Event::Stop)
                }
                Some(written) = self.writes.next() => written?,
                finished = self.finished.recv() => Some(Event::Finished(finished.ok_or(Error::Stopped)?)),
                page = self.pages.recv() => Some(Event::Page(page.ok_or(Error::Stopped)?)),
                () = tokio::time::sleep(wake_at.since(now)) => Some(Event::Woken),
            };
        }
    }

    fn perform(&self, command: Command, now: Timestamp) -> Result<(), Error> {
        let tracker = self.tracker;
        match command {
            Command::Run(lease) => {
                let context = Arc::clone(&self.parts.stages[&lease.stage]);
                self.workers.run(Chunk { lease, context })?;
            }
            Command::Ask(job, cursor) => {
                let loaded = Arc::clone(&self.parts.jobs[&job]);
                self.discoverer.ask(PageRequest { job, loaded, cursor })?;
            }
            Command::StopWorkers => self.workers.stop(),
            Command::Round(round) => self.write(async move { Ok(Some(Event::Round(tracker.round(round).await?))) }),
            Command::Release(releases) => self.write(async move {
                tracker.release(releases).await?;
                Ok(Some(Event::Released))
            }),
            Command::Upsert(batch) => self.write(async move {
                let job = batch.job;
                Ok(Some(Event::Upserted(job, tracker.upsert(batch).await?)))
            }),
            Command::Promote(limit) => {
                self.write(async move { Ok(Some(Event::Promoted(tracker.promote(now, limit).await?))) });
            }
            Command::NextDue => {
                self.write(
                    async move { Ok(Some(Event::NextDue(gristmill_tracker::Reader::next_due(tracker).await?))) },
                );
            }
        }
        Ok(())
    }

    /// Says that this host is alive, and takes the work of hosts and leases that are not.
    fn beat(&mut self, now: Timestamp) {
        if now < self.next_heartbeat {
            return;
        }
        self.next_heartbeat = now + HEARTBEAT;
        let (tracker, host) = (self.tracker, self.host);
        let reap = Reap {
            host,
            now,
            // Other hosts on this data folder have ended: the lock says so. This is for leases past their deadline.
            heartbeat_before: now - HEARTBEAT * 6,
            leases_max: REAP_MAX,
            policies: self.parts.policies(),
        };
        self.write(async move {
            tracker.heartbeat(host, now).await?;
            Ok(Some(Event::Reaped(tracker.reap(reap).await?)))
        });
    }

    /// Ends the threads. Attempts that outlived the grace are given back uncharged, and left behind.
    async fn end(self, dispatcher: &Dispatcher, ended_in_time: bool) -> Result<(), Error> {
        let Self { tracker, workers, discoverer, writes, .. } = self;
        if !ended_in_time {
            drop(writes);
            let held = dispatcher.held();
            let given_back = tracker.release(held).await?;
            tracing::warn!(attempts = given_back, "the grace ran out: running attempts are given back, uncharged");
            workers.abandon();
            discoverer.abandon();
        } else if dispatcher.summary.interrupted {
            // A page in the making is made again by the next host: its cursor was not recorded.
            discoverer.abandon();
        }
        Ok(())
    }
}

impl<'a> Loop<'a> {
    fn write(&self, future: impl Future<Output = Result<Option<Event>, Error>> + Send + 'a) {
        self.writes.push(Box::pin(future));
    }
}
