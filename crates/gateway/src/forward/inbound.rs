//! Forwarded requests, at the node that owns their sessions: on the internal listener, behind its pass.
//!
//! Owns: letting in other nodes only, and making the request what it was. Must not know: what is asked.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use parlance_wire::engineio::Problem;
use subtle::ConstantTimeEq;

use super::{CLIENT, HERE, PASS, RELEASE};
use crate::http::router::Public;
use crate::http::{Origin, engine, reply};

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
            public.node.metrics.refused("-", reason);
            let busy = StatusCode::SERVICE_UNAVAILABLE;
            let mut response = reply::refusal(busy, "UNAVAILABLE", "too many connections");
            reply::retry_after(&mut response, 5);
            Err(Box::new(response))
        }
    }
}

fn stranger(public: &Public) -> Response {
    public.node.metrics.refused("-", "pass");
    reply::refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "for other nodes only")
}
