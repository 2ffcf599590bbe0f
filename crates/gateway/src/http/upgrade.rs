//! The WebSocket handshake: everything that can be refused is refused before the 101, as plain HTTP.
//!
//! Owns: RFC 6455 section 4.2. Must not know: frames. No extension and no
//! subprotocol is ever agreed to.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::TokioIo;
use parlance_model::{Identity, Reject};
use parlance_wire::Dialect;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::connection::Origin;
use super::patience::Patient;
use super::socket::Socket;
use super::{credentials, reply};
use crate::config::Mount;
use crate::metrics::word;
use crate::node::Node;
use crate::session::{self, Admission};
use crate::trace::Parent;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// A handshake that is not one: status, reason and text.
pub(super) type Flaw = (StatusCode, &'static str, &'static str);

/// Answers a request to a mount: 101 and a session, or a refusal.
pub async fn handle(node: &Arc<Node>, mount: Arc<Mount>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let key = match handshake(&parts) {
        Ok(key) => key,
        Err(flaw) => return not_a_handshake(node, &mount, flaw),
    };
    let (Some(pending), Some(origin)) =
        (parts.extensions.remove::<hyper::upgrade::OnUpgrade>(), parts.extensions.remove::<Origin>())
    else {
        let flaw = (StatusCode::BAD_REQUEST, "BAD_REQUEST", "this connection cannot be upgraded");
        return not_a_handshake(node, &mount, flaw);
    };
    match admit(node, &mount, &parts, &origin).await {
        Ok(admission) => {
            node.tracker.spawn(begin(pending, admission, origin));
            switching(&key)
        }
        Err(reject) => rejected(node, &mount, &reject),
    }
}

/// The answer to a client that may not come in.
pub(super) fn rejected(node: &Node, mount: &Mount, reject: &Reject) -> Response {
    node.metrics.refused(Some(mount), word(reject.code));
    let mut response = reply::rejected(reject);
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// Begins the session once the 101 is written, in a task of its own. The permit lives as long as the session.
async fn begin(pending: hyper::upgrade::OnUpgrade, admission: Admission, origin: Origin) {
    // When there is none, dropping the admission gives its lease back.
    let Some(socket) = upgraded(pending).await else { return };
    let tracker = admission.tracker().clone();
    let running = session::begin(admission, socket).await;
    tracker.spawn(async move {
        running.run().await;
        drop(origin);
    });
}

/// The socket behind an upgrade; `None` when the client went before its answer.
pub(super) async fn upgraded(pending: hyper::upgrade::OnUpgrade) -> Option<Socket> {
    let upgraded = match pending.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "upgrade");
            return None;
        }
    };
    match upgraded.downcast::<TokioIo<Patient>>() {
        Ok(parts) => {
            let (stream, ahead) = parts.io.into_inner().into_inner();
            let leftover =
                if ahead.is_empty() { parts.read_buf } else { [parts.read_buf, ahead].concat().into() };
            Some(Socket { stream: stream.0, leftover })
        }
        Err(_) => {
            tracing::error!("an upgraded connection is not of our listener");
            None
        }
    }
}

/// Whether a client may come in.
pub(super) async fn admit(
    node: &Arc<Node>,
    mount: &Arc<Mount>,
    parts: &Parts,
    origin: &Origin,
) -> Result<Admission, Reject> {
    node.takes()?;
    let identity = identify(node, mount, parts).await?;
    let parent = Parent::of_handshake(&parts.headers);
    session::admit(node, mount.clone(), identity, origin.0.address(), parent).await
}

async fn identify(node: &Node, mount: &Mount, parts: &Parts) -> Result<Option<Arc<Identity>>, Reject> {
    let token = credentials::token(parts);
    // sechat clients may present their token in their first frame instead.
    if token.is_none() && Dialect::parse(&mount.dialect) == Some(Dialect::Sechat) {
        return Ok(None);
    }
    credentials::verify(node, token.as_deref(), &mount.subjects).await.map(Some)
}

/// Checks the handshake and returns its key.
pub(super) fn handshake(parts: &Parts) -> Result<HeaderValue, Flaw> {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    let headers = &parts.headers;
    if parts.method != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "use GET"));
    }
    if parts.version != Version::HTTP_11 {
        return Err((BAD, "BAD_REQUEST", "a WebSocket handshake needs HTTP/1.1"));
    }
    if !names(headers, &header::UPGRADE, "websocket") {
        return Err((StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED", "this address speaks WebSocket"));
    }
    if !names(headers, &header::CONNECTION, "upgrade") {
        return Err((BAD, "BAD_REQUEST", "the Connection header does not ask for an upgrade"));
    }
    // Whoever reads no body where we read one takes what we skip for frames.
    let length = headers.get(header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0") {
        return Err((BAD, "BAD_REQUEST", "a WebSocket handshake has no body"));
    }
    let mut versions = headers.get_all(header::SEC_WEBSOCKET_VERSION).iter();
    if versions.next().is_none_or(|version| version != "13") || versions.next().is_some() {
        let text = "only version 13 of the WebSocket protocol is spoken";
        return Err((StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED", text));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16));
    match (key, keys.next()) {
        (Some(key), None) => Ok(key.clone()),
        _ => Err((BAD, "BAD_REQUEST", "Sec-WebSocket-Key is not one value of 16 bytes in base64")),
    }
}

/// Whether a comma-separated header holds `word`.
fn names(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

fn not_a_handshake(node: &Node, mount: &Mount, (status, code, text): Flaw) -> Response {
    node.metrics.refused(Some(mount), "handshake");
    let mut response = reply::refusal(status, code, text);
    let headers = response.headers_mut();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
    }
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(header::UPGRADE, WEBSOCKET);
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

/// The answer that makes a WebSocket of a connection.
pub(super) fn switching(key: &HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, WEBSOCKET);
    headers.insert(header::CONNECTION, UPGRADE);
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}
