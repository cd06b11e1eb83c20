//! The threads that run attempts.
//!
//! Owns plain threads, one a core, fed in chunks over a bounded channel: a task an attempt would cost a tenth of the
//! speed, and nothing in here waits. An attempt cannot fail to be one: whatever the guest does is a completion.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use gristmill_model::{
    Clock, Digest, Disposition, Fence, HostId, Outcome, StageId, StageKey, Timestamp, decide, idempotency_key,
    input_hash,
};
use gristmill_sandbox::{AttemptContext, Error as SandboxError, THREAD_STACK_BYTES, Work};
use gristmill_tracker::{Claim, Completion, Lease, Output};
use tokio::sync::mpsc;

use crate::Error;
use crate::load::StageContext;
use crate::pace::ATTEMPTS_IN_FLIGHT_MAX;
use crate::trace::Trace;

/// A thread tells what is finished after this long, though its chunk is not.
const REPORT_AFTER: Duration = Duration::from_millis(20);

/// Work for one thread.
pub(crate) struct Chunk {
    pub(crate) lease: Lease,
    pub(crate) context: Arc<StageContext>,
}

/// What a thread has finished.
pub(crate) struct Finished {
    pub(crate) fence: Fence,
    pub(crate) stage: StageId,
    pub(crate) completions: Vec<Completion>,
    /// Not begun, because the host is stopping, or the machine refused a sandbox.
    pub(crate) unrun: Vec<StageKey>,
    /// How the machine refused it.
    pub(crate) refusal: Option<Box<SandboxError>>,
    /// How long the completions took.
    pub(crate) elapsed: Duration,
}

