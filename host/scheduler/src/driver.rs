//! Carries out the dispatcher's commands.
//!
//! Owns the event loop and everything that waits: the tracker's futures, the threads' answers, the clock. Never decides
//! what to run: the dispatcher does.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gristmill_model::{HostId, JobId, RetryPolicy, StageId, State, Timestamp};
use gristmill_tracker::{Error as TrackerError, NewEvent, Reap, Tracker, settle_and_claim};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Error;
use crate::discover::{Discoverer, PageFailure, PageRequest, PageResult};
use crate::disk::{Disk, free_bytes};
use crate::dispatcher::Dispatcher;
use crate::event::{Command, Event};
use crate::host::HostOptions;
use crate::load::{LoadedJob, StageContext};
use crate::upkeep::Upkeep;
use crate::vitals::Vitals;
use crate::workers::{Chunk, Finished, Held, Workers};

/// How many leases of vanished hosts are reaped at once.
pub(crate) const REAP_MAX: u32 = 256;
/// How often free disk space is checked while there is work. The reserve holds more than can be written in that time.
const DISK_LOOK: Duration = Duration::from_millis(50);
/// How often threads are checked while attempts run, to find one that hangs.
const HELD_LOOK: Duration = Duration::from_secs(1);
/// How long a host that ends waits for the tracker to take back its work.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);
/// How many answers of threads may wait in the channel to the loop.
pub(crate) const ANSWERS_MAX: usize = 64;

/// What commands need and the dispatcher does not know: the jobs with their components.
pub(crate) struct Parts {
    pub(crate) jobs: HashMap<JobId, Arc<LoadedJob>>,
    pub(crate) stages: HashMap<StageId, Arc<StageContext>>,
}

impl Parts {
    pub(crate) fn policies(&self) -> HashMap<StageId, RetryPolicy> {
        self.stages.iter().map(|(id, stage)| (*id, stage.tuning().retry)).collect()
    }

    /// How long a stage waits at most between two attempts.
    pub(crate) fn longest_waits(&self) -> HashMap<StageId, Duration> {
        self.stages.iter().map(|(id, stage)| (*id, stage.tuning().retry.backoff.max)).collect()
    }
}

/// The current turn of upkeep, or the time of the next one.
enum Care<'a> {
    Turn(Pin<Box<dyn Future<Output = (Upkeep, Duration)> + Send + 'a>>),
    Rest(Upkeep, Instant),
    /// Only while one of the others replaces the other.
    Never,
}

impl Care<'_> {
    /// Resolves when the current turn is over; pending for ever if there is none.
    async fn turn(&mut self) -> (Upkeep, Duration) {
        match self {
            Self::Turn(turn) => turn.await,
            Self::Rest(..) | Self::Never => std::future::pending().await,
        }
    }

    fn next(&self) -> Option<Instant> {
        match self {
            Self::Rest(_, at) => Some(*at),
            Self::Turn(_) | Self::Never => None,
        }
    }
}

type Pending<'a> = Pin<Box<dyn Future<Output = Result<Option<Event>, Error>> + Send + 'a>>;

/// The event loop of a host, with everything that waits.
pub(crate) struct Loop<'a> {
    /// This host's number in the tracker.
    host: HostId,
    /// Times and limits of the host.
    options: &'a HostOptions,
    /// The tracker that all futures write to.
    tracker: &'a dyn Tracker,
    /// Writes in flight; each gives at most one event.
    writes: FuturesUnordered<Pending<'a>>,
    /// The heartbeat in flight. There is never a second one, however long the tracker takes.
    beating: Option<Pending<'a>>,
    // Before the threads, so that it is dropped first: a thread that waits for room in a channel ends with the channel,
    // and can then be joined.
    finished: mpsc::Receiver<Finished>,
    /// Answers of the discovery thread.
    pages: mpsc::Receiver<PageResult>,
    /// The attempt threads.
    workers: Workers,
    /// The discovery thread.
    discoverer: Discoverer,
    /// The jobs and stages by their numbers, to build chunks and page requests.
    parts: Parts,
    /// When the next heartbeat is due, and whether this host may reap others.
    vitals: Vitals,
    /// The upkeep of the tracker, one turn at a time.
    care: Care<'a>,
    /// The last known state of the disk: only a change is an event.
    disk: Disk,
    /// When the disk was last checked.
    disk_looked: Instant,
    /// When the host began: steady times count from here.
    began: Instant,
    /// When the threads were last checked.
    held_looked: Instant,
    /// Why this host cannot go on: the machine refuses a sandbox, or all threads hang. Running attempts are finished,
    /// the rest is given back.
    fault: Option<Error>,
}

