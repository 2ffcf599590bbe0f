//! Who is there.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_backplane::UserPresence;
use parlance_model::{Time, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::errors::ApiError;
use super::input::{self, Input, Named};
use super::{Answer, answer};
use crate::http::openapi::{Calls, Id, OfBody};
use crate::node::Node;

/// Users asked about in one call.
const MOST: usize = 1000;

/// Whose presence.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "users": ["alice", "bob"] }))]
pub struct PresenceCall {
    /// Who is named twice is answered once.
    #[schema(value_type = Vec<Id>, max_items = 1000)]
    users: Vec<String>,
}

/// Whether a user is there: the strongest of what the connections say, busy before online before away.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Offline,
    Away,
    Online,
    Busy,
}

impl From<parlance_model::Status> for Status {
    fn from(status: parlance_model::Status) -> Self {
        match status {
            parlance_model::Status::Offline => Self::Offline,
            parlance_model::Status::Away => Self::Away,
            parlance_model::Status::Online => Self::Online,
            parlance_model::Status::Busy => Self::Busy,
        }
    }
}

/// A user's presence. Of a user nobody has heard of: offline.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Presence)]
pub struct Shown {
    #[schema(value_type = Id)]
    user_id: String,
    status: Status,
    /// Connections, on all nodes.
    devices: usize,
    #[schema(format = "date-time", required = true)]
    last_seen: Option<String>,
}

/// The presence of many, in the order they were asked about.
#[derive(Serialize, ToSchema)]
pub struct Presences {
    users: Vec<Shown>,
}

/// One user's presence
#[utoipa::path(
    get, path = "/api/v1/users/{id}/presence", tag = "server", operation_id = "getPresence",
    params(("id" = Id, Path, description = "The user")),
    responses((status = 200, description = "The user's presence", body = Shown), Calls),
)]
pub async fn one(State(node): State<Arc<Node>>, name: Named) -> Answer {
    let users = [name.user()?];
    let found = node.backplane.presence.status(&users).await?;
    let all = users.iter().zip(&found).map(shown).next();
    answer(StatusCode::OK, &all)
}

/// The presence of many users
///
/// A call that only reads: it is a POST because so many ids do not fit into an address.
#[utoipa::path(
    post, path = "/api/v1/presence", tag = "server", operation_id = "getPresences",
    request_body = PresenceCall,
    responses((status = 200, description = "Their presence", body = Presences), Calls, OfBody),
)]
pub async fn many(State(node): State<Arc<Node>>, Input(ask): Input<PresenceCall>) -> Answer {
    if ask.users.len() > MOST {
        return Err(ApiError::invalid(format!("at most {MOST} users in one call")));
    }
    let users = input::users(&ask.users)?;
    let found = node.backplane.presence.status(&users).await?;
    answer(StatusCode::OK, &Presences { users: users.iter().zip(&found).map(shown).collect() })
}

fn shown((user, presence): (&UserId, &UserPresence)) -> Shown {
    Shown {
        user_id: user.to_string(),
        status: presence.status.into(),
        devices: presence.devices,
        last_seen: presence.last_seen.map(Time::to_iso),
    }
}
