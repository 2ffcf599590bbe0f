//! Taking a request to the node that owns its session, and the answer back.
//!
//! Owns: what goes along, how long it is waited for. Must not know: what the session does with it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use parlance_backplane::NodeState;
use parlance_model::NodeId;
use parlance_wire::engineio::Problem;

use super::{CLIENT, HERE, PASS, RELEASE, UnderWay, strip, tunnel};
use crate::http::{Origin, engine};
use crate::node::Node;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// How often a stopping node asks for the answer to a poll.
const AGAIN: Duration = Duration::from_millis(250);

/// Between two looks whether a node that owes an answer stands still.
const LOOK: Duration = Duration::from_secs(2);
/// How long one that does not may take to say so.
const ALIVE: Duration = Duration::from_secs(1);
/// How many nodes are asked to begin a session.
const TRIES: usize = 3;

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A WebSocket of a session.
    Socket,
    /// Waits for what the session says next.
    Poll,
    /// Brings what the client says.
    Payload,
    /// Begins a session.
    Begin,
    Other,
}

impl Kind {
    fn of(request: &Request) -> Self {
        match *request.method() {
            Method::GET if wants_socket(request) => Self::Socket,
            Method::GET => Self::Poll,
            Method::POST => Self::Payload,
            _ => Self::Other,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Poll => "poll",
            Self::Payload => "payload",
            Self::Begin => "begin",
            Self::Other => "other",
        }
    }
}

/// Why there is no answer of the owner's.
enum Lost {
    /// No such node.
    Unknown,
    /// It cannot be reached, went away meanwhile, or is another one by now.
    Gone,
    /// The request cannot be passed on.
    Unfit,
}

/// Answers a request with what the owner of its session answers. Where there is no owner any more, there is no such
/// session: the client begins a new one, and recovers.
pub async fn relay(node: &Arc<Node>, owner: &NodeId, request: Request) -> Response {
    let kind = Kind::of(&request);
    counted(node, owner, request, kind).await.unwrap_or_else(|lost| {
        engine::refuse(if matches!(lost, Lost::Unfit) { Problem::BadRequest } else { Problem::UnknownSid })
    })
}

/// Has another node begin a session. Nothing when none does: a client without a session has none to lose, and is
/// not to be told so.
pub async fn begin(node: &Arc<Node>, request: Request) -> Option<Response> {
    let (parts, _) = request.into_parts();
    let mut asked = vec![node.id.clone()];
    while asked.len() <= TRIES {
        let other = node.forward.roster.another(&asked)?;
        // What begins a session has no body.
        let request = Request::from_parts(parts.clone(), Body::empty());
        if let Ok(answer) = counted(node, &other, request, Kind::Begin).await {
            return Some(answer);
        }
        asked.push(other);
    }
    None
}

async fn counted(node: &Arc<Node>, owner: &NodeId, request: Request, kind: Kind) -> Result<Response, Lost> {
    let _under_way = UnderWay::new(node);
    let answer = relayed(node, owner, request, kind).await;
    let outcome = match &answer {
        Ok(_) => "answered",
        Err(Lost::Unknown) => "unknown",
        Err(Lost::Gone) => "gone",
        Err(Lost::Unfit) => "unfit",
    };
    node.metrics.sessions.forwarded.with_label_values(&[kind.name(), outcome]).inc();
    answer
}

/// Whether a request asks for a WebSocket; whether it may have one, the owner says.
fn wants_socket(request: &Request) -> bool {
    request.version() == Version::HTTP_11 && request.headers().contains_key(header::UPGRADE)
}

