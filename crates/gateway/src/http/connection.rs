//! One HTTP connection: heads that are too big, too slow or garbage are answered, not just cut.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::first::{self, Entered, First};
use super::patience::{Marks, Patient, Watched};
use super::permit::Permit;
use super::router::{self, Public};
use super::socket::{Io, finish};
use super::{head, proxies, proxy_protocol, reply};
use crate::node::Node;
use crate::session::Running;

/// hyper refuses smaller buffers.
const SMALLEST_BUFFER: usize = 8 * 1024;
/// How long what a refused client still sends is read, so that it gets to read its answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 * 1024 * 1024;
/// A stopping node goes on reading for so long.
const UNREAD: Duration = Duration::from_millis(100);
/// How long answers under way when the node halts may take: the last words to those who poll.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// The answer to a connection beyond the limits.
pub const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
retry-after: 5\r\nconnection: close\r\ncontent-length: 53\r\n\r\n\
{\"error\":\"too many connections\",\"code\":\"UNAVAILABLE\"}";
const SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n\
connection: close\r\ncontent-length: 64\r\n\r\n\
{\"error\":\"the request took too long to arrive\",\"code\":\"TIMEOUT\"}";
const NOT_HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\
connection: close\r\ncontent-length: 56\r\n\r\n\
{\"error\":\"only HTTP/1.1 is spoken\",\"code\":\"BAD_REQUEST\"}";

/// A connection that was let in.
pub struct Visit {
    pub node: Arc<Node>,
    pub router: Router,
    /// What is answered without it: the public listener's raw mounts.
    pub public: Option<Public>,
    pub stream: Arc<TcpStream>,
    pub permit: Arc<Permit>,
}

/// Where a request comes from; travels with the request into the upgrade.
#[derive(Clone)]
pub struct Origin(pub Arc<Permit>);

impl Origin {
    /// That of a request with these headers: of the connection, or whom a trusted proxy names.
    fn of(node: &Node, permit: &Arc<Permit>, headers: &HeaderMap) -> Result<Self, Box<Response>> {
        if !permit.is_shared() {
            return Ok(Self(permit.clone()));
        }
        let config = node.config.load();
        let client = proxies::client(&config, permit.address(), headers);
        match permit.behind(client, config.limits.connections_per_ip) {
            Ok(permit) => Ok(Self(Arc::new(permit))),
            Err(reason) => {
                node.metrics.refused(None, reason);
                let mut response =
                    reply::refusal(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "too many connections");
                reply::retry_after(&mut response, 5);
                Err(Box::new(response))
            }
        }
    }
}

/// Serves a connection until it ends, or the node stops; a WebSocket that hyper upgrades goes on in a task of its own.
pub fn serve(visit: Visit) -> impl Future<Output = ()> + Send {
    // Boxed: a task keeps room for everything that it ever held.
    let arriving = Box::pin(arrive(visit));
    async move {
        let arrived = arriving.await;
        if let Some((running, origin)) = arrived {
            running.run().await;
            drop(origin);
        }
    }
}

/// Whose connection a trusted proxy brings, when it says so ahead of everything; `None`: it may not go on.
async fn introduced(visit: &Visit) -> Option<Arc<Permit>> {
    let config = visit.node.config.load_full();
    let permit = &visit.permit;
    if visit.public.is_none() || !permit.is_shared() || !config.proxy_protocol {
        return Some(permit.clone());
    }
    let mut io = Io(visit.stream.clone());
    let patience = Duration::from_millis(config.limits.head_ms);
    let Ok(Ok(told)) = tokio::time::timeout(patience, proxy_protocol::read(&mut io)).await else {
        visit.node.metrics.refused(None, "proxy_header");
        return None;
    };
    let client = told.unwrap_or(permit.address());
    match permit.behind(client, config.limits.connections_per_ip) {
        Ok(permit) => Some(Arc::new(permit)),
        Err(reason) => {
            visit.node.metrics.refused(None, reason);
            if visit.stream.try_write(FULL).is_ok() {
                linger(&visit.stream).await;
            }
            None
        }
    }
}

/// Serves a connection as long as it speaks HTTP; a session, if it came with a handshake and nothing else.
async fn arrive(mut visit: Visit) -> Option<(Running, Origin)> {
    visit.permit = introduced(&visit).await?;
    let begun = match &visit.public {
        Some(public) if !visit.node.shutdown.is_cancelled() => begin(&visit, public).await,
        _ => Begun::Http(Bytes::new(), None),
    };
    match begun {
        Begun::Session(running, origin) => return Some((running, origin)),
        Begun::Http(ahead, decided) => Box::pin(converse(visit, ahead, decided)).await,
        Begun::Done => {}
    }
    None
}

/// How a connection begins.
enum Begun {
    Session(Running, Origin),
    /// With this much of a request, and what is answered to it when that is known already.
    Http(Bytes, Option<Box<Response>>),
    Done,
}

async fn begin(visit: &Visit, public: &Public) -> Begun {
    let config = visit.node.config.load_full();
    let looked = first::look(&visit.stream, &config.limits).await;
    let handshake = match looked {
        First::Handshake(handshake) => handshake,
        First::Other(read) => return Begun::Http(read, None),
    };
    let origin = match Origin::of(&visit.node, &visit.permit, handshake.headers()) {
        Ok(origin) => origin,
        Err(refusal) => return Begun::Http(handshake.into_read(), Some(refusal)),
    };
    let entering = first::enter(public, &visit.stream, &handshake, &origin);
    let entered = AssertUnwindSafe(entering).catch_unwind().await;
    match entered.unwrap_or_else(|_| Entered::Refused(Box::new(panicked()))) {
        Entered::Session(running) => Begun::Session(running, origin),
        Entered::Done => Begun::Done,
        Entered::Refused(response) => Begun::Http(handshake.into_read(), Some(response)),
        Entered::Other => Begun::Http(handshake.into_read(), None),
    }
}

/// Has hyper serve a connection, of which something was read already. `decided`: what its first request is answered.
async fn converse(visit: Visit, ahead: Bytes, decided: Option<Box<Response>>) {
    let served = Arc::new(AtomicBool::new(false));
    let marks = Arc::<Marks>::default();
    let builder = builder(&visit.node);
    let (router, public) = (visit.router.clone(), visit.public.clone());
    let (owner, permit) = (visit.node.clone(), visit.permit.clone());
    let (any, body_marks) = (served.clone(), marks.clone());
    let decided = Mutex::new(decided);
    let service = service_fn(move |request: Request<Incoming>| {
        any.store(true, Ordering::Relaxed);
        let mut request = request.map(|body| Body::new(Watched::new(body, body_marks.clone())));
        let decided = decided.lock().take().or_else(|| {
            let origin = Origin::of(&owner, &permit, request.headers());
            origin.map(|origin| drop(request.extensions_mut().insert(origin))).err()
        });
        answer(router.clone(), public.clone(), request, decided)
    });
    let stall = Duration::from_millis(visit.node.config.load().limits.write_stall_ms);
    let io = TokioIo::new(Patient::new(Io(visit.stream.clone()), stall, marks.clone()).behind(ahead));
    let mut connection = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
    // A connection made while the node stops gets its one answer: it was told not to keep alive.
    let stopping = visit.node.shutdown.is_cancelled();
    let node = &visit.node;
    let leave = async {
        node.shutdown.cancelled().await;
        // What has arrived by now is answered: it may be in the socket and not be read yet.
        tokio::time::sleep(UNREAD).await;
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = leave, if !stopping => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection.as_mut() => result,
                () = last_answers(node) => return,
            }
        }
        () = last_answers(node), if stopping => return,
    };
    match result {
        Ok(()) if marks.is_unsent() => linger(&visit.stream).await,
        Ok(()) => {}
        Err(error) => {
            tracing::debug!(%error, "http connection");
            let silent = served.load(Ordering::Relaxed) && !marks.has_begun();
            say_why(&visit, &error, silent).await;
        }
    }
}

/// What a request is answered. A panic on the way ends neither the answer nor the connection.
async fn answer(
    router: Router,
    public: Option<Public>,
    mut request: Request<Body>,
    decided: Option<Box<Response>>,
) -> Result<Response, Infallible> {
    if let Some(response) = decided {
        return Ok(*response);
    }
    if let Err(refusal) = head::settle(&mut request) {
        return Ok(*refusal);
    }
    let answered = async {
        if let Some(public) = &public
            && let Some(mount) = public.raw(&request)
        {
            // Boxed like what follows: they are large, and a connection that is kept alive keeps room for what is not.
            return Ok(Box::pin(router::raw(public, mount, request)).await);
        }
        Box::pin(router.oneshot(request)).await
    };
    let answered = AssertUnwindSafe(answered).catch_unwind().await;
    Ok(answered.map_or_else(|_| panicked(), |answered| answered.unwrap_or_else(|never| match never {})))
}

fn panicked() -> Response {
    tracing::error!("a request's handler panicked");
    reply::refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "internal error")
}

