//! Ctrl-C and SIGTERM.
//!
//! Owns what the first and the second of them do. Listens on a thread of its own, so that the second one works
//! whatever the host is waiting for. Never touches work: the host is asked to stop, or the process ends.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::context::runtime;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::duration;
use crate::out::Out;

/// Starts to listen. What is returned resolves with the first signal; the second one ends the process.
pub(crate) fn listen(out: Out, grace: Duration) -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error| Failure::new(Exit::Internal, format!("signals cannot be listened to: {error}"));
    let runtime = runtime()?;
    let both = {
        let _guard = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
    };
    let (first, asked_to_stop) = oneshot::channel();
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || wait_for_both(&runtime, both, first, &out, grace)).map_err(failed)?;
    Ok(async {
        // Without that thread nobody asks any more: the run goes on to its end.
        if asked_to_stop.await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

fn wait_for_both(
    runtime: &Runtime,
    mut both: (Signal, Signal),
    first: oneshot::Sender<()>,
    out: &Out,
    grace: Duration,
) {
    let mut next = || {
        runtime.block_on(async {
            tokio::select! {
                _ = both.0.recv() => {}
                _ = both.1.recv() => {}
            }
        });
    };
    next();
    let grace = duration(grace);
    out.note(format_args!("stopping: running attempts may finish, for {grace} at most; a second Ctrl-C stops at once"));
    let _ = first.send(());
    next();
    out.end_bar();
    out.note("stopped at once: what was running is counted as lost, and the next run goes on from here");
    std::process::exit(Exit::Interrupted.code().into());
}
