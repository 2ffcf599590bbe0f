//! The first head of a connection: where it has come whole and is nothing but the handshake of a WebSocket, it is one
//! read, one answer and a session. hyper would keep three buffers of 8 KiB for it, a task and an upgrade.
//!
//! Owns: telling such a head from everything else, which is hyper's together with what was read. Must not know: what is
//! asked of a handshake, who may come in. Nothing is refused here: what has a flaw goes to hyper unanswered, and what
//! was refused, with its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, header};
use axum::response::Response;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::connection::Origin;
use super::router::{Door, Public};
use super::socket::{Io, Socket};
use super::{cors, head, upgrade};
use crate::config::Limits;
use crate::session::{self, Running};

/// A handshake comes right behind the connection. Whoever takes longer is hyper's, with all the time a head may take.
const SOON: Duration = Duration::from_millis(250);
/// Longer heads are hyper's as well.
const LONGEST: usize = 4096;
/// Heads of more headers, too.
const MOST_HEADERS: usize = 32;
/// With these a request is more than a handshake, or two readers could disagree where it ends.
const NOT_PLAIN: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT, header::CONTENT_ENCODING];

/// What a connection begins with.
pub(super) enum First {
    /// The handshake of a WebSocket.
    Handshake(Box<Handshake>),
    /// Anything else, as far as it was read.
    Other(Bytes),
}

/// A handshake without a flaw.
pub(super) struct Handshake {
    parts: Parts,
    key: HeaderValue,
    /// What was read, and how much of it is the head.
    read: Bytes,
    length: usize,
}

/// Looks at what comes first.
pub(super) async fn look(stream: &Arc<TcpStream>, limits: &Limits) -> First {
    let soon = SOON.min(Duration::from_millis(limits.head_ms));
    let mut io = Io(stream.clone());
    let glance = io.glance::<LONGEST, _>(|bytes| {
        let read = Bytes::copy_from_slice(bytes);
        match Handshake::parse(&read, limits) {
            Some(handshake) => First::Handshake(Box::new(handshake)),
            None => First::Other(read),
        }
    });
    match tokio::time::timeout(soon, glance).await {
        Ok(Ok(first)) => first,
        // hyper finds out itself what is wrong.
        Ok(Err(_)) | Err(_) => First::Other(Bytes::new()),
    }
}

impl Handshake {
    /// A handshake that has come whole, and that hyper and everybody behind it would find nothing to complain about.
    fn parse(read: &Bytes, limits: &Limits) -> Option<Self> {
        let mut room = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Request::new(&mut room);
        let Ok(httparse::Status::Complete(length)) = head.parse(read) else { return None };
        if length > limits.head_bytes || head.headers.len() > limits.head_count {
            return None;
        }
        if head.method != Some("GET") || head.version != Some(1) {
            return None;
        }
        let target = head.path.filter(|path| path.starts_with('/'))?;
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from_maybe_shared(read.slice_ref(target.as_bytes())).ok()?;
        *request.headers_mut() = headers(read, head.headers)?;
        head::settle(&mut request).ok()?;
        let (parts, ()) = request.into_parts();
        let key = upgrade::handshake(&parts).ok()?;
        Some(Self { parts, key, read: read.clone(), length })
    }

    /// Its headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// What was read of the connection.
    pub fn into_read(self) -> Bytes {
        self.read
    }

    /// What came behind the head.
    fn leftover(&self) -> Bytes {
        // Copied: it would keep the head for as long.
        self.read.get(self.length..).map_or_else(Bytes::new, Bytes::copy_from_slice)
    }
}

fn headers(read: &Bytes, found: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(found.len());
    for header in found {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        if NOT_PLAIN.contains(&name) {
            return None;
        }
        headers.append(name, HeaderValue::from_maybe_shared(read.slice_ref(header.value)).ok()?);
    }
    Some(headers)
}

/// What became of a handshake.
pub(super) enum Entered {
    /// A session, to be run.
    Session(Running),
    /// Somebody else has the connection now, or it is gone.
    Done,
    /// An answer that is no WebSocket: it is given by hyper, and nothing is decided again.
    Refused(Box<Response>),
    /// Not what is answered here.
    Other,
}

