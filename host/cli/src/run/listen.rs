//! The HTTP server beside a run.
//!
//! Owns its socket and its shutdown. Never answers a request itself: the server crate does. Without `--listen` there is
//! no server.

use std::net::SocketAddr;
use std::sync::Arc;

use gristmill_tracker::Reader;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::out::Out;

/// A server that ends with the run.
pub(super) struct Listening {
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), gristmill_server::Error>>,
}

/// Starts the server, if there is an address.
pub(super) async fn start(
    address: Option<SocketAddr>,
    allowed: Vec<String>,
    reader: Arc<dyn Reader>,
    out: &Out,
) -> Result<Option<Listening>, Failure> {
    let Some(address) = address else { return Ok(None) };
    let refused = |error| {
        Failure::new(Exit::Usage, format!("cannot listen on {address}: {error}"))
            .hint("choose another address or port with --listen")
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    // If the port is 0, the system chooses one.
    out.note(format_args!("listening on http://{}", listener.local_addr().map_err(refused)?));
    if !address.ip().to_canonical().is_loopback() {
        out.warning("other machines can read every item, output and log there: it has no passwords and no TLS");
    }
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // A dropped sender also ends the server.
        let _ = stopped.await;
    };
    let server = tokio::spawn(gristmill_server::serve(listener, allowed, reader, shutdown));
    Ok(Some(Listening { stop, server }))
}

impl Listening {
    /// Ends the server after open requests are answered.
    pub(super) async fn end(self) {
        drop(self.stop);
        match self.server.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the HTTP server had ended early: {error}"),
            Err(error) => tracing::warn!("the HTTP server failed: {error}"),
        }
    }
}
