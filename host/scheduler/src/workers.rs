//! The threads that run attempts.
//!
//! Owns plain threads, one for each core, which get chunks over a bounded channel. A task for each attempt would cost a
//! tenth of the speed, and nothing here waits. The work of a thread is shared, so that it can be taken away: a thread
//! that still hangs in a system call long after its attempt's deadline is left behind, and another one replaces it.
//! Never decides what runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::vec;

use crossbeam_channel::{Receiver, Sender, bounded};
use gristmill_model::{Clock, Fence, HostId, StageId, StageKey, Timestamp};
use gristmill_sandbox::{Error as SandboxError, HELD_MAX, PATIENCE, THREAD_STACK_BYTES};
use gristmill_tracker::{Claim, Completion, Lease};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Error;
use crate::attempt::{self, Begun};
use crate::load::StageContext;
use crate::pace::ATTEMPTS_IN_FLIGHT_MAX;
use crate::trace::Trace;

/// A thread reports finished attempts after this long, even if its chunk is not finished.
const REPORT_AFTER: Duration = Duration::from_millis(20);

/// How long after its deadline an attempt is given up. A guest is interrupted within milliseconds, so a thread that is
/// later than this hangs in a call that nothing interrupts. The time includes the wait for a sandbox.
const HELD_AFTER: Duration = PATIENCE.saturating_add(Duration::from_secs(5));

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
    /// Claims that were not begun: the host is stopping, the machine refused a sandbox, or the thread was left behind.
    pub(crate) unrun: Vec<StageKey>,
    /// The input bytes of all of them, which are in flight no longer.
    pub(crate) input_bytes: u64,
    /// Why the machine refused a sandbox, if it did.
    pub(crate) refusal: Option<Box<SandboxError>>,
    /// How long the completions took, to set the stage's pace.
    pub(crate) elapsed: Duration,
}

/// A thread that was left behind.
pub(crate) struct Held {
    /// Its work: the running attempt is a timeout, and the rest of its chunk was not begun.
    pub(crate) finished: Finished,
    /// The name of the attempt's stage.
    pub(crate) stage: String,
    /// The attempt's time limit.
    pub(crate) timeout: Duration,
}

/// The handle of the threads. Dropping it ends each thread after its current attempt.
pub(crate) struct Workers {
    /// The channel to the threads; none once no more work comes, which ends them.
    sender: Option<Sender<Chunk>>,
    /// What a new thread needs.
    crew: Crew,
    /// One for each thread that may run at once; none if a thread was left behind and not replaced.
    places: Vec<Option<Place>>,
}

/// A thread and its current work.
struct Place {
    hand: Arc<Hand>,
    thread: JoinHandle<()>,
}

/// What all threads share.
#[derive(Clone)]
struct Crew {
    /// Where a free thread takes its next chunk from.
    chunks: Receiver<Chunk>,
    /// Where threads report to the event loop.
    finished: mpsc::Sender<Finished>,
    /// Set when the host stops: threads then give back what they have not begun.
    stop: Arc<AtomicBool>,
    /// How many threads were left behind and have not ended. Each still holds a sandbox, so their number is bounded.
    held: Arc<AtomicUsize>,
    clock: Arc<dyn Clock>,
    trace: Option<(HostId, Arc<Trace>)>,
}

impl Workers {
    pub(crate) fn start(
        threads: usize,
        clock: &Arc<dyn Clock>,
        trace: Option<(HostId, &Arc<Trace>)>,
        finished: &mpsc::Sender<Finished>,
    ) -> Result<Self, Error> {
        // There are never more chunks than attempts in flight. The dispatcher bounds those, so it never waits in `run`.
        let (sender, chunks) = bounded(ATTEMPTS_IN_FLIGHT_MAX);
        let crew = Crew {
            chunks,
            finished: finished.clone(),
            stop: Arc::default(),
            held: Arc::default(),
            clock: Arc::clone(clock),
            trace: trace.map(|(host, trace)| (host, Arc::clone(trace))),
        };
        let mut workers = Self { sender: Some(sender), crew, places: Vec::with_capacity(threads) };
        for number in 0..threads {
            workers.places.push(Some(workers.crew.start(number)?));
        }
        Ok(workers)
    }

    /// Hands a chunk to the next free thread.
    pub(crate) fn run(&self, chunk: Chunk) -> Result<(), Error> {
        self.sender.as_ref().ok_or(Error::Stopped)?.send(chunk).map_err(|_| Error::Stopped)
    }

