//! What is not in the archive yet, and what PostgreSQL refused.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::input::Asked;
use super::webhooks::{Query, Retried};
use super::{Answer, answer};
use crate::config;
use crate::http::openapi::Calls;
use crate::node::Node;
use crate::webhooks;

/// Where the archive stands, at all nodes together.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// Steps that were not written yet.
    waiting: u64,
    /// Since when the oldest of them waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    oldest: Option<String>,
    /// Steps that PostgreSQL refused for their content, put aside.
    aside: u64,
    /// Of these the first, as webhooks would tell of them; kinds that webhooks do not know are only counted.
    #[schema(value_type = Vec<Object>)]
    events: Vec<webhooks::Event>,
}

/// What is not in the archive yet, and what PostgreSQL refused
#[utoipa::path(
    get, path = "/api/v1/archive", tag = "server", operation_id = "getArchive",
    params(Query),
    responses((status = 200, description = "Nothing, where there is none", body = Archive), Calls),
)]
pub async fn get(State(node): State<Arc<Node>>, Asked(query): Asked<Query>) -> Answer {
    let (backlog, events) = query.of(&node, config::Archive::GROUP).await?;
    let oldest = backlog.since.map(parlance_model::Time::to_iso);
    answer(StatusCode::OK, &Archive { waiting: backlog.steps, oldest, aside: backlog.dead, events })
}

/// Writes again what PostgreSQL refused
///
/// Behind what waits. What it refuses again is put aside again.
#[utoipa::path(
    post, path = "/api/v1/archive/retry", tag = "server", operation_id = "retryArchive",
    responses((status = 200, description = "How many", body = Retried), Calls),
)]
pub async fn retry(State(node): State<Arc<Node>>) -> Answer {
    answer(StatusCode::OK, &Retried { retried: webhooks::retry(&node, config::Archive::GROUP).await? })
}
