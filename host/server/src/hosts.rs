//! Which names a server answers to.
//!
//! Owns the check of a request's `Host`. A web page in a browser of this machine can make its own name lead to
//! 127.0.0.1 and read the answers; but then it sends its own name. Never identifies users.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::fault::Fault;

/// The names of this machine itself.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The names that are answered; none if all are.
pub(crate) struct Hosts(Option<Vec<String>>);

impl Hosts {
    pub(crate) fn new(address: SocketAddr, allowed: Vec<String>) -> Self {
        if !address.ip().to_canonical().is_loopback() && allowed.is_empty() {
            return Self(None);
        }
        let bound = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
        Self(Some(LOCAL.map(str::to_owned).into_iter().chain([bound]).chain(allowed).collect()))
    }

    /// The name in a request's `Host`, if it is not answered.
    fn fault(&self, request: &Request) -> Option<String> {
        let names = self.0.as_ref()?;
        let host = request.headers().get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let target = request.uri().authority().map(ToString::to_string);
        let mut asked = host.into_iter().chain(target).peekable();
        if asked.peek().is_none() {
            return Some(String::new());
        }
        asked.find(|asked| {
            let name = asked.parse::<Authority>().map(|authority| authority.host().to_owned());
            !name.is_ok_and(|name| names.iter().any(|known| known.eq_ignore_ascii_case(&name)))
        })
    }
}

pub(crate) async fn check(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    match hosts.fault(&request) {
        None => next.run(request).await,
        Some(name) => Fault::other_host(&name).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn is_answered(hosts: &Hosts, host: &str) -> bool {
        let request = Request::builder().uri("/health").header(HOST, host).body(Body::empty()).expect("a request");
        hosts.fault(&request).is_none()
    }

    #[test]
    fn a_listener_of_this_machine_answers_its_own_names() {
        let local = Hosts::new("127.0.0.2:80".parse().expect("an address"), vec!["mill.example".to_owned()]);
        for own in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.0.0.2", "[::1]:80", "mill.example:80"] {
            assert!(is_answered(&local, own), "{own}");
        }
        for other in
            ["evil.example", "localhost.evil.example", "evil.example:80", "127.0.0.3", "", "localhost@evil.example"]
        {
            assert!(!is_answered(&local, other), "{other}");
        }
        let none = Request::builder().uri("/health").body(Body::empty()).expect("a request");
        assert!(local.fault(&none).is_some());
        let target = Request::builder().uri("http://evil.example/").header(HOST, "localhost").body(Body::empty());
        assert_eq!(local.fault(&target.expect("a request")).as_deref(), Some("evil.example"));
    }

    #[test]
    fn a_listener_for_other_machines_answers_what_it_is_told_to() {
        let address: SocketAddr = "0.0.0.0:80".parse().expect("an address");
        assert!(is_answered(&Hosts::new(address, Vec::new()), "any.example"));
        let told = Hosts::new(address, vec!["mill.example".to_owned()]);
        assert!(is_answered(&told, "mill.example") && !is_answered(&told, "any.example"));
    }
}
