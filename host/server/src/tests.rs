//! The server from outside, over real connections.
//!
//! Owns a client of a few lines, and how a server is started and stopped. Never sleeps: it waits for answers, and for
//! connections to end.

mod api;
mod limits;
mod metrics;
mod stub;
mod tracker;

use std::net::SocketAddr;
use std::sync::Arc;

use gristmill_tracker::Reader;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Error;
use crate::bounds::Bounds;
use crate::serve::serve_within;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), Error>>,
}

impl Server {
    async fn start(reader: Arc<dyn Reader>) -> Self {
        Self::start_within(Bounds::default(), reader).await
    }

    async fn start_within(bounds: Bounds, reader: Arc<dyn Reader>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let running = tokio::spawn(serve_within(bounds, listener, Vec::new(), reader, shutdown));
        Self { address, stop, running }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        let mut stream = self.connect().await;
        send(&mut stream, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        Answer::read(stream).await
    }

    async fn end(self) {
        self.stop.send(()).expect("a server that runs");
        self.running.await.expect("no panic").expect("no error");
    }
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("a write");
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Reads up to the end of the connection.
    async fn read(mut stream: TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The sentence and the hint of an answer that is none.
    fn error(&self, status: u16) -> (String, String) {
        assert_eq!(self.status, status, "{self:?}");
        let json = self.json();
        let text = |name| json[name].as_str().filter(|text| !text.is_empty()).expect("a text").to_owned();
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(2));
        (text("error"), text("hint"))
    }
}
