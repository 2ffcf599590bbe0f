//! What is not in the archive yet, what PostgreSQL refused, and bringing in what was before it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_model::ConversationId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::errors::{ApiError, Code, Refusal};
use super::input::{self, Asked, Input};
use super::webhooks::{Query, Retried};
use super::{Answer, answer};
use crate::backfill::{NotBegun, State as Standing, Status};
use crate::config;
use crate::http::openapi::{Calls, Conflicts, Id, OfBody};
use crate::node::Node;
use crate::webhooks;

/// Conversations that a call may name.
const MOST: usize = 1_000;

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
    /// The latest backfill that this node began.
    #[serde(skip_serializing_if = "Option::is_none")]
    backfill: Option<Backfilled>,
}

/// How far a backfill is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Backfill)]
pub struct Backfilled {
    state: Standing,
    #[schema(format = "date-time")]
    started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "date-time")]
    ended_at: Option<String>,
    /// Conversations that it went through; one may count twice.
    conversations: u64,
    /// Entries that it wrote: they were not there before.
    entries: u64,
    /// Entries that PostgreSQL refused for their content.
    refused: u64,
    /// Conversations of which something could not be read or written; the log says why.
    unreadable: u64,
    /// What it waits for, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Status> for Backfilled {
    fn from(status: Status) -> Self {
        Self {
            state: status.state,
            started_at: status.started.to_iso(),
            ended_at: status.ended.map(parlance_model::Time::to_iso),
            conversations: status.conversations,
            entries: status.entries,
            refused: status.refused,
            unreadable: status.unreadable,
            reason: status.why,
        }
    }
}

/// What a backfill is about.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "conversations": ["team-7"] }))]
pub struct BackfillCall {
    /// Only these; absent: all. Those that are not there are passed over.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Id>>, min_items = 1, max_items = 1000)]
    conversations: Option<Vec<String>>,
}

impl BackfillCall {
    fn only(self) -> Result<Option<Vec<ConversationId>>, ApiError> {
        let Some(named) = self.conversations else { return Ok(None) };
        if !(1..=MOST).contains(&named.len()) {
            return Err(ApiError::invalid(format!("conversations are 1 to {MOST}")));
        }
        named.iter().map(|id| input::conversation(id)).collect::<Result<_, _>>().map(Some)
    }
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
    let backfill = node.backfill.get().and_then(|who| who.latest()).map(Backfilled::from);
    answer(StatusCode::OK, &Archive { waiting: backlog.steps, oldest, aside: backlog.dead, events, backfill })
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

/// Brings the history from before the archive into it
///
/// What the engine still keeps of conversations' logs is written where it is missing, with members and receipts as they stand:
/// in the background, by the node that is asked, one at a time over all nodes. `GET /api/v1/archive` of the same node says how
/// far it is. Without a body all conversations. It may be repeated: what is there already is passed over, and what was removed by
/// policy or forgotten does not come back.
#[utoipa::path(
    post, path = "/api/v1/archive/backfill", tag = "server", operation_id = "backfillArchive",
    request_body = Option<BackfillCall>,
    responses(
        (status = 202, description = "It has begun", body = Backfilled),
        (status = 404, description = "There is no archive", body = Refusal),
        Calls, OfBody, Conflicts,
    ),
)]
pub async fn backfill(State(node): State<Arc<Node>>, Input(call): Input<Option<BackfillCall>>) -> Answer {
    let only = call.unwrap_or_default().only()?;
    let who = node.backfill.get().ok_or_else(|| ApiError::not_found("there is no archive: archive.url"))?;
    match who.begin(only).await {
        Ok(status) => answer(StatusCode::ACCEPTED, &Backfilled::from(status)),
        Err(NotBegun::Taken) => {
            let why = "one is under way already, here or at another node";
            Err(ApiError::conflict(Code::AlreadyRunning, why))
        }
        Err(NotBegun::Away(why)) => {
            let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, Code::ServiceUnavailable);
            Err(ApiError::new(status, code, format!("the archive: {why}")).retry_after(1_000))
        }
    }
}
