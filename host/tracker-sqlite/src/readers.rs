//! The threads that read.
//!
//! Owns a few connections, a thread each, so that no question keeps the loop from its work that asked it: a read may have to
//! wait for the disk, and an examination takes minutes. Knows nothing of what is read.

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

/// How many questions are answered at once.
const THREADS_MAX: usize = 4;
/// How many questions may wait. Whoever asks beyond that waits where it asks.
const QUEUE_MAX: usize = 1024;

type Question = Box<dyn FnOnce(&mut Desk) + Send>;

/// The handle of the threads. Dropping it lets them answer what was asked, and joins them.
pub(super) struct Readers {
    data: PathBuf,
    /// None once no more is asked.
    sender: Option<SyncSender<Question>>,
    questions: Arc<Mutex<Receiver<Question>>>,
    /// Asked and not answered: more than there are threads, and one more is started.
    open: Arc<AtomicUsize>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a thread reads with.
struct Desk {
    data: PathBuf,
    blobs: Blobs,
    /// None until the first question, and after one that failed with a panic.
    connection: Option<Connection>,
}

impl Desk {
    fn read<T>(&mut self, read: impl FnOnce(&Connection, &Blobs) -> Result<T, Fail>) -> Result<T, Fail> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            // It was there when the first one was opened.
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

    /// Asks, and waits for the answer without blocking.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Blobs) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let open = Arc::clone(&self.open);
        let question = Box::new(move |desk: &mut Desk| {
            // A panic in here is a bug; whoever asked is told, as with any other failure.
            let result = catch_unwind(AssertUnwindSafe(|| desk.read(read)));
            open.fetch_sub(1, Ordering::Relaxed);
            // Whoever asked may have gone.
            let result = result.unwrap_or_else(|panic| Err(Error::Sql(panic_text(panic.as_ref())).into()));
            let _ = reply.send(result.map_err(Error::from));
        });
        if self.open.fetch_add(1, Ordering::Relaxed) > 0
            && let Err(error) = self.add(None)
        {
            // Those that there are answer it, one after the other.
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