/// Lets a client in, or not.
pub(super) async fn enter(
    public: &Public,
    stream: &Arc<TcpStream>,
    handshake: &Handshake,
    origin: &Origin,
) -> Entered {
    let (node, parts) = (&public.node, &handshake.parts);
    let Some(door) = public.door(&parts.headers, &parts.uri) else { return Entered::Other };
    let page = match cors::judge(public, &parts.headers, &parts.uri) {
        Ok(page) => page,
        Err(refusal) => return Entered::Refused(refusal),
    };
    match door {
        Door::Raw(mount) => match upgrade::admit(node, mount, parts, origin).await {
            Ok(admission) => match switch(stream, handshake, page).await {
                Some(socket) => Entered::Session(session::begin(admission, socket).await),
                // Dropping the admission gives its lease back.
                None => Entered::Done,
            },
            Err(reject) => {
                let mut response = upgrade::rejected(node, mount, &reject);
                cors::mark(&mut response, page);
                Entered::Refused(Box::new(response))
            }
        },
        Door::Engine(endpoint) => {
            let Some(caller) = endpoint.straight(parts, origin) else { return Entered::Other };
            if node.takes().is_err() {
                return Entered::Other;
            }
            if let Some(socket) = switch(stream, handshake, page).await {
                endpoint.welcome(caller, socket, origin.clone()).await;
            }
            Entered::Done
        }
    }
}

/// Makes a WebSocket of a connection; `None`: the client is gone.
async fn switch(stream: &Arc<TcpStream>, handshake: &Handshake, page: Option<HeaderValue>) -> Option<Socket> {
    let mut response = upgrade::switching(&handshake.key);
    cors::mark(&mut response, page);
    if let Err(error) = Io(stream.clone()).write_all(&spelled(&response)).await {
        tracing::debug!(%error, "upgrade");
        return None;
    }
    Some(Socket { stream: stream.clone(), leftover: handshake.leftover() })
}

/// The head of the answer that switches protocols.
fn spelled(response: &Response) -> Vec<u8> {
    let mut text = Vec::with_capacity(256);
    text.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    for (name, value) in response.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /ws?token=a HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn parsed(head: &str) -> Option<Handshake> {
        Handshake::parse(&Bytes::copy_from_slice(head.as_bytes()), &Limits::default())
    }

    #[test]
    fn a_whole_handshake_is_taken_with_what_comes_behind_it() {
        let handshake = parsed(GOOD).unwrap();
        assert_eq!(handshake.parts.uri, "/ws?token=a");
        assert_eq!(handshake.parts.headers.len(), 5);
        assert_eq!(handshake.key, "dGhlIHNhbXBsZSBub25jZQ==");
        assert!(handshake.leftover().is_empty());
        let behind = parsed(&format!("{GOOD}\u{1}frame")).unwrap();
        assert_eq!(behind.leftover(), "\u{1}frame");
        assert_eq!(behind.into_read(), format!("{GOOD}\u{1}frame"), "hyper gets all of it");
    }

    #[test]
    fn a_head_that_has_not_come_whole_is_left_alone() {
        for end in 0..GOOD.len() {
            assert!(parsed(&GOOD[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn what_has_any_flaw_or_is_anything_else_is_left_alone() {
        for (from, to) in [
            ("GET", "POST"),
            ("GET", "get"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("/ws?token=a", "http://a.example/ws"),
            ("/ws?token=a", "*"),
            ("/ws?token=a", "/w s"),
            ("Host: a.example\r\n", ""),
            ("Host: a.example", "Host: a.example\r\nHost: a.example"),
            ("Host: a.example", "Host: u@a.example"),
            ("Host: a.example", "Host : a.example"),
            ("Host: a.example", "Host: a.example\r\n folded: x"),
            ("Host: a.example", "Host: a.example\r\nContent-Length: 0"),
            ("Host: a.example", "Host: a.example\r\ncontent-length: 5"),
            ("Host: a.example", "Host: a.example\r\nTransfer-Encoding: chunked"),
            ("Host: a.example", "Host: a.example\r\nContent-Encoding: identity"),
            ("Host: a.example", "Host: a.example\r\nExpect: 100-continue"),
            ("Host: a.example", "Host: a.example\r\nx: \0"),
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Connection: Upgrade", "Connection: keep-alive"),
            ("Version: 13", "Version: 8"),
            ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
        ] {
            assert!(GOOD.contains(from), "{from:?} is nowhere");
            assert!(parsed(&GOOD.replacen(from, to, 1)).is_none(), "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn limits_of_heads_are_hypers_to_answer() {
        let read = Bytes::from_static(GOOD.as_bytes());
        let fits = |bytes, count| {
            let limits = Limits { head_bytes: bytes, head_count: count, ..Limits::default() };
            Handshake::parse(&read, &limits).is_some()
        };
        assert!(fits(GOOD.len(), 5));
        assert!(!fits(GOOD.len() - 1, 5));
        assert!(!fits(GOOD.len(), 4));
        let many = "x: y\r\n".repeat(MOST_HEADERS - 4) + "\r\n";
        assert!(parsed(&GOOD.replacen("\r\n\r\n", &format!("\r\n{many}"), 1)).is_none());
    }
}
