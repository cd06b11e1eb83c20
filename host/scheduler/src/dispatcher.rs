//! Decides what the host does next.
//!
//! Owns all in-flight state of a host: what is claimed, what is finished and not yet settled, how far each discovery
//! is, and whether anything is left to do. It is synchronous: an `Event` goes in, `Command`s come out. Never carries
//! out a command, never waits, and never asks the time.

use std::collections::HashMap;
use std::time::Duration;

use gristmill_model::{DiscoverTuning, Disposition, HostId, JobId, StageId, StageKey, Timestamp};
use gristmill_tracker::{
    ClaimRequest, Completion, Release, Round, RoundDone, Settlement, Source as FoundBy, Upsert, Upserted,
};

use crate::discover::{Page, PageResult};
use crate::disk::Disk;
use crate::event::{Command, Event};
use crate::flight::Flight;
use crate::pace::Pace;
use crate::pending::{Due, Others, RoundInFlight};
use crate::source::{Discovery, Source};
use crate::summary::Summary;
use crate::workers::Finished;

/// How many waiting stages are promoted at once.
const PROMOTE_MAX: u32 = 4096;
/// The longest time between two questions for waiting work, in case another process wrote to the tracker.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The same while another host holds work: when that host is done, the run may be over.
const LOOK_AGAIN_SOON: Duration = Duration::from_millis(500);

/// How long discovery pauses while enough stages are ready.
const BACKLOG_REST: Duration = Duration::from_millis(200);

/// What the dispatcher knows about one stage of one job.
struct Stage {
    /// For the events that concern it.
    name: String,
    /// How long its attempts take, which decides how much of it is claimed.
    pace: Pace,
    /// How many attempts of it are claimed and not settled: bounded by its window.
    in_flight: usize,
    /// How many bytes of data and outputs those attempts got, so that one stage cannot fill the memory.
    bytes: u64,
    /// Whether something may be ready. True until a claim returns less than it asked for.
    may_have_ready: bool,
}

/// All state of a host in flight. The module's documentation says more.
pub(crate) struct Dispatcher {
    /// The host that claims and settles.
    host: HostId,
    /// How many attempts run at once: it scales the windows.
    threads: usize,
    /// Whether the host stays when everything is done.
    watch: bool,
    /// The stages of all jobs that this host runs.
    stages: HashMap<StageId, Stage>,
    /// The order in which stages claim. Each round begins one further on, so that no stage is always last.
    order: Vec<StageId>,
    /// The index in `order` where the next round begins.
    turn: usize,
    /// The discovery of each job that has one.
    sources: HashMap<JobId, Source>,
    /// Everything claimed and not settled, with its count and bytes: both are bounded.
    flight: Flight,
    /// Finished attempts that the next round settles.
    finished: Vec<Settlement>,
    /// Claimed work that was not begun and is given back uncharged.
    unrun: Vec<Release>,
    /// The round that the tracker is busy with: there is at most one.
    round: Option<RoundInFlight>,
    /// Goes up whenever something may have become ready, so that a round that began before proves nothing about a
    /// stage.
    ready_epoch: u64,
    /// Whether the tracker is taking work back, which must end before the run is over.
    release_in_flight: bool,
    /// When the next waiting work becomes ready.
    due: Due,
    /// Whether other hosts hold work: while they do, the run is not over.
    others: Others,
    /// What the free disk space allows.
    disk: Disk,
    /// Whether the host was asked to stop: then nothing new begins.
    stopping: bool,
    /// The host's account of this run.
    pub(crate) summary: Summary,
}

impl Dispatcher {
    /// `bytes_max` is how many bytes may be in flight; beyond that, nothing is claimed.
    pub(crate) fn new(host: HostId, threads: usize, watch: bool, bytes_max: u64) -> Self {
        Self {
            host,
            threads,
            watch,
            stages: HashMap::new(),
            order: Vec::new(),
            turn: 0,
            sources: HashMap::new(),
            flight: Flight::new(bytes_max),
            finished: Vec::new(),
            unrun: Vec::new(),
            round: None,
            ready_epoch: 0,
            release_in_flight: false,
            due: Due::Unknown,
            others: Others::Nobody,
            disk: Disk::Ample,
            stopping: false,
            summary: Summary::default(),
        }
    }

    pub(crate) fn add_stage(&mut self, id: StageId, name: &str) {
        let name = name.to_owned();
        let stage = Stage { name, pace: Pace::default(), in_flight: 0, bytes: 0, may_have_ready: true };
        self.stages.insert(id, stage);
        self.order.push(id);
    }

