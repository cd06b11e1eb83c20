//! Connections.
//!
//! Owns how many there are, how long each may last, which one is closed for a new one, and how they end at a shutdown.
//! A connection carries one request, so one deadline bounds its head, its answer and a slow reader. Never binds an
//! address: the caller passes a listener.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use gristmill_tracker::Reader;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::Error;
use crate::bounds::{ACCEPT_FAILURES_MAX, ACCEPT_PAUSE, Bounds, HEAD_BYTES_MAX};
use crate::hosts::Hosts;
use crate::reads::Reads;
use crate::routes::router;

/// Answers until `shutdown` resolves and the open requests are answered, which takes at most five seconds. It needs a
/// tokio runtime with I/O and time, and reads on at most four of its blocking threads. A listener on loopback answers
/// only to its own names and those in `allowed`. Any other one answers to every name, or only to those in `allowed` if
/// there are any.
///
/// # Errors
/// If the system accepts no connections for a minute.
pub async fn serve(
    listener: TcpListener,
    allowed: Vec<String>,
    reader: Arc<dyn Reader>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    serve_within(Bounds::default(), listener, allowed, reader, shutdown).await
}

pub(crate) async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    allowed: Vec<String>,
    reader: Arc<dyn Reader>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let hosts = Hosts::new(listener.local_addr().map_err(Error::Accept)?, allowed);
    let router = router(Reads::new(reader, bounds), hosts);
    // Nothing is ever sent: when the sender is dropped, connections know that the server ends.
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut silent = Silent::default();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener), if connections.len() < bounds.connections || silent.is_any() => {
                if connections.len() >= bounds.connections {
                    silent.give_way();
                }
                let asked = Arc::new(AtomicBool::new(false));
                let connection = carry(accepted?, bounds, router.clone(), Arc::clone(&asked), stopping.clone());
                silent.push(connections.spawn(timeout(bounds.connection_time, connection)), asked);
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

/// The connections that have not sent a request yet, the oldest first.
#[derive(Default)]
struct Silent(VecDeque<(AbortHandle, Arc<AtomicBool>)>);

impl Silent {
    fn push(&mut self, connection: AbortHandle, asked: Arc<AtomicBool>) {
        self.0.push_back((connection, asked));
    }

    fn is_any(&mut self) -> bool {
        self.0.retain(|(connection, asked)| !connection.is_finished() && !asked.load(Ordering::Relaxed));
        !self.0.is_empty()
    }

    /// Closes the oldest one, so that clients with a request do not wait for clients without one.
    fn give_way(&mut self) {
        if self.is_any()
            && let Some((connection, _)) = self.0.pop_front()
        {
            connection.abort();
        }
    }
}

/// The next connection. After a failure it waits, so that other connections can end, and the caller tries again.
async fn accept(listener: &TcpListener) -> Result<TcpStream, Error> {
    let mut failures = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok(stream),
            // It ended before it was accepted, which is no failure of ours.
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
async fn carry(
    stream: TcpStream,
    bounds: Bounds,
    router: Router,
    asked: Arc<AtomicBool>,
    mut stopping: watch::Receiver<()>,
) {
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).timer(TokioTimer::new()).header_read_timeout(bounds.head_time);
    let router = TowerToHyperService::new(router);
    let answer = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        router.call(request)
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), answer));
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
