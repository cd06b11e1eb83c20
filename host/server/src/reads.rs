//! Reading the tracker for a request.
//!
//! Owns how many reads run at once, and how long one may take. A read runs on a thread that may block, since the host's
//! loop shares this runtime. Never retries.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use gristmill_tracker::Reader;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::bounds::Bounds;
use crate::fault::Fault;

pub(crate) struct Reads {
    reader: Arc<dyn Reader>,
    permits: Arc<Semaphore>,
    /// Room for large answers, in slices.
    room: Arc<Semaphore>,
    time_max: Duration,
}

impl Reads {
    pub(crate) fn new(reader: Arc<dyn Reader>, bounds: Bounds) -> Self {
        let permits = Arc::new(Semaphore::new(bounds.reads));
        let room = Arc::new(Semaphore::new(bounds.slices));
        Self { reader, permits, room, time_max: bounds.read_time }
    }

    /// Room for large answers.
    pub(crate) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    /// Runs all reads of a request and writes the answer's text, which takes time too.
    pub(crate) async fn answer<F>(&self, read: impl FnOnce(Arc<dyn Reader>) -> F) -> Result<Response, Fault>
    where
        F: Future<Output = Result<Response, Fault>> + Send + 'static,
    {
        let answer = self.run(read(Arc::clone(&self.reader)));
        tokio::time::timeout(self.time_max, answer).await.unwrap_or_else(|_| Err(Fault::slow()))
    }

    async fn run(
        &self,
        answer: impl Future<Output = Result<Response, Fault>> + Send + 'static,
    ) -> Result<Response, Fault> {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            unreachable!("nobody closes the semaphore")
        };
        let runtime = Handle::current();
        let read = tokio::task::spawn_blocking(move || {
            // The read holds the permit, not the request: a client that gives up does not free a place while its read
            // still runs.
            let _permit = permit;
            runtime.block_on(answer)
        });
        read.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a read of the tracker did not come to its end");
            Err(Fault::unreadable())
        })
    }
}
