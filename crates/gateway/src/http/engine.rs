//! Engine.IO over HTTP: which request is a handshake, a poll, a payload or an upgrade, and what it is told.
//!
//! Owns: requests and responses of one path. Must not know: packets, Socket.IO, who is connected.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use parlance_model::NodeId;
use parlance_wire::engineio::{Problem, Query, Transport};
use prometheus::IntGauge;
use tokio_util::task::TaskTracker;

use super::connection::Origin;
use super::permit::Permits;
use super::socket::Socket;
use super::{credentials, encoding, reply, upgrade};
use crate::clock::Clock;
use crate::line::{Line, desk, door};
use crate::metrics::Waiting;
use crate::trace::Parent;

/// Called with each new session; it must not block.
pub type Accept = Arc<dyn Fn(Greeting) + Send + Sync>;

/// What an endpoint tells its clients and holds them to.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// From an answered ping to the next.
    pub ping_interval_ms: u64,
    /// How long an answer to a ping may take.
    pub ping_timeout_ms: u64,
    /// Bytes of the largest message and of the largest posted payload.
    pub max_payload: usize,
    /// How long moving to a WebSocket may take.
    pub upgrade_timeout_ms: u64,
    /// How long a posted payload may take to arrive.
    pub body_timeout_ms: u64,
    /// Polling sessions at once; 0 is no limit.
    pub max_sessions: usize,
    /// Polling sessions at once of one address; 0 is no limit.
    pub max_sessions_per_ip: usize,
    /// Part of every session id, to tell which node owns it.
    pub node_name: String,
}

/// A new session and what its first request said.
pub struct Greeting {
    /// The session.
    pub line: Line,
    /// The token in the query or in `Authorization: Bearer`.
    pub token: Option<String>,
    /// Where the client is.
    pub remote: IpAddr,
    /// The `Host` header.
    pub host: Option<String>,
    /// The trace that request was part of.
    pub(crate) parent: Parent,
}

/// An address where Engine.IO is spoken.
pub struct Endpoint {
    door: door::Door,
    permits: Permits,
    accept: Accept,
    tracker: TaskTracker,
    /// Counts polls that wait.
    waiting: Option<IntGauge>,
}

/// What a handshake brought.
pub(super) struct Caller {
    token: Option<String>,
    remote: IpAddr,
    host: Option<String>,
    parent: Parent,
}

impl Caller {
    fn new(parts: &Parts, origin: Option<&Origin>) -> Self {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Self {
            token: credentials::token(parts),
            remote: origin.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |origin| origin.0.address()),
            host: host.map(str::to_owned),
            parent: Parent::of_handshake(&parts.headers),
        }
    }

    fn greet(self, accept: &Accept, line: Line) {
        let Self { token, remote, host, parent } = self;
        accept(Greeting { line, token, remote, host, parent });
    }
}

impl Endpoint {
    /// An endpoint without sessions. Handshakes of WebSockets are finished on `tracker`.
    pub fn new(settings: EngineSettings, clock: Clock, tracker: TaskTracker, accept: Accept) -> Self {
        let (door, permits) = (door::Door::new(settings, clock), Permits::default());
        Self { door, permits, accept, tracker, waiting: None }
    }

    /// The same, counting the polls that wait.
    #[must_use]
    pub fn counting(self, waiting: IntGauge) -> Self {
        Self { waiting: Some(waiting), ..self }
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.door.sessions()
    }

    /// The node that owns the session a request is about, when it is another one.
    pub(crate) fn owner(&self, uri: &Uri) -> Option<NodeId> {
        let query = Query::parse(uri.query().unwrap_or_default());
        query.known_transport().ok()?;
        self.door.foreign(query.sid.as_deref()?)
    }

    /// How the session travels that a request wants to begin, when it wants that.
    pub(crate) fn begins(&self, uri: &Uri) -> Option<Transport> {
        let query = Query::parse(uri.query().unwrap_or_default());
        if query.sid.is_some() { None } else { query.known_transport().ok() }
    }