    /// Lets each thread finish its current attempt, and give back the rest of its chunk.
    pub(crate) fn stop(&self) {
        self.crew.stop.store(true, Ordering::Relaxed);
    }

    /// Takes the work of threads that hang long after their attempt's deadline, and replaces them while at most
    /// `HELD_MAX` threads hang. Whatever such a thread still does is ignored.
    ///
    /// # Errors
    /// If all threads already hang and no more may be replaced, or if the system refuses a thread.
    pub(crate) fn replace_held(&mut self) -> Result<Vec<Held>, Error> {
        let mut taken = Vec::new();
        for (number, place) in self.places.iter_mut().enumerate() {
            if let Some(held) = place.as_ref().and_then(|place| place.hand.take_overdue(&self.crew)) {
                taken.push(held);
                *place = None;
            }
            if place.is_none() && self.crew.held.load(Ordering::Relaxed) <= HELD_MAX {
                *place = Some(self.crew.start(number)?);
            }
        }
        if taken.is_empty() && self.places.iter().all(Option::is_none) {
            return Err(Error::Held { threads: self.crew.held.load(Ordering::Relaxed) });
        }
        Ok(taken)
    }

    /// Ends without waiting for the threads: for a host that ends while attempts are still running.
    pub(crate) fn abandon(mut self) {
        self.places.clear();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
        self.sender = None;
        for place in self.places.drain(..).flatten() {
            let _ = place.thread.join();
        }
    }
}

impl Crew {
    fn start(&self, number: usize) -> Result<Place, Error> {
        let hand = Arc::new(Hand::default());
        let worker = Worker { crew: self.clone(), hand: Arc::clone(&hand) };
        let builder = std::thread::Builder::new().name(format!("attempts-{number}")).stack_size(THREAD_STACK_BYTES);
        let thread = builder.spawn(move || worker.run()).map_err(Error::Thread)?;
        Ok(Place { hand, thread })
    }
}

/// The current work of a thread. The thread takes each claim from here and brings back its completion.
#[derive(Default)]
struct Hand(Mutex<Grip>);

#[derive(Default)]
enum Grip {
    /// Nothing.
    #[default]
    Empty,
    /// A chunk.
    Holds(Box<Open>),
    /// The work was taken away: the thread was left behind.
    Taken,
}

/// A chunk that is being run.
struct Open {
    fence: Fence,
    context: Arc<StageContext>,
    /// The claims that are not begun yet.
    rest: vec::IntoIter<Claim>,
    /// The running attempt, and when it is given up.
    running: Option<(Begun, Instant)>,
    /// Finished attempts that are not reported yet.
    completions: Vec<Completion>,
    /// The input bytes of those and of the running attempt.
    input_bytes: u64,
    /// When the thread last reported, or began the chunk.
    told_at: Timestamp,
}

impl Hand {
    fn lock(&self) -> MutexGuard<'_, Grip> {
        // No code under this lock can panic halfway, so a poisoned lock is safe to use.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all work from a thread whose attempt is overdue.
    fn take_overdue(&self, crew: &Crew) -> Option<Held> {
        let mut grip = self.lock();
        let Grip::Holds(open) = &*grip else { return None };
        if open.running.is_none_or(|(_, overdue_at)| overdue_at > Instant::now()) {
            return None;
        }
        let Grip::Holds(mut open) = std::mem::replace(&mut *grip, Grip::Taken) else { return None };
        crew.held.fetch_add(1, Ordering::Relaxed);
        let now = crew.clock.now();
        if let Some((begun, _)) = open.running.take() {
            open.completions.push(begun.give_up(&open.context, now));
        }
        let (stage, timeout) = (open.context.spec().name.clone(), open.context.tuning().limits.timeout);
        Some(Held { finished: open.close(None, now), stage, timeout })
    }
}

impl Open {
    fn new(chunk: Chunk, now: Timestamp) -> Self {
        let Chunk { lease: Lease { fence, claims, .. }, context } = chunk;
        let completions = Vec::with_capacity(claims.len());
        Self { fence, context, rest: claims.into_iter(), running: None, completions, input_bytes: 0, told_at: now }
    }

    /// What is finished so far, if it is time to report.
    fn report(&mut self, now: Timestamp) -> Option<Finished> {
        let elapsed = now.since(self.told_at);
        if elapsed < REPORT_AFTER || self.rest.len() == 0 {
            return None;
        }
        self.told_at = now;
        Some(self.finished(Vec::new(), None, elapsed))
    }

