//! The threads that read.
//!
//! Owns a few connections, each with its own thread, so that a read does not stop the loop that asked for it: a read
//! may wait for the disk, and an examination takes minutes. Never knows what is read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::blobs::Blobs;
use super::open::open_for_reading;
use super::writer::panic_text;
use crate::fail::Fail;
use gristmill_tracker::Error;

/// How many reads run at once.
const THREADS_MAX: usize = 4;
/// How many reads may wait. Beyond that, the caller itself waits.
const QUEUE_MAX: usize = 1024;

type Question = Box<dyn FnOnce(&mut Desk) + Send>;

/// The handle of the threads. Dropping it lets them finish their reads, and joins them.
pub(super) struct Readers {
    data: PathBuf,
    /// None once there are no more reads, which ends the threads.
    sender: Option<SyncSender<Question>>,
    questions: Arc<Mutex<Receiver<Question>>>,
    /// How many reads are not answered yet. If they are more than the threads, another thread is started.
    open: Arc<AtomicUsize>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a thread needs to read.
struct Desk {
    data: PathBuf,
    blobs: Blobs,
    /// None until the first read, and after a read that panicked.
    connection: Option<Connection>,
}

impl Desk {
    fn read<T>(&mut self, read: impl FnOnce(&Connection, &Blobs) -> Result<T, Fail>) -> Result<T, Fail> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            // The database was there when the first connection was opened.
            None => open_for_reading(&self.data).map_err(|fail| match fail.0 {
                Error::Missing(path) => Error::Gone(path),
                other => other,
            })?,
        };
        let result = read(&connection, &self.blobs);
        self.connection = Some(connection);
        result
    }
}

impl Readers {
    /// Opens the database, and starts the first thread.
    pub(super) fn start(data: &Path) -> Result<Self, Fail> {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let readers = Self {
            data: data.to_owned(),
            sender: Some(sender),
            questions: Arc::new(Mutex::new(receiver)),
            open: Arc::default(),
            threads: Mutex::default(),
        };
        readers.add(Some(open_for_reading(data)?))?;
        Ok(readers)
    }

    fn add(&self, connection: Option<Connection>) -> Result<(), Fail> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.len() >= THREADS_MAX {
            return Ok(());
        }
        let questions = Arc::clone(&self.questions);
        let mut desk = Desk { data: self.data.clone(), blobs: Blobs::of(&self.data), connection };
        let thread = std::thread::Builder::new()
            .name("tracker-reader".to_owned())
            .spawn(move || {
                while let Some(question) = next(&questions) {
                    question(&mut desk);
                }
            })
            .map_err(|source| Error::Machine { what: "a thread could not be started", source })?;
        threads.push(thread);
        Ok(())
    }

    /// Asks for a read, and waits for its answer without blocking.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Blobs) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let open = Arc::clone(&self.open);
        let question = Box::new(move |desk: &mut Desk| {
            // A panic here is a bug. The caller gets it as an error, like any other failure.
            let result = catch_unwind(AssertUnwindSafe(|| desk.read(read)));
            open.fetch_sub(1, Ordering::Relaxed);
            // The caller may have gone.
            let result = result.unwrap_or_else(|panic| Err(Error::Sql(panic_text(panic.as_ref())).into()));
            let _ = reply.send(result.map_err(Error::from));
        });
        if self.open.fetch_add(1, Ordering::Relaxed) > 0
            && let Err(error) = self.add(None)
        {
            // The existing threads answer it, one read after the other.
            tracing::warn!(%error, "the tracker is read by fewer threads");
        }
        self.sender.as_ref().ok_or(Error::Stopped)?.send(question).map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }
}

fn next(questions: &Mutex<Receiver<Question>>) -> Option<Question> {
    questions.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.sender = None;
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
    }
}
