//! Liveness, readiness, metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::reply;
use crate::node::Node;

/// Whether the process answers: nothing else is asked, or a fault elsewhere would restart every node.
pub async fn live() -> Response {
    reply::json(StatusCode::OK, "{\"status\":\"ok\"}")
}

/// Whether the node delivers.
pub async fn ready(State(node): State<Arc<Node>>) -> Response {
    let failure = node.ready().err();
    let status = if failure.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": if failure.is_none() { "ready" } else { "not ready" },
        "reason": failure,
        "node": node.id.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "engine": node.backplane.ack_level.engine(),
        "ack_level": node.backplane.ack_level.as_str(),
        "acked_survives": &*node.backplane.survives,
        "connections": node.links.len(),
        "maintenance": node.maintenance.load().is_some(),
        "checks": {
            "stopping": node.shutdown.is_cancelled(),
            "engine": if node.health.keeps() { "ok" } else { "away" },
            "publications": if node.health.hears() { "ok" } else { "missing" },
            "feed": if node.delivers() { "ok" } else { "stalled" },
        },
    });
    reply::json(status, body.to_string())
}

/// All metrics as Prometheus text.
pub async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let mut response = Response::new(node.metrics.render().into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
