//! Liveness, readiness, metrics.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::reply;
use super::router::wrong_method;
use crate::node::Node;

/// The routes of the internal listener, and their description.
pub(super) fn described() -> OpenApiRouter<Arc<Node>> {
    OpenApiRouter::default()
        .routes(routes!(live).map(|route| route.fallback(wrong_method)))
        .routes(routes!(ready).map(|route| route.fallback(wrong_method)))
        .routes(routes!(metrics).map(|route| route.fallback(wrong_method)))
}

/// The process answers.
#[derive(Serialize, ToSchema)]
pub struct Alive {
    #[schema(pattern = "^ok$")]
    status: &'static str,
}

/// Whether the node delivers, and what it looks at.
#[derive(Serialize, ToSchema)]
#[schema(as = Readiness)]
pub struct Ready {
    #[schema(pattern = "^(ready|not ready)$")]
    status: &'static str,
    /// Why it does not.
    #[schema(required = true)]
    reason: Option<String>,
    node: String,
    version: &'static str,
    engine: &'static str,
    ack_level: &'static str,
    /// What an acknowledged message survives.
    acked_survives: String,
    connections: usize,
    maintenance: bool,
    checks: Checks,
}

/// What a node's readiness hangs on.
#[derive(Serialize, ToSchema)]
pub struct Checks {
    stopping: bool,
    /// Nodes of a newer generation take the new connections.
    superseded: bool,
    #[schema(pattern = "^(ok|away)$")]
    engine: &'static str,
    #[schema(pattern = "^(ok|missing)$")]
    publications: &'static str,
    #[schema(pattern = "^(ok|stalled)$")]
    feed: &'static str,
}

/// Whether the process answers
///
/// Nothing else is asked, or a fault elsewhere would restart every node.
#[utoipa::path(
    get, path = "/livez", tag = "node", operation_id = "livez", security(()),
    responses((status = 200, description = "It does", body = Alive)),
)]
pub async fn live() -> Response {
    told(StatusCode::OK, &Alive { status: "ok" })
}

/// A newer generation has room.
const REPLACED: &str = "nodes of a newer generation take the new connections";

/// For whom it is asked.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// `newcomers`: not ready either while nodes of a newer generation have room. For balancers; whoever decides by it
    /// which node may be stopped would never stop one.
    #[serde(rename = "for")]
    #[param(rename = "for", required = false)]
    whose: Option<Whose>,
}

#[derive(Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Whose {
    Newcomers,
}

/// Whether the node delivers
#[utoipa::path(
    get, path = "/readyz", tag = "node", operation_id = "readyz", security(()), params(Asked),
    responses(
        (status = 200, description = "It does", body = Ready),
        (status = 503, description = "It does not, and says why: give it no new connections", body = Ready),
    ),
)]
pub async fn ready(State(node): State<Arc<Node>>, Query(asked): Query<Asked>) -> Response {
    let superseded = node.is_superseded();
    let replaced = (superseded && asked.whose == Some(Whose::Newcomers)).then(|| REPLACED.to_owned());
    let failure = node.ready().err().or(replaced);
    let status = if failure.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = |well: bool, other: &'static str| if well { "ok" } else { other };
    let body = Ready {
        status: if failure.is_none() { "ready" } else { "not ready" },
        reason: failure,
        node: node.id.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        engine: node.backplane.ack_level.engine(),
        ack_level: node.backplane.ack_level.as_str(),
        acked_survives: node.backplane.survives.to_string(),
        connections: node.links.len(),
        maintenance: node.maintenance.load().is_some(),
        checks: Checks {
            stopping: node.leaving.is_cancelled(),
            superseded,
            engine: word(node.health.keeps(), "away"),
            publications: word(node.health.hears(), "missing"),
            feed: word(node.delivers(), "stalled"),
        },
    };
    told(status, &body)
}

fn told(status: StatusCode, body: &impl Serialize) -> Response {
    // Words, numbers and switches: there is nothing in it that could not be written.
    reply::json(status, serde_json::to_string(body).unwrap_or_default())
}

/// All metrics as Prometheus text
#[utoipa::path(
    get, path = "/metrics", tag = "node", operation_id = "metrics", security(()),
    responses((status = 200, description = "The text format, version 0.0.4", body = String, content_type = "text/plain")),
)]
pub async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let mut response = Response::new(crate::metrics::scrape(&node).await.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
