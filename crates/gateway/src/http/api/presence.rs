//! Who is there.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_backplane::UserPresence;
use parlance_model::UserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::ApiError;
use super::input::{self, Input, Named};
use super::{Answer, answer};
use crate::node::Node;

/// Users asked about in one call.
const MOST: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    users: Vec<String>,
}

/// One user's presence.
pub async fn one(State(node): State<Arc<Node>>, name: Named) -> Answer {
    let users = [name.user()?];
    let found = node.backplane.presence.status(&users).await?;
    let all = users.iter().zip(&found).map(shown).next();
    answer(StatusCode::OK, &all)
}

/// The presence of many.
pub async fn many(State(node): State<Arc<Node>>, Input(ask): Input<Ask>) -> Answer {
    if ask.users.len() > MOST {
        return Err(ApiError::invalid(format!("at most {MOST} users in one call")));
    }
    let users = input::users(&ask.users)?;
    let found = node.backplane.presence.status(&users).await?;
    let all: Vec<Value> = users.iter().zip(&found).map(shown).collect();
    answer(StatusCode::OK, &json!({ "users": all }))
}

fn shown((user, presence): (&UserId, &UserPresence)) -> Value {
    json!({
        "userId": user.as_str(),
        "status": presence.status.as_str(),
        "devices": presence.devices,
        "lastSeen": presence.last_seen.map(|at| at.to_iso()),
    })
}