    /// Everything that is not reported yet. Claims that are not begun are given back.
    fn close(mut self, refused: Option<(StageKey, SandboxError)>, now: Timestamp) -> Finished {
        let (key, refusal) = refused.unzip();
        self.input_bytes += self.rest.as_slice().iter().map(Claim::bytes).sum::<u64>();
        let unrun = key.into_iter().chain(self.rest.by_ref().map(|claim| claim.key)).collect();
        let elapsed = now.since(self.told_at);
        self.finished(unrun, refusal.map(Box::new), elapsed)
    }

    fn finished(&mut self, unrun: Vec<StageKey>, refusal: Option<Box<SandboxError>>, elapsed: Duration) -> Finished {
        let completions = std::mem::take(&mut self.completions);
        let input_bytes = std::mem::take(&mut self.input_bytes);
        Finished { fence: self.fence, stage: self.context.id, completions, unrun, input_bytes, refusal, elapsed }
    }
}

struct Worker {
    crew: Crew,
    hand: Arc<Hand>,
}

/// What a thread does next.
enum Next {
    /// The next claim of its chunk.
    Run(Claim, Begun),
    /// Its chunk is over, and this is the last report.
    Tell(Finished),
    /// Its chunk is over, and everything is reported.
    Rest,
    /// Nothing: it was left behind.
    End,
}

impl Worker {
    fn run(&self) {
        while let Ok(chunk) = self.crew.chunks.recv() {
            let (fence, context) = (chunk.lease.fence, Arc::clone(&chunk.context));
            *self.hand.lock() = Grip::Holds(Box::new(Open::new(chunk, self.crew.clock.now())));
            loop {
                match self.next() {
                    Next::Run(claim, begun) => {
                        if self.attempt(fence, &context, &claim, &begun).is_err() {
                            return;
                        }
                    }
                    Next::Tell(finished) => match self.crew.finished.blocking_send(finished) {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Next::Rest => break,
                    Next::End => {
                        self.crew.held.fetch_sub(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
        }
    }

    /// Takes the next claim of the current work, unless the host is stopping.
    fn next(&self) -> Next {
        let now = self.crew.clock.now();
        let mut grip = self.hand.lock();
        let open = match &mut *grip {
            Grip::Holds(open) => open,
            Grip::Empty => return Next::Rest,
            Grip::Taken => return Next::End,
        };
        let stopping = self.crew.stop.load(Ordering::Relaxed);
        if let Some(claim) = Some(&mut open.rest).filter(|_| !stopping).and_then(Iterator::next) {
            let begun = Begun::new(&open.context, &claim, now);
            let overdue_at = Instant::now() + open.context.tuning().limits.timeout.saturating_add(HELD_AFTER);
            open.input_bytes += claim.bytes();
            open.running = Some((begun, overdue_at));
            return Next::Run(claim, begun);
        }
        let Grip::Holds(open) = std::mem::take(&mut *grip) else { return Next::Rest };
        Next::Tell(open.close(None, now))
    }

    /// Runs one claim, and adds its completion to the current work; an error if nobody receives reports any more.
    fn attempt(
        &self,
        fence: Fence,
        context: &StageContext,
        claim: &Claim,
        begun: &Begun,
    ) -> Result<(), mpsc::error::SendError<Finished>> {
        let spec = context.spec();
        if let Some((host, trace)) = &self.crew.trace {
            trace.begins(*host, fence, &spec.name, &claim.item_key, claim.counters.attempts + 1);
        }
        let now = || self.crew.clock.now();
        let done = if let Some(damage) = &claim.damage {
            Ok(begun.refuse(damage, now()))
        } else if let Some(reason) = spec.when.refuses(&claim.data) {
            Ok(begun.skip(reason, now()))
        } else {
            attempt::run(context, claim, begun).map(|done| begun.conclude(context, claim, done, now()))
        };
        let finished = {
            let mut grip = self.hand.lock();
            // Left behind: `next` says so.
            let Grip::Holds(open) = &mut *grip else { return Ok(()) };
            open.running = None;
            match done {
                Ok(completion) => {
                    let now = completion.ended_at;
                    open.completions.push(completion);
                    open.report(now)
                }
                Err(refusal) => {
                    let Grip::Holds(open) = std::mem::take(&mut *grip) else { return Ok(()) };
                    Some(open.close(Some((claim.key, refusal)), self.crew.clock.now()))
                }
            }
        };
        finished.map_or(Ok(()), |finished| self.crew.finished.blocking_send(finished))
    }
}
