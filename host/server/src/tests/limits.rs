//! What bounds a server, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::stub::Stub;
use super::{Answer, Server, send};
use crate::bounds::Bounds;

const SHORT: Duration = Duration::from_millis(50);
const HALF: &str = "GET /health HTTP/1.1\r\nHost:";
const WHOLE: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn a_slow_read_is_given_up_but_keeps_its_place() {
    let stub = Stub::new();
    let bounds = Bounds { reads: 1, read_time: SHORT, ..Bounds::default() };
    let server = Server::start_within(bounds, Arc::clone(&stub.reader)).await;
    for _ in 0..3 {
        let answer = server.get("/health").await;
        assert_eq!((answer.status, answer.body.as_str()), (503, "the tracker did not answer in time"));
    }
    server.get("/api/jobs").await.error(503);
    let came = stub.gate.came.available_permits();
    stub.gate.passes.close();
    assert_eq!(came, 1, "the others never came to the tracker");
    server.end().await;
}

#[tokio::test]
async fn a_connection_that_dawdles_is_cut_off() {
    for bounds in
        [Bounds { connection_time: SHORT, ..Bounds::default() }, Bounds { head_time: SHORT, ..Bounds::default() }]
    {
        let server = Server::start_within(bounds, Stub::new().reader).await;
        for text in ["", HALF] {
            let mut stream = server.connect().await;
            send(&mut stream, text).await;
            assert_eq!(stream.read(&mut [0]).await.expect("an end"), 0);
        }
        server.end().await;
    }
}

#[tokio::test]
async fn connections_that_ask_nothing_give_way_to_one_that_does() {
    let bounds = Bounds { connections: 2, ..Bounds::default() };
    let server = Server::start_within(bounds, Stub::new().reader).await;
    let mut silent = Vec::new();
    for text in ["", HALF, "G"] {
        let mut stream = server.connect().await;
        send(&mut stream, text).await;
        silent.push(stream);
    }
    server.get("/nothing").await.error(404);
    assert_eq!(silent[0].read(&mut [0]).await.unwrap_or(0), 0, "the oldest gave way");
    server.end().await;
}

#[tokio::test]
async fn a_connection_that_has_asked_keeps_its_place() {
    let stub = Stub::new();
    let bounds = Bounds { connections: 1, ..Bounds::default() };
    let server = Server::start_within(bounds, Arc::clone(&stub.reader)).await;
    let mut busy = server.connect().await;
    send(&mut busy, WHOLE).await;
    stub.gate.came.acquire().await.expect("a read").forget();
    let mut next = server.connect().await;
    send(&mut next, WHOLE).await;
    stub.gate.passes.add_permits(2);
    for stream in [busy, next] {
        assert_eq!(Answer::read(stream).await.status, 200);
    }
    server.end().await;
}

#[tokio::test]
async fn a_page_under_another_name_reads_nothing() {
    let server = Server::start(Stub::new().reader).await;
    for path in ["/health", "/metrics", "/api/jobs", "/nothing"] {
        let mut stream = server.connect().await;
        send(&mut stream, &format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n")).await;
        let (error, hint) = Answer::read(stream).await.error(421);
        assert!(error.contains("`evil.example`") && hint.contains("--allow-host"), "{error} {hint}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_shutdown_lets_requests_finish_and_takes_no_new_ones() {
    let stub = Stub::new();
    let server = Server::start(Arc::clone(&stub.reader)).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    send(&mut busy, WHOLE).await;
    stub.gate.came.acquire().await.expect("a read").forget();
    let Server { address, stop, running } = server;
    stop.send(()).expect("a server that runs");
    assert_eq!(idle.read(&mut [0]).await.expect("an end"), 0, "who asked nothing is not waited for");
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!running.is_finished());
    stub.gate.passes.add_permits(1);
    let answer = Answer::read(busy).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    running.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_who_dawdles() {
    let stub = Stub::new();
    let bounds = Bounds { shutdown_time: SHORT, ..Bounds::default() };
    let server = Server::start_within(bounds, Arc::clone(&stub.reader)).await;
    let mut half = server.connect().await;
    send(&mut half, HALF).await;
    let mut busy = server.connect().await;
    send(&mut busy, WHOLE).await;
    stub.gate.came.acquire().await.expect("a read").forget();
    server.end().await;
    stub.gate.passes.close();
    assert_eq!(busy.read(&mut [0]).await.unwrap_or(0), 0, "without an answer");
}
