//! Forwarded requests, at the node that owns their sessions: on the internal listener, behind its pass.
//!
//! Owns: letting in other nodes only, and making the request what it was. Must not know: what is asked.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use http_body_util::{BodyExt, Limited};
use parlance_wire::engineio::Problem;
use subtle::ConstantTimeEq;

use super::ask;
use super::{CLIENT, EXPLAIN, HERE, PASS, RELEASE};
use crate::http::router::Public;
use crate::http::{Origin, engine, reply};
use crate::journal::{self, Question};

/// Answers a forwarded request as if it had come to the public listener. Its origin was checked there.
pub async fn receive(State(public): State<Public>, request: Request) -> Response {
    let Some(mut request) = admitted(&public, request, HERE) else { return stranger(&public) };
    // A session begins, or gets a WebSocket.
    let begins = public.engine(&request).is_some_and(|endpoint| endpoint.begins(request.uri()).is_some());
    if begins || request.headers().contains_key(header::UPGRADE) {
        match counted(&public, request.headers()) {
            Ok(origin) => drop(request.extensions_mut().insert(origin)),
            Err(response) => return *response,
        }
    }
    request.headers_mut().remove(CLIENT);
    match public.engine(&request) {
        Some(endpoint) => endpoint.handle(request).await,
        None => engine::refuse(Problem::UnknownSid),
    }
}

/// Answers the pending poll of a session now, so that the node it came by can stop.
pub async fn release(State(public): State<Public>, request: Request) -> Response {
    let Some(request) = admitted(&public, request, RELEASE) else { return stranger(&public) };
    if let Some(endpoint) = public.engine(&request) {
        endpoint.release(request.uri());
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Answers what this node remembers of a message.
pub async fn explain(State(public): State<Public>, request: Request) -> Response {
    let Some(request) = admitted(&public, request, EXPLAIN) else { return stranger(&public) };
    let read = Limited::new(request.into_body(), ask::LARGEST_QUESTION).collect().await;
    let question = read.ok().and_then(|body| serde_json::from_slice::<Question>(&body.to_bytes()).ok());
    let Some(question) = question else {
        return reply::refusal(StatusCode::BAD_REQUEST, "INVALID_REQUEST", "not a question");
    };
    match serde_json::to_vec(&journal::own(&public.node, &question)) {
        Ok(body) => reply::json(StatusCode::OK, body),
        Err(error) => {
            tracing::error!(%error, "telling another node what is remembered");
            reply::refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "internal error")
        }
    }
}

/// The request with the address the client sent it to, when it is another node's.
fn admitted(public: &Public, mut request: Request, prefix: &str) -> Option<Request> {
    let pass = request.headers_mut().remove(PASS)?;
    if !bool::from(pass.as_bytes().ct_eq(public.node.forward.pass.0.as_bytes())) {
        return None;
    }
    let target = request.uri().path_and_query()?.as_str().strip_prefix(prefix)?;
    *request.uri_mut() = target.parse::<Uri>().ok()?;
    Some(request)
}

/// It counts here as well, by the client's own address.
fn counted(public: &Public, headers: &HeaderMap) -> Result<Origin, Box<Response>> {
    let address = headers.get(CLIENT).and_then(|value| value.to_str().ok());
    let Some(address) = address.and_then(|text| text.parse::<IpAddr>().ok()) else {
        return Err(Box::new(engine::refuse(Problem::BadRequest)));
    };
    let limits = &public.node.config.load().limits;
    match public.permits.take(address, limits.connections, limits.connections_per_ip) {
        Ok(permit) => Ok(Origin(Arc::new(permit))),
        Err(reason) => {
            public.node.metrics.refused(None, reason);
            let busy = StatusCode::SERVICE_UNAVAILABLE;
            let mut response = reply::refusal(busy, "UNAVAILABLE", "too many connections");
            reply::retry_after(&mut response, 5);
            Err(Box::new(response))
        }
    }
}

fn stranger(public: &Public) -> Response {
    public.node.metrics.refused(None, "pass");
    reply::refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "for other nodes only")
}
