//! What webhooks have not told yet, and what they gave up.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_backplane::trail::Backlog;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::errors::ApiError;
use super::input::Asked;
use super::{Answer, answer};
use crate::http::openapi::Calls;
use crate::node::Node;
use crate::webhooks;

/// Events shown as shipped, and at most.
const SHOWN: usize = 100;
const MOST: usize = 1_000;

/// How many.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Query {
    /// Events shown at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

impl Query {
    /// How far behind a consumer is, and the first that it gave up.
    pub(super) async fn of(
        &self,
        node: &Node,
        group: &'static str,
    ) -> Result<(Backlog, Vec<webhooks::Event>), ApiError> {
        let backlog = node.backplane.trail.backlog(group).await?;
        let most = self.limit.unwrap_or(SHOWN);
        if !(1..=MOST).contains(&most) {
            return Err(ApiError::invalid(format!("limit is 1 to {MOST}")));
        }
        let events = if backlog.dead > 0 { webhooks::aside(node, group, most).await? } else { Vec::new() };
        Ok((backlog, events))
    }
}

/// Where webhooks stand, at all nodes together.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhooks {
    /// Steps that were not told yet.
    waiting: u64,
    /// Since when the oldest of them waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    oldest: Option<String>,
    /// Events that were given up and put aside.
    aside: u64,
    /// Of these the first, as the backend would be told them.
    #[schema(value_type = Vec<Object>)]
    events: Vec<webhooks::Event>,
}

/// What became of a repetition.
#[derive(Serialize, ToSchema)]
pub struct Retried {
    /// Events that are taken again, behind what waits.
    pub(super) retried: u64,
}

/// What webhooks have not told, and what they gave up
#[utoipa::path(
    get, path = "/api/v1/webhooks", tag = "server", operation_id = "getWebhooks",
    params(Query),
    responses((status = 200, description = "Nothing, where there are none", body = Webhooks), Calls),
)]
pub async fn get(State(node): State<Arc<Node>>, Asked(query): Asked<Query>) -> Answer {
    let (backlog, events) = query.of(&node, webhooks::GROUP).await?;
    let oldest = backlog.since.map(parlance_model::Time::to_iso);
    answer(StatusCode::OK, &Webhooks { waiting: backlog.steps, oldest, aside: backlog.dead, events })
}

/// Tells again what webhooks gave up
///
/// With the ids that the events had before.
#[utoipa::path(
    post, path = "/api/v1/webhooks/retry", tag = "server", operation_id = "retryWebhooks",
    responses((status = 200, description = "How many", body = Retried), Calls),
)]
pub async fn retry(State(node): State<Arc<Node>>) -> Answer {
    answer(StatusCode::OK, &Retried { retried: webhooks::retry(&node, webhooks::GROUP).await? })
}
