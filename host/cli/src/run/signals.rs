//! Ctrl-C, SIGTERM and SIGHUP.
//!
//! Owns what the first and the second signal do. Listens on its own thread, so that the second one works whatever the
//! host waits for. Never touches work: it asks the host to stop, or ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal as Number;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::context::runtime;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::duration;
use crate::out::Out;

/// Within this time, the same signal counts once: `npm` and `timeout` pass on a signal that the terminal has also sent.
const ECHO_MAX: Duration = Duration::from_millis(500);

/// The listener, which starts at the very beginning of a run.
pub(crate) struct Signals {
    is_running: Arc<AtomicBool>,
    asked_to_stop: oneshot::Receiver<()>,
}

impl Signals {
    /// Starts listening. Until the host runs, the first signal ends the process.
    pub(crate) fn listen(out: Out, grace: Duration) -> Result<Self, Failure> {
        let failed = |error| Failure::of_machine("signals cannot be listened to", &error);
        let runtime = runtime()?;
        let heard = {
            let _guard = runtime.enter();
            Heard::new().map_err(failed)?
        };
        let (first, asked_to_stop) = oneshot::channel();
        let is_running = Arc::new(AtomicBool::new(false));
        let listener = Listener { runtime, heard, is_running: Arc::clone(&is_running), out, grace };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || listener.listen(first)).map_err(failed)?;
        Ok(Self { is_running, asked_to_stop })
    }

    /// Says that the host runs. The returned future resolves at the first signal, and the second one ends the process.
    pub(crate) fn stop(self) -> impl Future<Output = ()> {
        self.is_running.store(true, Ordering::SeqCst);
        async {
            // Without that thread there are no more signals: the run goes on to its end.
            if self.asked_to_stop.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The signals that ask for an end.
struct Heard {
    interrupt: Signal,
    terminate: Signal,
    /// None under `nohup`, which wants the process to outlive its terminal.
    hangup: Option<Signal>,
}

impl Heard {
    fn new() -> std::io::Result<Self> {
        let hangup = if is_ignored(Number::HUP) { None } else { Some(signal(SignalKind::hangup())?) };
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup })
    }

    async fn next(&mut self) -> SignalKind {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            () = hangup => SignalKind::hangup(),
        }
    }
}

struct Listener {
    runtime: Runtime,
    heard: Heard,
    is_running: Arc<AtomicBool>,
    out: Out,
    grace: Duration,
}

impl Listener {
    fn listen(mut self, first: oneshot::Sender<()>) {
        let asked = self.runtime.block_on(self.heard.next());
        let at = Instant::now();
        if !self.is_running.load(Ordering::SeqCst) {
            self.end("stopped before anything was run");
        }
        let grace = duration(self.grace);
        self.out.note(format_args!(
            "stopping: running attempts may finish, for {grace} at most; a second Ctrl-C stops at once"
        ));
        let _ = first.send(());
        // Ends at the latest at the first signal after `ECHO_MAX`.
        while is_echo(asked, self.runtime.block_on(self.heard.next()), at.elapsed()) {}
        self.end("stopped at once: what was running is counted as lost, and the next run goes on from here");
    }

    fn end(&self, why: &str) -> ! {
        self.out.end_bar();
        self.out.note(why);
        std::process::exit(Exit::Interrupted.code().into());
    }
}

/// Whether a signal is an echo of the first one.
fn is_echo(first: SignalKind, again: SignalKind, after: Duration) -> bool {
    again == first && after < ECHO_MAX
}

/// Whether this process was started with the signal ignored.
fn is_ignored(signal: Number) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_signal_at_once_is_an_echo_and_another_or_a_later_one_is_meant() {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        assert!(is_echo(interrupt, interrupt, Duration::from_millis(20)));
        assert!(!is_echo(interrupt, interrupt, ECHO_MAX));
        assert!(!is_echo(interrupt, terminate, Duration::ZERO));
    }

    #[test]
    fn what_is_ignored_is_known() {
        assert!(is_ignored(Number::PIPE));
        assert!(!is_ignored(Number::XCPU));
    }
}
