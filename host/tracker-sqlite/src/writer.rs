//! The thread that writes.
//!
//! Owns the only connection that writes, and group commit: everything that waits goes into one transaction. Never knows
//! what an operation does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::blobs::Blobs;
use super::session::Session;
use super::wait::Wait;
use crate::fail::Fail;
use gristmill_tracker::Error;

/// How many operations may wait for the writer.
const QUEUE_MAX: usize = 1024;
/// How many operations go into one transaction.
const BATCH_MAX: usize = 256;

/// An operation, in two steps: its writes, and the answer once they are committed.
trait Operation: Send {
    fn run(&mut self, session: &mut Session<'_>) -> Result<(), Fail>;
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

struct Pending<T, F> {
    write: F,
    written: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Operation for Pending<T, F>
where
    T: Send,
    F: FnMut(&mut Session<'_>) -> Result<T, Fail> + Send,
{
    fn run(&mut self, session: &mut Session<'_>) -> Result<(), Fail> {
        self.written = Some((self.write)(session)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let Self { written, reply, .. } = *self;
        // The caller may have gone. The commit stays.
        let _ = reply.send(committed.and_then(|()| written.ok_or(Error::Stopped)));
    }
}

/// The handle of the thread that writes. Dropping it lets the thread finish all waiting operations, and joins it.
pub(super) struct Writer {
    /// Set when the handle is dropped: then the thread waits no longer for other processes.
    closing: Arc<AtomicBool>,
    sender: Option<SyncSender<Box<dyn Operation>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// `beside` says that a host may be writing too. `patience` is how long a transaction waits for another process.
    pub(super) fn start(connection: Connection, blobs: Blobs, beside: bool, patience: Duration) -> Result<Self, Fail> {
        let closing = Arc::new(AtomicBool::new(false));
        let wait = Wait::new(patience, Arc::clone(&closing));
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let (ready, started) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("tracker-writer".to_owned())
            .spawn(move || match Session::new(&connection, blobs, beside, wait) {
                Ok(session) => {
                    let _ = ready.send(Ok(()));
                    write_all(session, &receiver);
                    if !beside {
                        // A checkpoint at the end leaves a single file. Without it nothing is lost either.
                        let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
                    }
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            })
            .map_err(|source| Error::Machine { what: "a thread could not be started", source })?;
        started.recv().map_err(|_| Error::Stopped)??;
        Ok(Self { closing, sender: Some(sender), thread: Some(thread) })
    }

    /// Submits an operation. `write` may run twice: in a batch, and alone if that batch failed.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        write: impl FnMut(&mut Session<'_>) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let pending = Box::new(Pending { write, written: None, reply });
        self.sender.as_ref().ok_or(Error::Stopped)?.send(pending).map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(mut session: Session<'_>, receiver: &Receiver<Box<dyn Operation>>) {
    while let Ok(first) = receiver.recv() {
        // Everything that waits now, without waiting for more.
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(next) = receiver.try_recv()
        {
            batch.push(next);
        }
        write_batch(&mut session, batch);
    }
}

/// Writes a batch in one transaction. If that fails, each operation is done again in its own transaction, so that a bad
/// one fails alone. This is rare; a savepoint for each operation would always cost a quarter of the speed.
fn write_batch(session: &mut Session<'_>, mut batch: Vec<Box<dyn Operation>>) {
    let result = in_transaction(session, &mut batch);
    if result.is_ok() || batch.len() == 1 {
        let mut result = Some(result);
        for operation in batch {
            operation.answer(result.take().unwrap_or(Ok(())));
        }
        return;
    }
    if matches!(result, Err(Error::Busy)) {
        // No operation is at fault, and each alone would wait just as long.
        for operation in batch {
            operation.answer(Err(Error::Busy));
        }
        return;
    }
    for operation in batch {
        let mut alone = [operation];
        let result = in_transaction(session, &mut alone);
        let [operation] = alone;
        operation.answer(result);
    }
}

fn in_transaction(session: &mut Session<'_>, operations: &mut [Box<dyn Operation>]) -> Result<(), Error> {
    // A panic here is a bug. The transaction is rolled back, and the caller gets an error, like for any other failure.
    let write = || {
        session.begin()?;
        operations.iter_mut().try_for_each(|operation| operation.run(session))?;
        session.commit()
    };
    let result = catch_unwind(AssertUnwindSafe(write))
        .unwrap_or_else(|panic| Err(Error::Sql(panic_text(panic.as_ref())).into()));
    if result.is_err() {
        session.rollback();
    }
    Ok(result?)
}

/// A panic's message, for the caller.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("internal error: {}", text.unwrap_or("unknown"))
}
