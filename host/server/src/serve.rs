//! Connections.
//!
//! Owns how many there are, how long each may last, and how they end at a shutdown. A connection carries one request:
//! so one deadline bounds its head, its answer and a slow reader of it. Never binds: the caller hands a listener over.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use gristmill_tracker::Reader;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Error;
use crate::bounds::{ACCEPT_FAILURES_MAX, ACCEPT_PAUSE, Bounds, HEAD_BYTES_MAX};
use crate::reads::Reads;
use crate::routes::router;

/// Answers until `shutdown` resolves and the open requests are answered, which takes five seconds at most. It runs on a
/// tokio runtime that has I/O and time, and reads on its blocking threads, four at most.
///
/// # Errors
/// If the system gives out no connections for a minute.
pub async fn serve(
    listener: TcpListener,
    reader: Arc<dyn Reader>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    serve_within(Bounds::default(), listener, reader, shutdown).await
}

pub(crate) async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    reader: Arc<dyn Reader>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let router = router(Reads::new(reader, bounds));
    // Nothing is ever sent: a connection learns of the end by the sender's.
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener), if connections.len() < bounds.connections => {
                let connection = carry(accepted?, router.clone(), stopping.clone());
                connections.spawn(timeout(bounds.connection_time, connection));
            }
        }
    }
    drop((listener, stop));
    let open = async { while connections.join_next().await.is_some() {} };
    if timeout(bounds.shutdown_time, open).await.is_err() {
        tracing::debug!(connections = connections.len(), "connections are cut off by the shutdown");
    }
    Ok(())
}

/// The next connection. A failure is waited out, in which time others may end: then the caller begins anew.
async fn accept(listener: &TcpListener) -> Result<TcpStream, Error> {
    let mut failures = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok(stream),
            // It ended before it was accepted: that is its own matter.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => {
                failures += 1;
                if failures == ACCEPT_FAILURES_MAX {
                    return Err(Error::Accept(error));
                }
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Carries one request and its answer.
async fn carry(stream: TcpStream, router: Router, mut stopping: watch::Receiver<()>) {
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
