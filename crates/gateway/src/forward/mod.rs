//! Requests of Engine.IO sessions that another node owns: a balancer may bring any request to any node, and a
//! session's id names its owner.
//!
//! Owns: the way to the owner and back, over its internal listener; who is there ([`roster`]). Must not know:
//! packets, sessions, who is connected. A forwarded request is answered where it arrives, never forwarded again.

mod ask;
mod dial;
mod generation;
pub(crate) mod hop;
pub(crate) mod inbound;
mod roster;
mod tunnel;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parlance_backplane::Pass;

use dial::Dial;
use roster::Roster;

pub(crate) use ask::ask;
pub(crate) use roster::{first, join, keep, state};

/// Opens the internal listener to other nodes.
const PASS: HeaderName = HeaderName::from_static("parlance-pass");
/// The client's address.
const CLIENT: HeaderName = HeaderName::from_static("parlance-client");
/// Where the owner takes forwarded requests; the original path follows.
pub(crate) const HERE: &str = "/internal/engine";
/// Where the owner is asked to answer a session's pending poll now; the original path follows.
pub(crate) const RELEASE: &str = "/internal/release";
/// Idle connections kept to one node.
const IDLE: usize = 256;

/// Where a node is asked what it remembers of a message.
pub(crate) const EXPLAIN: &str = "/internal/explain";

/// What a node needs to forward requests, and to take forwarded ones.
pub struct Forward {
    /// What other nodes present here: drawn at every start, told to them by the backplane alone.
    pass: Pass,
    pub(crate) roster: Roster,
    client: Client<Dial, Body>,
    /// Where other nodes reach this one; known once it listens.
    address: OnceLock<String>,
    /// Requests and sockets under way to other nodes.
    under_way: AtomicUsize,
}

impl Forward {
    /// A pass of its own; no other node is known yet. A connection to another node that was idle for `idle` is not
    /// used again: less than the owner waits for a head, so that no request meets its closing.
    pub fn new(idle: Duration) -> Self {
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_idle_timeout(idle).pool_max_idle_per_host(IDLE).pool_timer(TokioTimer::new());
        Self {
            pass: Pass(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())),
            roster: Roster::default(),
            client: client.build(Dial::new()),
            address: OnceLock::new(),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Requests and sockets under way to other nodes.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }
}

/// One request or socket under way.
struct UnderWay(Arc<crate::node::Node>);

impl UnderWay {
    fn new(node: &Arc<crate::node::Node>) -> Self {
        node.forward.under_way.fetch_add(1, Ordering::Relaxed);
        Self(node.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.forward.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Headers that concern one connection only (RFC 9110, 7.6.1), and those named in `Connection`.
fn strip(headers: &mut HeaderMap) {
    const OURS: [HeaderName; 9] = [
        header::CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // Framing and the host are no header's business to remove.
    let kept = [header::CONTENT_LENGTH, header::HOST];
    for name in named.iter().filter(|name| !kept.contains(name)).chain(&OURS) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn headers_of_one_connection_are_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Mine"),
            ("connection", "Content-Length, host"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("host", "a.example"),
            ("content-length", "3"),
            ("cookie", "a=b"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "cookie", "host"]);
    }

    #[test]
    fn passes_differ_and_cannot_be_guessed() {
        let (a, b) = (Forward::new(Duration::ZERO), Forward::new(Duration::ZERO));
        assert!(a.pass != b.pass && a.pass.0.len() == 43);
    }
}