    /// Answers the pending poll of a session with nothing; the client polls again, elsewhere.
    pub(crate) fn release(&self, uri: &Uri) {
        let query = Query::parse(uri.query().unwrap_or_default());
        if let Some(door::Session::Polling(desk)) = query.sid.and_then(|sid| self.door.find(&sid)) {
            desk.release();
        }
    }

    /// Answers a request. WebSockets can only be opened when it carries what hyper needs for an upgrade, and
    /// where it comes from ([`Origin`]).
    pub async fn handle(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        match self.route(parts, body).await {
            Ok(response) => response,
            Err(problem) => refuse(problem),
        }
    }

    async fn route(&self, mut parts: Parts, body: Body) -> Result<Response, Problem> {
        let uri = parts.uri.clone();
        let query = Query::parse(uri.query().unwrap_or_default());
        let transport = query.known_transport()?;
        let Some(sid) = &query.sid else {
            return self.handshake(&mut parts, &query, transport).await;
        };
        let session = self.door.find(sid).ok_or(Problem::UnknownSid)?;
        if !query.is_version_4() {
            return Err(Problem::UnsupportedProtocol);
        }
        match (transport, session) {
            (Transport::WebSocket, session) => self.upgrade(&mut parts, session),
            (Transport::Polling, door::Session::Socket) => Err(Problem::BadRequest),
            (Transport::Polling, door::Session::Polling(desk)) => match parts.method {
                Method::GET => {
                    let _waiting = self.waiting.as_ref().map(Waiting::begin);
                    poll(&parts, &desk).await
                }
                Method::POST => self.post(&parts, body, &desk).await,
                _ => Err(Problem::BadRequest),
            },
        }
    }

    async fn handshake(
        &self,
        parts: &mut Parts,
        query: &Query<'_>,
        transport: Transport,
    ) -> Result<Response, Problem> {
        if parts.method != Method::GET {
            return Err(Problem::BadHandshakeMethod);
        }
        let key = match transport {
            Transport::WebSocket => Some(upgrade::handshake(parts).map_err(|_| Problem::BadRequest)?),
            Transport::Polling => None,
        };
        if !query.is_version_4() {
            return Err(Problem::UnsupportedProtocol);
        }
        let origin = parts.extensions.remove::<Origin>();
        let caller = Caller::new(parts, origin.as_ref());
        let Some(key) = key else { return Ok(self.begin_polling(caller)) };
        let (Some(pending), Some(origin)) = (parts.extensions.remove::<OnUpgrade>(), origin) else {
            return Err(Problem::BadRequest);
        };
        let (door, accept) = (self.door.clone(), self.accept.clone());
        self.tracker.spawn(async move {
            if let Some(socket) = upgrade::upgraded(pending).await {
                caller.greet(&accept, door.open_socket(socket, origin).await);
            }
        });
        Ok(upgrade::switching(&key))
    }

    /// What a handshake brings that begins a session over a WebSocket; `None`: it does something else.
    pub(super) fn straight(&self, parts: &Parts, origin: &Origin) -> Option<Caller> {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let begins = query.sid.is_none() && query.is_version_4();
        let begins = begins && matches!(query.known_transport(), Ok(Transport::WebSocket));
        begins.then(|| Caller::new(parts, Some(origin)))
    }

    /// Begins its session.
    pub(super) async fn welcome(&self, caller: Caller, socket: Socket, origin: Origin) {
        caller.greet(&self.accept, self.door.open_socket(socket, origin).await);
    }

    fn begin_polling(&self, caller: Caller) -> Response {
        let settings = self.door.settings();
        let (all, of_one) = (settings.max_sessions, settings.max_sessions_per_ip);
        let Ok(permit) = self.permits.take(caller.remote, all, of_one) else {
            // No word of Engine.IO's: `Forbidden` is for policy, and a full node is none. As of any other
            // connection beyond the limits.
            let mut response =
                reply::refusal(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "too many sessions");
            reply::retry_after(&mut response, 5);
            return response;
        };
        let (line, open) = self.door.open_polling(permit);
        caller.greet(&self.accept, line);
        text(PLAIN, open)
    }

