//! Telling other hosts that there is work, and hearing of it.
//!
//! Owns one connection that listens and notifies. Never carries data: whoever is woken looks for itself. When nothing
//! is heard for a while it is pretended that something was, so that a lost notification costs seconds and no more.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

use super::core::Core;
use super::fail::Fail;

/// A host tells others once in this time at most.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// How long a silence is believed.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The pause before the listener tries to connect again.
const RECONNECT: Duration = Duration::from_secs(1);

/// What the listener and those who wait for it share.
#[derive(Clone, Default)]
pub(super) struct Wake {
    tell: Arc<Notify>,
    heard: Arc<Notify>,
}

impl Wake {
    /// Other hosts are to be told, soon.
    pub(super) fn tell(&self) {
        self.tell.notify_one();
    }

    /// Resolves when something was heard since the last time, or it has been silent for too long.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }
}

/// Listens and tells, for as long as the tracker lives.
pub(super) async fn listen(core: Rc<Core>) {
    loop {
        let _ = listen_once(&core).await;
        // Something may have been missed.
        core.wake.heard.notify_one();
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn listen_once(core: &Core) -> Result<(), Fail> {
    let (client, mut connection) = core.address.open().await?;
    let heard = Arc::clone(&core.wake.heard);
    let own = Arc::new(std::sync::atomic::AtomicI32::new(0));
    let is_own = Arc::clone(&own);
    let mut driven = tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message
                && notification.process_id() != is_own.load(std::sync::atomic::Ordering::Relaxed)
            {
                heard.notify_one();
            }
        }
    });
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    own.store(pid, std::sync::atomic::Ordering::Relaxed);
    client.batch_execute("LISTEN gristmill").await?;
    let mut silence = tokio::time::interval(SILENCE_MAX);
    loop {
        tokio::select! {
            _ = &mut driven => return Ok(()),
            () = core.wake.tell.notified() => {
                let told = tokio::time::timeout(SILENCE_MAX, client.batch_execute("NOTIFY gristmill")).await;
                told.map_err(|_| Fail::Broken("the listener's connection is gone".to_owned()))??;
                tokio::time::sleep(TELL_EVERY).await;
            }
            _ = silence.tick() => core.wake.heard.notify_one(),
        }
    }
}