async fn relayed(node: &Arc<Node>, owner: &NodeId, request: Request, kind: Kind) -> Result<Response, Lost> {
    let to = node.forward.roster.find(owner).await.ok_or(Lost::Unknown)?;
    let (socket, poll) = (kind == Kind::Socket, kind == Kind::Poll);
    if socket && node.takes().is_err() {
        // It would have to leave again at once; without it the session goes on polling.
        return Err(Lost::Unfit);
    }
    let (mut parts, body) = request.into_parts();
    let pending = parts.extensions.remove::<OnUpgrade>();
    let origin = parts.extensions.remove::<Origin>().ok_or(Lost::Unfit)?;
    let uri = parts.uri.clone();
    let mut request = dress(parts, body, &to, &origin)?;
    if socket {
        request.headers_mut().insert(header::CONNECTION, UPGRADE);
        request.headers_mut().insert(header::UPGRADE, WEBSOCKET);
    }
    let asked = node.forward.client.request(request);
    let answer = tokio::select! {
        answer = asked => answer,
        // A node that hangs, or a host that went without a word.
        () = node.forward.roster.gone(owner) => return Err(Lost::Gone),
        // Polls are many and wait long: theirs is found out by its missing beats alone.
        () = stands_still(node, &to), if !poll => return Err(Lost::Gone),
        () = release_when_stopping(node, &to, &uri), if poll => return Err(Lost::Gone),
    };
    let mut answer = answer.map_err(|error| {
        tracing::debug!(%error, %owner, "forwarding");
        Lost::Gone
    })?;
    if answer.status() == StatusCode::UNAUTHORIZED {
        // Another node is at that address by now.
        return Err(Lost::Gone);
    }
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let owner_end = hyper::upgrade::on(&mut answer);
        let client = pending.ok_or(Lost::Unfit)?;
        let ends = tunnel::Ends { client, owner: owner_end, of: owner.clone(), origin };
        node.tracker.spawn(tunnel::carry(node.clone(), ends));
    }
    Ok(undress(answer.map(Body::new)))
}

/// Until a node that owes an answer does not even say that it lives. One that is slow, as while Redis is away, does.
async fn stands_still(node: &Arc<Node>, to: &NodeState) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !matches!(tokio::time::timeout(ALIVE, lives(node, to)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn lives(node: &Arc<Node>, to: &NodeState) -> Result<(), Lost> {
    let uri = format!("http://{}/livez", to.address);
    let request = Request::get(uri).body(Body::empty()).map_err(|_| Lost::Unfit)?;
    node.forward.client.request(request).await.map(drop).map_err(|_| Lost::Gone)
}

/// The request as the owner takes it.
fn dress(mut parts: Parts, body: Body, to: &NodeState, origin: &Origin) -> Result<Request, Lost> {
    parts.uri = at(to, HERE, &parts.uri)?;
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    strip(&mut parts.headers);
    parts.headers.insert(PASS, pass(to)?);
    let client = HeaderValue::from_str(&origin.0.address().to_string()).map_err(|_| Lost::Unfit)?;
    parts.headers.insert(CLIENT, client);
    if !parts.headers.contains_key(header::HOST) {
        parts.headers.insert(header::HOST, HeaderValue::from_str(&to.address).map_err(|_| Lost::Gone)?);
    }
    Ok(Request::from_parts(parts, body))
}

fn pass(to: &NodeState) -> Result<HeaderValue, Lost> {
    let mut pass = HeaderValue::from_str(&to.pass.0).map_err(|_| Lost::Gone)?;
    pass.set_sensitive(true);
    Ok(pass)
}

fn at(to: &NodeState, prefix: &str, uri: &Uri) -> Result<Uri, Lost> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    format!("http://{}{prefix}{target}", to.address).parse().map_err(|_| Lost::Gone)
}

/// The answer as the client takes it.
fn undress(mut answer: Response) -> Response {
    let switching = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    *answer.version_mut() = Version::HTTP_11;
    answer.extensions_mut().clear();
    let headers = answer.headers_mut();
    strip(headers);
    if switching {
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
    }
    answer
}

/// When this node stops, the owner is asked to answer the poll now: cut off, the client would take its session for
/// lost. Again and again, as the question may be there before the poll; never ends by itself.
async fn release_when_stopping(node: &Arc<Node>, to: &NodeState, uri: &Uri) {
    node.shutdown.cancelled().await;
    loop {
        if let Err(Lost::Gone | Lost::Unknown | Lost::Unfit) = release(node, to, uri).await {
            tracing::debug!(owner = %to.id, "asking for the answer to a poll");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn release(node: &Arc<Node>, to: &NodeState, uri: &Uri) -> Result<(), Lost> {
    let request = Request::post(at(to, RELEASE, uri)?).header(PASS, pass(to)?).body(Body::empty());
    let asked = node.forward.client.request(request.map_err(|_| Lost::Unfit)?).await;
    asked.map(drop).map_err(|_| Lost::Gone)
}