    /// Takes a WebSocket for a session that exists. One that cannot have it is closed after its handshake.
    fn upgrade(&self, parts: &mut Parts, session: door::Session) -> Result<Response, Problem> {
        let key = upgrade::handshake(parts).map_err(|_| Problem::BadRequest)?;
        let pending = parts.extensions.remove::<OnUpgrade>().ok_or(Problem::BadRequest)?;
        let origin = parts.extensions.remove::<Origin>().ok_or(Problem::BadRequest)?;
        let door = self.door.clone();
        self.tracker.spawn(async move {
            if let Some(socket) = upgrade::upgraded(pending).await {
                door.offer(socket, origin, session).await;
            }
        });
        Ok(upgrade::switching(&key))
    }

    async fn post(&self, parts: &Parts, body: Body, desk: &Arc<desk::Desk>) -> Result<Response, Problem> {
        let posting = desk.post().map_err(problem)?;
        let kind = parts.headers.get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/octet-stream")) {
            posting.violate("binary belongs into base64 here");
            return Err(Problem::BadRequest);
        }
        let settings = self.door.settings();
        let within = Duration::from_millis(settings.body_timeout_ms);
        match tokio::time::timeout(within, read_body(body, settings.max_payload)).await {
            Ok(Taken::Whole(bytes)) => {
                let Ok(payload) = String::from_utf8(bytes) else {
                    posting.violate("a payload that is no UTF-8");
                    return Err(Problem::BadRequest);
                };
                if posting.deliver(payload).await { Ok(text(HTML, "ok")) } else { Err(Problem::BadRequest) }
            }
            Ok(Taken::TooBig) => {
                posting.give_up();
                Ok(bare(StatusCode::PAYLOAD_TOO_LARGE))
            }
            Ok(Taken::Cut) => Err(Problem::BadRequest),
            Err(_) => Ok(bare(StatusCode::REQUEST_TIMEOUT)),
        }
    }
}

async fn poll(parts: &Parts, desk: &Arc<desk::Desk>) -> Result<Response, Problem> {
    let payload = desk.wait().map_err(problem)?.answer().await.map_err(problem)?;
    let accepted = parts.headers.get_all(header::ACCEPT_ENCODING);
    let Some(coding) = encoding::choose(accepted).filter(|_| payload.len() >= encoding::WORTH_IT) else {
        return Ok(text(PLAIN, payload));
    };
    let mut response = text(PLAIN, Body::from(coding.encode(payload.into()).await));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(response)
}

/// How a body ended.
enum Taken {
    Whole(Vec<u8>),
    TooBig,
    Cut,
}

/// Reads a body of at most `max` bytes. What is beyond is read too, as much again: a client that still writes
/// does not read its answer.
async fn read_body(mut body: Body, max: usize) -> Taken {
    let mut bytes = Vec::new();
    let mut all = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Taken::Cut };
        let Ok(data) = frame.into_data() else { continue };
        all = all.saturating_add(data.len());
        if all <= max {
            bytes.extend_from_slice(&data);
        } else if all > max.saturating_mul(2) {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if all <= max { Taken::Whole(bytes) } else { Taken::TooBig }
}

const fn problem(refused: desk::Refused) -> Problem {
    match refused {
        desk::Refused::Overlap | desk::Refused::Moved => Problem::BadRequest,
        desk::Refused::Ended => Problem::UnknownSid,
    }
}

pub(crate) fn refuse(problem: Problem) -> Response {
    reply::json(StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::BAD_REQUEST), problem.body())
}

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
/// As the reference answers a POST: some browsers offer plain text for download.
const HTML: HeaderValue = HeaderValue::from_static("text/html");

fn text(kind: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn bare(status: StatusCode) -> Response {
    let mut response = text(PLAIN, Body::empty());
    *response.status_mut() = status;
    response
}
