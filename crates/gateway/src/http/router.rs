//! Which request goes where.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Router, middleware};
use parlance_wire::Framing;
use parlance_wire::engineio::Transport;

use super::engine::{Endpoint, EngineSettings, Greeting};
use super::permit::Permits;
use super::{api, cors, health, history, openapi, poll, reply, upgrade};
use crate::config::Mount;
use crate::forward::{self, hop, inbound};
use crate::node::Node;
use crate::session;

/// What the public listener serves.
#[derive(Clone)]
pub struct Public {
    pub node: Arc<Node>,
    /// The connections of clients.
    pub permits: Permits,
    places: Arc<[Place]>,
}

/// One path of one host, or of every host.
struct Place {
    host: Option<String>,
    path: String,
    door: Door,
}

pub(super) enum Door {
    /// Raw WebSockets.
    Raw(Arc<Mount>),
    /// Engine.IO; the mounts of the path are its namespaces.
    Engine(Box<Endpoint>),
}

impl Place {
    fn new(node: &Arc<Node>, mounts: Vec<Arc<Mount>>) -> Option<Self> {
        let first = mounts.first()?.clone();
        let (host, path) = (first.host.clone(), first.path.clone());
        let door = match first.carried() {
            Framing::Raw => Door::Raw(first),
            Framing::Socketio => Door::Engine(Box::new(endpoint(node, &first, mounts.into()))),
        };
        Some(Self { host, path, door })
    }

    fn is_at(&self, path: &str) -> bool {
        // A Socket.IO client may be told to leave out the slash at the end.
        let bare = matches!(self.door, Door::Engine(_)).then(|| self.path.trim_end_matches('/'));
        self.path == path || bare.is_some_and(|bare| !bare.is_empty() && bare == path)
    }
}

/// The mounts of each path, in order of appearance.
fn places(node: &Arc<Node>) -> Arc<[Place]> {
    let mut groups: Vec<Vec<Arc<Mount>>> = Vec::new();
    for mount in node.config.load().mounts.iter().cloned().map(Arc::new) {
        let here = |g: &&mut Vec<Arc<Mount>>| {
            g.first().is_some_and(|m| (&m.host, &m.path) == (&mount.host, &mount.path))
        };
        match groups.iter_mut().find(here) {
            Some(group) => group.push(mount),
            None => groups.push(vec![mount]),
        }
    }
    groups.into_iter().filter_map(|mounts| Place::new(node, mounts)).collect()
}

fn endpoint(node: &Arc<Node>, first: &Mount, mounts: Arc<[Arc<Mount>]>) -> Endpoint {
    let config = node.config.load();
    let limits = &config.limits;
    let settings = EngineSettings {
        ping_interval_ms: first.ping_interval_ms,
        ping_timeout_ms: first.ping_timeout_ms,
        max_payload: first.max_frame_bytes,
        upgrade_timeout_ms: first.upgrade_timeout_ms,
        body_timeout_ms: limits.message_ms,
        max_sessions: limits.connections,
        max_sessions_per_ip: limits.connections_per_ip,
        node_name: node.id.to_string(),
    };
    let owner = node.clone();
    let accept = move |greeting: Greeting| {
        if let Some(running) = session::begin_socketio(&owner, mounts.clone(), greeting) {
            owner.tracker.spawn(running.run());
        }
    };
    Endpoint::new(settings, node.clock.clone(), node.tracker.clone(), Arc::new(accept))
        .counting(node.metrics.door.engine_polls_waiting.clone())
}

impl Public {
    /// What the mounts of a node are reached by.
    pub fn new(node: &Arc<Node>) -> Self {
        Self { node: node.clone(), permits: Permits::default(), places: places(node) }
    }

    /// The place at a path. One of this host goes before one of every host, whatever their order.
    fn place(&self, host: &str, path: &str) -> Option<&Place> {
        let here = || self.places.iter().filter(|p| p.is_at(path));
        let own = |p: &&Place| p.host.as_deref().is_some_and(|h| h.eq_ignore_ascii_case(host));
        here().find(own).or_else(|| here().find(|p| p.host.is_none()))
    }

    /// What is at the address of a request.
    pub(super) fn door(&self, headers: &HeaderMap, uri: &Uri) -> Option<&Door> {
        self.place(host(headers, uri), uri.path()).map(|place| &place.door)
    }

