//! The clock that interrupts guests: an epoch of the engine every few milliseconds.
//!
//! Owns one thread, which sleeps while no attempt runs. Never decides how long an attempt may run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use wasmtime::Engine;

/// The length of an epoch: a guest is interrupted at most this long after its deadline.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// The thread goes to sleep after this many ticks without an attempt: waking it costs more than a few idle ticks.
const IDLE_TICKS_MAX: u32 = 20;

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "limits of wall time need a clock that nobody can set")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// How many epochs cover `time`: never less, and less than one tick more.
pub(crate) fn epochs(time: Duration) -> u64 {
    // One more, since the first epoch has already begun.
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).map_or(u64::MAX / 2, |ticks| ticks.min(u64::MAX / 2) + 1)
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

/// Keeps the ticker awake for as long as it lives.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (engine, theirs) = (engine.clone(), Arc::clone(&shared));
        let handle = thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || tick(&theirs, || engine.increment_epoch()))?;
        Ok(Self { shared, thread: handle.thread().clone(), handle: Some(handle) })
    }

    /// Says that an attempt begins.
    pub(crate) fn enter(&self) -> Running<'_> {
        // These two steps, and the same two in opposite order in the thread, make a lost wake-up impossible.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.asleep.store(false, Ordering::SeqCst);
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(handle) = self.handle.take() {
            // The panic hook has already reported a panic of that thread.
            let _ = handle.join();
        }
    }
}

fn tick(shared: &Shared, increment: impl Fn()) {
    let (mut began, mut ticks, mut idle) = (now(), 0, 0);
    while !shared.stop.load(Ordering::SeqCst) {
        let due = TICK * ticks + TICK;
        thread::park_timeout(due.saturating_sub(now().duration_since(began)));
        // A sleep is often longer than asked, so the clock counts epochs, not the sleeps.
        while now().duration_since(began) >= TICK * (ticks + 1) {
            ticks += 1;
            increment();
        }
        idle = if shared.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle >= IDLE_TICKS_MAX {
            sleep_until_needed(shared);
            (began, ticks, idle) = (now(), 0, 0);
        } else if ticks >= u32::from(u16::MAX) {
            // Keeps the multiplication above from overflowing.
            began += TICK * ticks;
            ticks = 0;
        }
    }
}

fn sleep_until_needed(shared: &Shared) {
    shared.asleep.store(true, Ordering::SeqCst);
    if shared.running.load(Ordering::SeqCst) > 0 {
        shared.asleep.store(false, Ordering::SeqCst);
    }
    while shared.asleep.load(Ordering::SeqCst) && !shared.stop.load(Ordering::SeqCst) {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn epochs_cover_the_time_by_less_than_two_ticks() {
        assert_eq!(epochs(Duration::ZERO), 1);
        assert_eq!(epochs(TICK), 2);
        assert_eq!(epochs(TICK + Duration::from_nanos(1)), 3);
        assert!(epochs(Duration::MAX) < u64::MAX);
    }

    #[test]
    fn an_idle_ticker_sleeps_and_wakes_for_an_attempt() {
        let (shared, count) = (Arc::new(Shared::default()), Arc::new(AtomicU64::new(0)));
        let (theirs, counter) = (Arc::clone(&shared), Arc::clone(&count));
        let handle = thread::spawn(move || {
            tick(&theirs, || {
                counter.fetch_add(1, Ordering::SeqCst);
            });
        });
        let ticker = Ticker { shared, thread: handle.thread().clone(), handle: Some(handle) };
        let wait_for = |what: &dyn Fn() -> bool| {
            let began = now();
            while !what() {
                assert!(now().duration_since(began) < Duration::from_secs(20), "waited in vain");
                thread::yield_now();
            }
        };
        wait_for(&|| ticker.shared.asleep.load(Ordering::SeqCst));
        let asleep_at = count.load(Ordering::SeqCst);
        let running = ticker.enter();
        wait_for(&|| count.load(Ordering::SeqCst) >= asleep_at + 3);
        drop(running);
        wait_for(&|| ticker.shared.asleep.load(Ordering::SeqCst));
    }
}