    pub(crate) fn add_source(
        &mut self,
        job: JobId,
        name: &str,
        tuning: DiscoverTuning,
        cursor: Option<String>,
        now: Timestamp,
    ) {
        self.sources.insert(job, Source::new(name, tuning, cursor, now));
    }

    /// Processes an event and returns what to do about it.
    #[must_use]
    pub(crate) fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Finished(finished) => self.finished(finished),
            Event::Round(done) => self.round_done(done, now, &mut commands),
            Event::Released => self.release_in_flight = false,
            Event::Page(result) => self.page(result, now, &mut commands),
            Event::Backlogged(job) => {
                if let Some(source) = self.sources.get_mut(&job) {
                    source.discovery = Discovery::Waiting { at: now + BACKLOG_REST, cursor: source.cursor.take() };
                }
            }
            Event::Upserted(job, upserted) => self.upserted(job, upserted, now),
            Event::Promoted(count) => {
                self.due = Due::Unknown;
                if count > 0 {
                    self.expect_ready();
                }
            }
            // If new waiting work came after the question, its answer is outdated.
            Event::Outlook(outlook) => {
                if let Due::Asked { quiet } = self.due {
                    self.due = outlook.next_due.map_or(Due::None, Due::At);
                    self.others = match (outlook.leases, quiet) {
                        (0, _) => Others::Nobody,
                        (_, true) => Others::Somebody,
                        (_, false) => Others::Perhaps,
                    };
                }
            }
            Event::Reaped(lost) => {
                self.summary.lost += lost.attempts;
                self.summary.dead += lost.dead;
                if lost.attempts > 0 {
                    self.due = Due::Unknown;
                }
            }
            Event::Woken => {
                if self.due == Due::None {
                    self.due = Due::Unknown;
                    if self.others != Others::Nobody {
                        self.expect_ready();
                    }
                }
            }
            Event::Changed => {
                self.due = Due::Unknown;
                self.expect_ready();
            }
            Event::Disk(disk) => self.disk = disk,
            Event::Stop => {
                self.stopping = true;
                self.summary.interrupted = true;
                commands.push(Command::StopWorkers);
            }
        }
        self.next(now, &mut commands);
        commands
    }

    /// Whether nothing is claimed, and no claimed work is being settled or given back.
    fn is_quiet(&self) -> bool {
        self.flight.attempts() == 0
            && self.round.is_none()
            && !self.release_in_flight
            && self.finished.is_empty()
            && self.unrun.is_empty()
    }

    /// Whether only the full disk stops the remaining work.
    pub(crate) fn is_starved(&self) -> bool {
        self.disk == Disk::Full && !self.watch && !self.stopping && self.is_quiet() && !self.is_over()
    }

    /// Whether attempts run, or wait for a thread.
    pub(crate) fn is_running(&self) -> bool {
        self.flight.attempts() > 0
    }

    /// Whether everything is settled or given back.
    pub(crate) fn is_over(&self) -> bool {
        let quiet = self.is_quiet();
        let discovering = self.sources.values().any(|source| matches!(source.discovery, Discovery::Running));
        if self.stopping {
            return quiet;
        }
        let nothing_left = self.stages.values().all(|stage| !stage.may_have_ready)
            && self.due == Due::None
            && self.others == Others::Nobody
            && self.sources.values().all(|source| matches!(source.discovery, Discovery::Over));
        quiet && !discovering && nothing_left && !self.watch
    }

    /// When to wake the dispatcher if no event comes before.
    pub(crate) fn wake_at(&self, now: Timestamp) -> Timestamp {
        let pages = self.sources.values().filter_map(|source| match source.discovery {
            Discovery::Waiting { at, .. } => Some(at),
            Discovery::Running | Discovery::Over => None,
        });
        let due = match self.due {
            Due::At(at) => Some(at),
            Due::Unknown | Due::Asked { .. } | Due::None => None,
        };
        let again = now + if self.others == Others::Nobody { LOOK_AGAIN } else { LOOK_AGAIN_SOON };
        pages.chain(due).fold(again, Timestamp::min)
    }

    /// The work that is claimed and neither settled nor given back: a host that must end now gives it back.
    pub(crate) fn held(&self) -> Vec<Release> {
        self.flight.held()
    }

    fn expect_ready(&mut self) {
        self.ready_epoch += 1;
        for stage in self.stages.values_mut() {
            stage.may_have_ready = true;
        }
    }

    fn finished(&mut self, finished: Finished) {
        let Finished { fence, stage: id, completions, unrun, input_bytes, elapsed, refusal: _ } = finished;
        let count = completions.len() + unrun.len();
        self.flight.finish(count, input_bytes, completions.iter().map(Completion::bytes).sum());
        self.summary.in_flight_bytes_max = self.flight.peak();
        if let Some(stage) = self.stages.get_mut(&id) {
            stage.in_flight -= count;
            stage.bytes = stage.bytes.saturating_sub(input_bytes);
            stage.pace.learn(completions.len(), elapsed);
        }
        for completion in &completions {
            self.note(completion, id);
        }
        if !completions.is_empty() {
            self.finished.push(Settlement { fence, completions });
        }
        if !unrun.is_empty() {
            self.unrun.push(Release { fence, keys: unrun });
        }
    }

    fn note(&mut self, completion: &Completion, id: StageId) {
        *self.summary.outcomes.entry(completion.outcome).or_default() += 1;
        let name = self.stages.get(&id).map_or("?", |stage| stage.name.as_str());
        let error = completion.error.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        match completion.disposition {
            Disposition::Dead(reason) => {
                self.summary.dead += 1;
                tracing::info!(stage = name, reason = reason.name(), error, "dead");
            }
            Disposition::Wait(delay) => tracing::debug!(stage = name, ?delay, error, "waits"),
            Disposition::Done | Disposition::Skipped => {}
        }
    }

    fn round_done(&mut self, done: RoundDone, now: Timestamp, commands: &mut Vec<Command>) {
        let Some(round) = self.round.take() else { return };
        self.flight.settled(round.bytes);
        self.summary.late += done.late;
        self.refused(&done);
        self.summary.rounds += 1;
        if done.applied > 0 {
            self.summary.settled_at = Some(now);
        }
        for ready_at in round.ready {
            self.summary.latency.record(now.since(ready_at));
        }
        if round.postpones {
            // The work that waits now may be due sooner than the known time.
            self.due = Due::Unknown;
        }
        // Work may have become ready after the round's claims. Then an incomplete claim does not prove that a stage is
        // drained.
        let drained = if self.ready_epoch == round.epoch { done.drained } else { Vec::new() };
        if done.released > 0 {
            self.expect_ready();
        }
        for id in drained {
            // Claims come last in a round, so they already saw what the round itself released.
            if let Some(stage) = self.stages.get_mut(&id) {
                stage.may_have_ready = false;
            }
        }
        for lease in done.leases {
            if self.stopping {
                let keys = lease.claims.iter().map(|claim| claim.key).collect();
                self.unrun.push(Release { fence: lease.fence, keys });
                continue;
            }
            let Some(stage) = self.stages.get_mut(&lease.stage) else { continue };
            let (attempts, bytes) = self.flight.begin(&lease);
            stage.in_flight += attempts;
            stage.bytes += bytes;
            commands.push(Command::Run(lease));
        }
    }

    /// Counts the stages that are dead because the tracker refused their attempts. Their outcomes are already counted.
    fn refused(&mut self, done: &RoundDone) {
        for (key, why) in &done.refused {
            self.summary.dead += 1;
            tracing::warn!(item = key.item().0, "{why}");
        }
    }

    fn page(&mut self, result: PageResult, now: Timestamp, commands: &mut Vec<Command>) {
        let Some(source) = self.sources.get_mut(&result.job) else { return };
        let name = source.name.clone();
        for line in result.log.lines() {
            tracing::debug!(job = name, "discovery: {line}");
        }
        match result.page {
            Ok(Page { items, next }) => {
                let (cursor, next, fault) = source.follow(next);
                if let Some(fault) = fault {
                    tracing::warn!(job = name, "discovery ends: {fault}");
                    self.summary.discovery_failures.push((name, fault.to_owned()));
                }
                let found_by = FoundBy::Page { cursor, next };
                let rediscovery = source.tuning.rediscovery.clone();
                commands.push(Command::Upsert(Upsert { job: result.job, items, source: found_by, rediscovery, now }));
            }
            Err(failure) => {
                source.cursor = result.cursor;
                if let Some(reason) = source.fail(&failure, now) {
                    tracing::warn!(job = name, reason = reason.name(), "discovery failed: {}", failure.message);
                    self.summary.discovery_failures.push((name, failure.message));
                } else {
                    tracing::warn!(job = name, "discovery will be tried again: {}", failure.message);
                }
            }
        }
    }

    fn upserted(&mut self, job: JobId, upserted: Upserted, now: Timestamp) {
        let total = &mut self.summary.discovered;
        total.new += upserted.new;
        total.changed += upserted.changed;
        total.unchanged += upserted.unchanged;
        // New data of a known item may make stages run again.
        if upserted.new + upserted.changed > 0 {
            self.expect_ready();
        }
        let watch = self.watch;
        let Some(source) = self.sources.get_mut(&job) else { return };
        source.recorded(now, watch);
    }

    /// Adds the commands that are possible now.
    fn next(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        if !self.release_in_flight && !self.unrun.is_empty() {
            let unrun = std::mem::take(&mut self.unrun);
            for release in &unrun {
                self.flight.forget(release.fence, &release.keys);
            }
            self.release_in_flight = true;
            commands.push(Command::Release(unrun));
        }
        if !self.stopping {
            if self.disk == Disk::Ample {
                self.ask_for_pages(now, commands);
            }
            self.look_at_waiting(now, commands);
        }
        self.start_round(now, commands);
    }

    fn ask_for_pages(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        for (job, source) in &mut self.sources {
            let Discovery::Waiting { at, cursor } = &source.discovery else { continue };
            if *at > now {
                continue;
            }
            source.cursor.clone_from(cursor);
            commands.push(Command::Ask(*job, cursor.clone(), source.tuning.backlog));
            source.discovery = Discovery::Running;
        }
    }

    fn look_at_waiting(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        if self.due == Due::None && self.others == Others::Perhaps && self.is_quiet() {
            self.due = Due::Unknown;
        }
        match self.due {
            Due::Unknown => {
                self.due = Due::Asked { quiet: self.is_quiet() };
                commands.push(Command::Look);
            }
            Due::At(at) if at <= now => {
                self.due = Due::Asked { quiet: false };
                commands.push(Command::Promote(PROMOTE_MAX));
            }
            Due::Asked { .. } | Due::At(_) | Due::None => {}
        }
    }

    /// Starts a round unless one is in flight. While the tracker is busy with one, the next one gathers. This is group
    /// commit: the load decides the size of a batch, and nothing waits for it to fill.
    fn start_round(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        if self.round.is_some() {
            return;
        }
        let claims = if self.stopping || self.disk == Disk::Full { Vec::new() } else { self.claims() };
        if claims.is_empty() && self.finished.is_empty() {
            return;
        }
        let settlements = std::mem::take(&mut self.finished);
        for settlement in &settlements {
            let keys: Vec<StageKey> = settlement.completions.iter().map(|completion| completion.key).collect();
            self.flight.forget(settlement.fence, &keys);
        }
        let done = || settlements.iter().flat_map(|settlement| &settlement.completions);
        self.round = Some(RoundInFlight {
            ready: done().map(|done| done.ready_at).collect(),
            postpones: done().any(|done| matches!(done.disposition, Disposition::Wait(_))),
            epoch: self.ready_epoch,
            bytes: done().map(Completion::bytes).sum(),
        });
        if let Due::Asked { quiet } = &mut self.due {
            // A pending question may see the leases of this round.
            *quiet = false;
        }
        commands.push(Command::Round(Round { host: self.host, now, settlements, claims }));
    }

    /// What to claim: each stage up to its window, and all stages together up to the bound, shared evenly.
    fn claims(&mut self) -> Vec<ClaimRequest> {
        let (mut room, bytes_room) = (self.flight.room(), self.flight.bytes_room());
        if bytes_room == 0 {
            return Vec::new();
        }
        self.turn = (self.turn + 1) % self.order.len().max(1);
        let (before, from) = self.order.split_at(self.turn);
        let asking: Vec<StageId> =
            from.iter().chain(before).filter(|id| self.stages[id].may_have_ready).copied().collect();
        let mut claims = Vec::with_capacity(asking.len());
        for (index, id) in asking.iter().enumerate() {
            let stage = &self.stages[id];
            let share = room.div_ceil(asking.len() - index);
            let limit = stage.pace.window(self.threads).saturating_sub(stage.in_flight).min(share);
            let chunk = stage.pace.chunk();
            // Claims of a few would cost a transaction each. So wait until a chunk fits, or the stage is nearly idle.
            if limit == 0 || (limit < chunk as usize && stage.in_flight > chunk as usize) {
                continue;
            }
            // The tracker claims at least one item, whatever its size. So ask for none while the stage already has all
            // its bytes.
            let bytes = self.flight.stage_bytes_max().saturating_sub(stage.bytes);
            if bytes == 0 {
                continue;
            }
            room -= limit;
            let bytes = bytes.min(bytes_room / asking.len() as u64);
            claims.push(ClaimRequest { stage: *id, limit: limit as u32, chunk, bytes });
        }
        claims
    }
}

#[cfg(test)]
#[path = "dispatcher_tests.rs"]
mod tests;
