//! The thread that talks to the server.
//!
//! Owns its own event loop: an operation goes on even if its caller has gone, and encoding rows takes no time from the
//! dispatcher. Never knows what an operation does.

use std::pin::Pin;
use std::rc::Rc;
use std::thread::JoinHandle;

use gristmill_model::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};

use super::core::Core;
use super::wake::{Wake, listen};
use super::{Access, PostgresOptions};
use gristmill_tracker::Error;

/// How many operations may wait to be started.
const QUEUE_MAX: usize = 1024;

type Work = Pin<Box<dyn Future<Output = ()>>>;
type Job = Box<dyn FnOnce(Rc<Core>) -> Work + Send>;

/// The handle of the thread. Dropping it lets running operations finish, without further tries, and joins the thread.
pub(super) struct Engine {
    sender: Option<mpsc::Sender<Job>>,
    open: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the thread, and waits until it has a connection and the right schema.
    pub(super) fn start(url: &str, options: PostgresOptions, wake: Wake, now: Timestamp) -> Result<Self, Error> {
        let address = super::connect::Address::parse(url)?;
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let (open, closing) = watch::channel(());
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("tracker-postgres".to_owned())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(source) => {
                        let _ = ready.send(Err(Error::Machine { what: "the event loop cannot be started", source }));
                        return;
                    }
                };
                LocalSet::new().block_on(&runtime, async move {
                    match Core::connect(address, options, wake, closing, now).await {
                        Ok(core) => {
                            let _ = ready.send(Ok(()));
                            serve(Rc::new(core), options.access, receiver).await;
                        }
                        Err(error) => {
                            let _ = ready.send(Err(error));
                        }
                    }
                });
            })
            .map_err(|source| Error::Machine { what: "a thread could not be started", source })?;
        started.recv().map_err(|_| Error::Stopped)??;
        Ok(Self { sender: Some(sender), open: Some(open), thread: Some(thread) })
    }

    /// Submits an operation.
    pub(super) async fn submit<T, F>(&self, work: impl FnOnce(Rc<Core>) -> F + Send + 'static) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |core| {
            let work = work(core);
            Box::pin(async move {
                // The caller may have gone. The commit stays.
                let _ = reply.send(work.await);
            })
        });
        self.sender.as_ref().ok_or(Error::Stopped)?.send(job).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.sender = None;
        self.open = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(core: Rc<Core>, access: Access, mut receiver: mpsc::Receiver<Job>) {
    let listener = (access == Access::Host).then(|| tokio::task::spawn_local(listen(Rc::clone(&core))));
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            job = receiver.recv() => match job {
                Some(job) => drop(under_way.spawn_local(job(Rc::clone(&core)))),
                None => break,
            },
            Some(_) = under_way.join_next() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
    if let Some(listener) = listener {
        listener.abort();
    }
}