async fn last_answers(node: &Node) {
    node.halt.cancelled().await;
    tokio::time::sleep(LAST_ANSWERS).await;
}

fn builder(node: &Node) -> http1::Builder {
    let config = node.config.load();
    let limits = &config.limits;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.head_ms))
        .max_headers(limits.head_count)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(SMALLEST_BUFFER))
        .keep_alive(!node.shutdown.is_cancelled());
    builder
}

/// hyper answers most bad heads itself; it says nothing to slow ones and to HTTP/2. An idle connection that is merely
/// kept alive ends without a word.
async fn say_why(visit: &Visit, error: &hyper::Error, silent: bool) {
    let stream = &visit.stream;
    let (reason, answer) = match error {
        e if e.is_timeout() && silent => return,
        e if e.is_timeout() => ("slow_head", SLOW),
        e if e.is_parse_version_h2() => ("bad_head", NOT_HTTP1),
        e if e.is_parse() => ("bad_head", [].as_slice()),
        e if is_stalled(e) => {
            visit.node.metrics.refused(None, "slow_reader");
            // What the kernel still keeps for it goes too.
            let _ = SockRef::from(&**stream).set_linger(Some(Duration::ZERO));
            return;
        }
        _ => return,
    };
    visit.node.metrics.refused(None, reason);
    if answer.is_empty() || stream.try_write(answer).is_ok() {
        linger(stream).await;
    }
}

/// Whether the peer took nothing of its answer for too long.
fn is_stalled(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

/// Closing with unread input resets the connection, and the answer may be lost with it.
async fn linger(stream: &Arc<TcpStream>) {
    let _ = finish(stream);
    let _ = tokio::time::timeout(LINGER, Io(stream.clone()).drain(LINGER_BYTES)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_made_answers_state_their_true_length() {
        for answer in [FULL, SLOW, NOT_HTTP1] {
            let text = std::str::from_utf8(answer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
            serde_json::from_str::<serde_json::Value>(body).unwrap();
        }
    }
}