/// The handle of the threads. Dropping it ends them, each after its attempt at hand.
pub(crate) struct Workers {
    sender: Option<Sender<Chunk>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(crate) fn start(
        threads: usize,
        clock: &Arc<dyn Clock>,
        trace: Option<(HostId, &Arc<Trace>)>,
        finished: &mpsc::Sender<Finished>,
    ) -> Result<Self, Error> {
        // Never more chunks than attempts in flight, so that the dispatcher, which bounds those, never waits in `run`.
        let (sender, receiver) = bounded(ATTEMPTS_IN_FLIGHT_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Self { sender: Some(sender), stop, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let worker = Worker {
                chunks: receiver.clone(),
                finished: finished.clone(),
                stop: Arc::clone(&workers.stop),
                clock: Arc::clone(clock),
                trace: trace.map(|(host, trace)| (host, Arc::clone(trace))),
            };
            let builder = std::thread::Builder::new().name(format!("attempts-{number}")).stack_size(THREAD_STACK_BYTES);
            workers.threads.push(builder.spawn(move || worker.run()).map_err(Error::Thread)?);
        }
        Ok(workers)
    }

    /// Hands a chunk to the next free thread.
    pub(crate) fn run(&self, chunk: Chunk) -> Result<(), Error> {
        self.sender.as_ref().ok_or(Error::Stopped)?.send(chunk).map_err(|_| Error::Stopped)
    }

    /// Lets each thread finish the attempt at hand, and give the rest of its chunk back.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Leaves the threads behind. For a host that ends while attempts are still running.
    pub(crate) fn abandon(mut self) {
        self.threads.clear();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
        self.sender = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Worker {
    chunks: Receiver<Chunk>,
    finished: mpsc::Sender<Finished>,
    stop: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
    trace: Option<(HostId, Arc<Trace>)>,
}

impl Worker {
    fn run(&self) {
        while let Ok(chunk) = self.chunks.recv() {
            if self.run_chunk(chunk).is_err() {
                return;
            }
        }
    }

    /// Runs a chunk and tells what came of it; an error if nobody listens any more.
    fn run_chunk(&self, chunk: Chunk) -> Result<(), mpsc::error::SendError<Finished>> {
        let Chunk { lease: Lease { fence, stage, claims }, context } = chunk;
        let mut claims = claims.into_iter();
        let report = |completions, unrun, refusal, elapsed| {
            self.finished.blocking_send(Finished { fence, stage, completions, unrun, refusal, elapsed })
        };
        let mut started = self.clock.now();
        let mut completions = Vec::with_capacity(claims.len());
        while !self.stop.load(Ordering::Relaxed)
            && let Some(claim) = claims.next()
        {
            if let Some((host, trace)) = &self.trace {
                trace.begins(*host, fence, &context.spec().name, &claim.item_key, claim.counters.attempts + 1);
            }
            match attempt(&context, &claim, self.clock.as_ref()) {
                Ok(completion) => completions.push(completion),
                Err(refusal) => {
                    let unrun = std::iter::once(claim.key).chain(claims.map(|claim| claim.key)).collect();
                    return report(completions, unrun, Some(Box::new(refusal)), self.clock.now().since(started));
                }
            }
            let now = self.clock.now();
            if now.since(started) >= REPORT_AFTER && claims.len() > 0 {
                report(std::mem::take(&mut completions), Vec::new(), None, now.since(started))?;
                started = now;
            }
        }
        let unrun = claims.map(|claim| claim.key).collect();
        report(completions, unrun, None, self.clock.now().since(started))
    }
}

/// An attempt of a stage that does not run for items like this: its component is not asked.
fn does_not_apply(context: &StageContext, claim: &Claim, reason: String, now: Timestamp) -> Completion {
    Completion {
        key: claim.key,
        version: context.version,
        outcome: Outcome::Skipped,
        disposition: Disposition::Skipped,
        output: None,
        input_hash: input_hash(&claim.data_hash, &[], &[]),
        error: Some(reason),
        log: None,
        ready_at: claim.ready_at,
        started_at: now,
        ended_at: now,
        memory_bytes_max: 0,
        charges: Vec::new(),
    }
}

/// Runs one attempt and decides what it leads to; an error if the machine gives no sandbox to run it in.
fn attempt(context: &StageContext, claim: &Claim, clock: &dyn Clock) -> Result<Completion, SandboxError> {
    let (spec, tuning, loaded) = (context.spec(), context.tuning(), context.loaded());
    let job = &context.job.job.spec;
    if let Some(reason) = spec.when.refuses(&claim.data) {
        return Ok(does_not_apply(context, claim, reason, clock.now()));
    }
    let mut upstream = Vec::with_capacity(context.needs.len());
    let mut upstream_hashes = Vec::with_capacity(context.needs.len());
    for (bit, name) in &context.needs {
        if let Some(found) = claim.upstream.iter().find(|upstream| upstream.bit == *bit) {
            upstream.push((name.as_str(), found.output.text.as_str()));
            upstream_hashes.push((name.as_str(), found.output.hash));
        }
    }
    let given = input_hash(&claim.data_hash, &upstream_hashes, &[]);
    let idempotency_key = idempotency_key(&job.name, &claim.item_key, &spec.name, &given, &loaded.version);
    let work = Work {
        job: &job.name,
        stage: &spec.name,
        item_key: &claim.item_key,
        data: &claim.data,
        upstream: &upstream,
        attempt: claim.counters.attempts + 1,
        idempotency_key,
    };
    let attempt_context = AttemptContext {
        limits: tuning.limits,
        granted: &loaded.granted,
        params: &context.job.params,
        frozen_at: claim.discovered_at,
        seed: idempotency_key,
    };
    let started_at = clock.now();
    let done = loaded.handler.run(&work, &attempt_context)?;
    let ended_at = clock.now();
    let params: Vec<(&str, Option<&str>)> =
        done.traces.params_read.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    let input_hash = if params.is_empty() { given } else { input_hash(&claim.data_hash, &upstream_hashes, &params) };
    let disposition = {
        let age = ended_at.since(claim.first_ready_at);
        decide(done.outcome, done.after, claim.counters, age, &tuning.retry, claim.key, context.is_pure)
    };
    let log = log(done.outcome, done.traces.log, done.traces.progress);
    let output = done.output.filter(|_| disposition == Disposition::Done);
    Ok(Completion {
        key: claim.key,
        version: context.version,
        outcome: done.outcome,
        disposition,
        output: output.map(|text| Output { hash: Digest::of(text.as_bytes()), text }),
        input_hash,
        error: done.error,
        log,
        ready_at: claim.ready_at,
        started_at,
        ended_at,
        memory_bytes_max: done.traces.memory_bytes_max,
        charges: done.traces.charges,
    })
}

/// What is kept of an attempt's log: what it wrote, and where it was when it was cut short.
fn log(outcome: Outcome, mut log: String, progress: Option<(f64, String)>) -> Option<String> {
    if let Some((fraction, message)) = progress.filter(|_| outcome != Outcome::Done) {
        let _ = writeln!(log, "[progress] {:.0} % {message}", fraction * 100.0);
    }
    Some(log).filter(|log| !log.is_empty())
}