impl<'a> Loop<'a> {
    pub(crate) fn new(
        host: HostId,
        options: &'a HostOptions,
        tracker: &'a dyn Tracker,
        (finished, pages): (mpsc::Receiver<Finished>, mpsc::Receiver<PageResult>),
        (workers, discoverer): (Workers, Discoverer),
        parts: Parts,
        vitals: Vitals,
    ) -> Self {
        let jobs = parts.jobs.iter().map(|(id, loaded)| {
            let job = &loaded.job;
            (*id, job.spec.name.as_str(), &job.tuning.retention)
        });
        let care = Care::Rest(Upkeep::new(jobs), Instant::now());
        Self {
            host,
            options,
            tracker,
            writes: FuturesUnordered::new(),
            beating: None,
            finished,
            pages,
            workers,
            discoverer,
            parts,
            vitals,
            care,
            disk: Disk::Ample,
            disk_looked: Instant::now(),
            began: Instant::now(),
            held_looked: Instant::now(),
            fault: None,
        }
    }

    /// Runs until the dispatcher says that the run is over. False if the grace period ended before.
    pub(crate) async fn run(
        &mut self,
        dispatcher: &mut Dispatcher,
        first: Event,
        shutdown: impl Future<Output = ()>,
    ) -> Result<bool, Error> {
        let clock = Arc::clone(&self.options.clock);
        let mut shutdown = pin!(shutdown);
        let mut changed = self.tracker.changed_elsewhere();
        let mut stop_by: Option<Instant> = None;
        let mut events = vec![first];
        events.extend(self.look_at_disk());
        loop {
            let now = clock.now();
            for event in events.drain(..) {
                for command in dispatcher.handle(event, now) {
                    self.perform(command, now)?;
                }
            }
            if self.began.elapsed() >= self.vitals.next() && self.beating.is_none() {
                self.beat(now);
            }
            self.take_care();
            events.extend(self.look_around(now, &mut stop_by));
            if !events.is_empty() {
                continue;
            }
            if dispatcher.is_over() {
                return Ok(true);
            }
            if let (true, Some(data)) = (dispatcher.is_starved(), self.tracker.folder()) {
                return Err(Error::DiskLow { data: data.to_owned(), min_free_bytes: self.options.min_free_bytes });
            }
            if stop_by.is_some_and(|by| by <= Instant::now()) {
                return Ok(false);
            }
            let until_look = if dispatcher.is_running() { HELD_LOOK } else { Duration::MAX };
            let wait = dispatcher.wake_at(now).since(now).min(self.next_turn(stop_by)).min(until_look);
            let event = tokio::select! {
                biased;
                () = &mut shutdown, if stop_by.is_none() => {
                    stop_by = Some(Instant::now() + self.options.grace);
                    Some(Event::Stop)
                }
                Some(written) = self.writes.next() => written?,
                beaten = poll(&mut self.beating) => {
                    self.beating = None;
                    beaten?
                }
                finished = self.finished.recv() => {
                    let mut finished = finished.ok_or(Error::Stopped)?;
                    let refusal = finished.refusal.take().map(|refusal| Error::from(*refusal));
                    events.extend(refusal.map(|refusal| self.stop_for(refusal, &mut stop_by)));
                    Some(Event::Finished(finished))
                }
                page = self.pages.recv() => Some(Event::Page(page.ok_or(Error::Stopped)?)),
                (upkeep, rest) = self.care.turn() => {
                    self.care = Care::Rest(upkeep, Instant::now() + rest);
                    None
                }
                result = &mut changed => {
                    changed = self.tracker.changed_elsewhere();
                    result?;
                    Some(Event::Changed)
                }
                () = tokio::time::sleep(wait) => Some(Event::Woken),
            };
            events.extend(event);
        }
    }

    /// Checks the disk and the threads, each when it is due.
    fn look_around(&mut self, now: Timestamp, stop_by: &mut Option<Instant>) -> Vec<Event> {
        let mut events = Vec::new();
        if self.disk_looked.elapsed() >= DISK_LOOK {
            events.extend(self.look_at_disk());
        }
        if self.held_looked.elapsed() >= HELD_LOOK {
            events.extend(self.replace_held(now, stop_by));
        }
        events
    }

