//! A network that misbehaves on purpose.
//!
//! Owns a proxy between a tracker and its server, which counts the messages that the tracker sends. It can cut the
//! connection after the n-th message: the server gets and does everything up to it, and the tracker learns nothing
//! more. It can also fall silent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

pub(super) struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How many more messages until the cut; below zero: none is planned.
    left: AtomicI64,
    /// The silences of the connections that there are.
    silent: Mutex<Vec<Arc<AtomicBool>>>,
}

impl Proxy {
    pub(super) fn to(address: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(State { left: AtomicI64::new(-1), ..State::default() });
        let (shared, address) = (Arc::clone(&state), address.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&address) else { continue };
                let silent = Arc::new(AtomicBool::new(false));
                shared.silent.lock().expect("a lock").push(Arc::clone(&silent));
                let state = Arc::clone(&shared);
                std::thread::spawn(move || relay(client, server, &state, &silent));
            }
        });
        Self { port, state }
    }

    /// The URL of a database, by way of the proxy.
    pub(super) fn url(&self, url: &str, address: &str) -> String {
        url.replace(address, &format!("127.0.0.1:{}", self.port))
    }

    /// Cuts a connection after the n-th message from now on.
    pub(super) fn cut_behind(&self, n: i64) {
        self.state.left.store(n, Ordering::SeqCst);
    }

    /// Whether the cut is still to come; it is called off.
    pub(super) fn call_off(&self) -> bool {
        self.state.left.swap(-1, Ordering::SeqCst) > 0
    }

    /// Nothing more passes the existing connections, and neither side is told.
    pub(super) fn fall_silent(&self) {
        for silent in self.state.silent.lock().expect("a lock").drain(..) {
            silent.store(true, Ordering::SeqCst);
        }
    }
}

fn relay(mut client: TcpStream, mut server: TcpStream, state: &State, silent: &Arc<AtomicBool>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("an option");
    }
    let is_cut = Arc::new(AtomicBool::new(false));
    let (mut back, mut to) = (server.try_clone().expect("a clone"), client.try_clone().expect("a clone"));
    let (cut, mute) = (Arc::clone(&is_cut), Arc::clone(silent));
    let answers = std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        // After a cut what the server says is read until it has done all and ends, and passed on to nobody.
        while let Ok(n @ 1..) = back.read(&mut buffer) {
            if !cut.load(Ordering::SeqCst) && !mute.load(Ordering::SeqCst) {
                let _ = to.write_all(&buffer[..n]);
            }
        }
        if !mute.load(Ordering::SeqCst) {
            let _ = to.shutdown(Shutdown::Both);
        }
    });
    // The first message has no kind: only a length.
    let mut is_first = true;
    while let Some(message) = message(&mut client, is_first) {
        is_first = false;
        if silent.load(Ordering::SeqCst) {
            continue;
        }
        let is_last = state.left.load(Ordering::SeqCst) > 0 && state.left.fetch_sub(1, Ordering::SeqCst) == 1;
        is_cut.store(is_last, Ordering::SeqCst);
        if server.write_all(&message).is_err() || is_last {
            break;
        }
    }
    if silent.load(Ordering::SeqCst) {
        // The server is not told either: its process goes on waiting, until somebody ends it.
        let _ = answers.join();
        return;
    }
    let _ = server.shutdown(Shutdown::Write);
    let _ = answers.join();
}

fn message(client: &mut TcpStream, is_first: bool) -> Option<Vec<u8>> {
    let head = if is_first { 4 } else { 5 };
    let mut message = vec![0; head];
    client.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(message[head - 4..].try_into().ok()?) as usize;
    let rest = message.len();
    message.resize(rest + length - 4, 0);
    client.read_exact(&mut message[rest..]).ok()?;
    Some(message)
}