    /// The raw mount at the address of a request.
    pub fn raw(&self, request: &Request) -> Option<Arc<Mount>> {
        match self.door(request.headers(), request.uri())? {
            Door::Raw(mount) => Some(mount.clone()),
            Door::Engine(_) => None,
        }
    }

    /// Where Engine.IO is spoken at the address of a request.
    pub(crate) fn engine(&self, request: &Request) -> Option<&Endpoint> {
        match self.door(request.headers(), request.uri())? {
            Door::Engine(endpoint) => Some(endpoint),
            Door::Raw(_) => None,
        }
    }
}

/// Answers a request to a raw mount, as [`public`] would: the way through a router costs as much again as the handshake.
pub async fn raw(public: &Public, mount: Arc<Mount>, request: Request) -> Response {
    cors::guarded(public, request, |request| upgrade::handle(&public.node, mount, request)).await
}

/// The public listener. Mounts are matched by hand: they depend on the host too, and a path from the
/// configuration must not be able to break the router.
pub fn public(state: &Public) -> Router {
    let node = &state.node;
    Router::new()
        .route("/livez", get(health::live).fallback(wrong_method))
        .merge(history::router(node))
        .merge(poll::router(node))
        .fallback(mounted)
        .layer(middleware::from_fn_with_state(state.clone(), cors::guard))
        .layer(middleware::from_fn_with_state(state.clone(), no_more))
        .with_state(state.clone())
}

/// The internal listener.
pub fn internal(public: &Public) -> Router {
    let node = &public.node;
    let nodes = Router::new()
        .route(&format!("{}/{{*path}}", forward::HERE), any(inbound::receive))
        .route(&format!("{}/", forward::HERE), any(inbound::receive))
        .route(&format!("{}/{{*path}}", forward::RELEASE), any(inbound::release))
        .route(&format!("{}/", forward::EXPLAIN), post(inbound::explain))
        .with_state(public.clone());
    let (shown, _) = health::described().merge(openapi::described()).split_for_parts();
    shown.with_state(node.clone()).merge(api::router(node)).merge(nodes).fallback(api::nothing_here)
}

/// A node that leaves closes connections with its answers, as long as it still takes some: a balancer that keeps them for later
/// would otherwise find them closed with a request in its hand.
async fn no_more(State(public): State<Public>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if public.node.leaving.is_cancelled() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn mounted(State(public): State<Public>, request: Request) -> Response {
    match public.door(request.headers(), request.uri()) {
        Some(Door::Raw(mount)) => upgrade::handle(&public.node, mount.clone(), request).await,
        Some(Door::Engine(endpoint)) => match endpoint.owner(request.uri()) {
            Some(owner) => hop::relay(&public.node, &owner, request).await,
            None if public.node.takes().is_err() => begin_elsewhere(&public, endpoint, request).await,
            None => endpoint.handle(request).await,
        },
        None => nothing_here().await,
    }
}

/// A session that began at a node that stops, or is being replaced, would have to leave it again. A WebSocket would be here itself.
async fn begin_elsewhere(public: &Public, endpoint: &Endpoint, request: Request) -> Response {
    let begun = match endpoint.begins(request.uri()) {
        Some(Transport::Polling) if request.method() == Method::GET => {
            hop::begin(&public.node, request).await
        }
        Some(Transport::WebSocket) => None,
        Some(Transport::Polling) | None => return endpoint.handle(request).await,
    };
    begun.unwrap_or_else(|| {
        let stopping = StatusCode::SERVICE_UNAVAILABLE;
        let mut response =
            reply::refusal(stopping, "UNAVAILABLE", "this node is stopping, or being replaced");
        reply::retry_after(&mut response, 1);
        response
    })
}

fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> &'a str {
    let header = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let host = header.or_else(|| uri.host()).unwrap_or_default();
    let end = if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.rfind(':') };
    host.get(..end.unwrap_or(host.len())).unwrap_or_default()
}

async fn nothing_here() -> Response {
    reply::refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this address")
}

/// The answer of an address that only knows GET.
pub(super) async fn wrong_method() -> Response {
    let mut response = reply::refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "use GET");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn the_host_is_taken_without_its_port() {
        for (header, expected) in
            [("a.example", "a.example"), ("a.example:8082", "a.example"), ("[::1]:8082", "[::1]"), ("", "")]
        {
            let request = Request::builder().header(header::HOST, header).body(Body::empty()).unwrap();
            assert_eq!(host(request.headers(), request.uri()), expected);
        }
    }
}