    /// Lets the host stop because of a fault.
    fn stop_for(&mut self, fault: Error, stop_by: &mut Option<Instant>) -> Event {
        self.fault.get_or_insert(fault);
        stop_by.get_or_insert(Instant::now() + self.options.grace);
        Event::Stop
    }

    /// Takes the work of threads that hang, replaces them, and reports it.
    fn replace_held(&mut self, now: Timestamp, stop_by: &mut Option<Instant>) -> Vec<Event> {
        self.held_looked = Instant::now();
        if self.fault.is_some() {
            return Vec::new();
        }
        let taken = match self.workers.replace_held() {
            Ok(taken) => taken,
            Err(fault) => return vec![self.stop_for(fault, stop_by)],
        };
        let tell = |held: Held| {
            let Held { finished, stage, timeout } = held;
            let job = finished.stage.job();
            tracing::warn!(stage, ?timeout, "an attempt hangs in a call of the system: its thread is replaced");
            let data = serde_json::json!({ "stage": stage, "timeout_seconds": timeout.as_secs_f64() }).to_string();
            let event = NewEvent { kind: "host.thread_replaced".to_owned(), job: Some(job), data, now };
            let tracker = self.tracker;
            self.write(async move {
                tracker.record_event(event).await?;
                Ok(None)
            });
            Event::Finished(finished)
        };
        taken.into_iter().map(tell).collect()
    }

    /// Begins a turn of upkeep if it is time.
    fn take_care(&mut self) {
        if self.care.next().is_some_and(|at| at <= Instant::now())
            && let Care::Rest(upkeep, _) = std::mem::replace(&mut self.care, Care::Never)
        {
            self.care = Care::Turn(Box::pin(upkeep.turn(self.tracker, self.options.clock.as_ref())));
        }
    }

    /// How long the loop itself has nothing to do.
    fn next_turn(&self, stop_by: Option<Instant>) -> Duration {
        let beat = self.vitals.next().saturating_sub(self.began.elapsed());
        let next_beat = if self.beating.is_some() { Duration::MAX } else { beat };
        let until_stop = stop_by.map_or(Duration::MAX, |by| by.duration_since(Instant::now()));
        let until_care = self.care.next().map_or(Duration::MAX, |at| at.duration_since(Instant::now()));
        next_beat.min(until_stop).min(until_care)
    }

    fn perform(&self, command: Command, now: Timestamp) -> Result<(), Error> {
        let tracker = self.tracker;
        match command {
            Command::Run(lease) => {
                let context = Arc::clone(&self.parts.stages[&lease.stage]);
                self.workers.run(Chunk { lease, context })?;
            }
            Command::Ask(job, cursor, backlog) => {
                let (loaded, asker) = (Arc::clone(&self.parts.jobs[&job]), self.discoverer.asker());
                self.write(async move {
                    let ready = tracker.stats(job).await?.in_states(&[State::Ready]);
                    if ready > u64::from(backlog) {
                        return Ok(Some(Event::Backlogged(job)));
                    }
                    asker.ask(PageRequest { job, loaded, cursor })?;
                    Ok(None)
                });
            }
            Command::StopWorkers => self.workers.stop(),
            Command::Round(round) => {
                self.write(async move { Ok(Some(Event::Round(settle_and_claim(tracker, round).await?))) });
            }
            Command::Release(releases) => self.write(async move {
                tracker.release(releases).await?;
                Ok(Some(Event::Released))
            }),
            Command::Upsert(batch) => self.write(async move {
                let (job, cursor) = (batch.job, batch.source.cursor().map(str::to_owned));
                match tracker.upsert(batch).await {
                    Ok(upserted) => Ok(Some(Event::Upserted(job, upserted))),
                    // The page is asked for again, and merged into the data known then.
                    Err(error @ TrackerError::Overtaken(_)) => {
                        let page = Err(PageFailure::of_host(error.to_string()));
                        Ok(Some(Event::Page(PageResult { job, cursor, page, log: String::new() })))
                    }
                    // The page itself is at fault, and would be refused again.
                    Err(error) if error.is_refusal() => {
                        let page = Err(PageFailure::refused(&error));
                        Ok(Some(Event::Page(PageResult { job, cursor, page, log: String::new() })))
                    }
                    Err(error) => Err(error.into()),
                }
            }),
            Command::Promote(limit) => {
                self.write(async move { Ok(Some(Event::Promoted(tracker.promote(now, limit).await?))) });
            }
            Command::Look => self.write(async move { Ok(Some(Event::Outlook(tracker.outlook().await?))) }),
        }
        Ok(())
    }

