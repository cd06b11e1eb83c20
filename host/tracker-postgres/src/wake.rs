//! Notifies other hosts that there is work, and listens for their notifications.
//!
//! Owns one connection that listens and notifies. After some silence it acts as if it had heard something, so that a
//! lost notification costs only seconds. Never carries data: a host that is woken reads the tracker itself.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

use super::core::Core;
use super::fail::Fail;

/// A host notifies others at most once in this time.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// After this much silence, hosts look anyway.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The pause before the listener tries to connect again.
const RECONNECT: Duration = Duration::from_secs(1);

/// The state that the listener shares with its waiters.
#[derive(Clone, Default)]
pub(super) struct Wake {
    tell: Arc<Notify>,
    heard: Arc<Notify>,
}

impl Wake {
    /// Notifies other hosts soon.
    pub(super) fn tell(&self) {
        self.tell.notify_one();
    }

    /// Resolves when a notification came since the last call, or after too much silence.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }
}

/// Listens and notifies, as long as the tracker lives.
pub(super) async fn listen(core: Rc<Core>) {
    loop {
        let _ = listen_once(&core).await;
        // A notification may have been missed.
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