    fn write(&self, future: impl Future<Output = Result<Option<Event>, Error>> + Send + 'a) {
        self.writes.push(Box::pin(future));
    }

    /// Records that this host is alive, and reaps the leases of hosts that are not.
    fn beat(&mut self, now: Timestamp) {
        let beat = self.vitals.beat(now, self.began.elapsed());
        if let Some((by, ahead)) = beat.jump {
            let direction = if ahead { "ahead" } else { "back" };
            tracing::warn!("the system's clock jumped {direction} by {} s", by.as_secs());
            if !ahead {
                // What was put to wait before waits by the clock that was ahead.
                let (tracker, longest) = (self.tracker, self.parts.longest_waits());
                self.write(async move { Ok(Some(Event::Promoted(tracker.shorten_waits(longest, now).await?))) });
            }
        }
        let (tracker, host, takeover_after) = (self.tracker, self.host, self.options.takeover_after);
        let heartbeat_before = now - takeover_after;
        let reap = Reap { host, now, heartbeat_before, leases_max: REAP_MAX, policies: self.parts.policies() };
        let asked = Instant::now();
        self.beating = Some(Box::pin(async move {
            if !tracker.heartbeat(host, now).await? {
                tracing::warn!("another host had given this one up, and took over its work: it goes on with new work");
            }
            // If the tracker is slow to take this heartbeat, those of other hosts may be late for the same reason.
            let stalled = asked.elapsed() > takeover_after / 2;
            if stalled {
                tracing::warn!(
                    "the tracker took {} s for a heartbeat: nobody is judged by his",
                    asked.elapsed().as_secs()
                );
            }
            if stalled || !beat.may_reap {
                return Ok(None);
            }
            Ok(Some(Event::Reaped(tracker.reap(reap).await?)))
        }));
    }

    /// Checks the free disk space. Returns an event if that changes what may be done.
    fn look_at_disk(&mut self) -> Option<Event> {
        self.disk_looked = Instant::now();
        let data = self.tracker.folder()?;
        let min_free = self.options.min_free_bytes;
        let free = free_bytes(data)?;
        let disk = Disk::of(free, min_free);
        if disk == self.disk {
            return None;
        }
        self.disk = disk;
        match disk {
            Disk::Ample => tracing::warn!("the disk has room again: the host goes on"),
            Disk::Low => tracing::warn!(free_bytes = free, "the disk has little room: nothing new is discovered"),
            Disk::Full => tracing::warn!(free_bytes = free, "the disk has hardly any room: nothing more is begun"),
        }
        let data = serde_json::json!({ "free_bytes": free, "min_free_bytes": min_free }).to_string();
        let event = NewEvent { kind: disk.event().to_owned(), job: None, data, now: self.options.clock.now() };
        let tracker = self.tracker;
        self.write(async move {
            tracker.record_event(event).await?;
            Ok(None)
        });
        Some(Event::Disk(disk))
    }

    /// Ends without waiting for the threads: for a host that can record nothing any more.
    pub(crate) fn abandon(self) {
        self.workers.abandon();
        self.discoverer.abandon();
    }

    /// Ends the threads. Attempts that run longer than the grace period are given back uncharged, and their threads
    /// left behind.
    ///
    /// # Errors
    /// If the tracker fails, or a fault is why the host ends.
    pub(crate) async fn end(self, dispatcher: &Dispatcher, ended_in_time: bool) -> Result<(), Error> {
        let Self { tracker, workers, discoverer, writes, fault, .. } = self;
        if !ended_in_time {
            drop(writes);
            if let Ok(given_back) = tokio::time::timeout(RELEASE_PATIENCE, tracker.release(dispatcher.held())).await {
                let attempts = given_back?;
                tracing::warn!(attempts, "the grace ran out: running attempts are given back, uncharged");
            } else {
                tracing::warn!("the grace ran out, and the tracker takes nothing: the next host takes over");
            }
            workers.abandon();
            discoverer.abandon();
        } else if dispatcher.summary.interrupted {
            // The next host asks for an unfinished page again, since its cursor was not recorded.
            discoverer.abandon();
        }
        fault.map_or(Ok(()), Err)
    }
}

/// Polls the future if there is one; pending for ever otherwise.
async fn poll<T>(pending: &mut Option<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> T {
    match pending {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
