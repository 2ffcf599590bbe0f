//! Disconnecting users, the maintenance switch, this node.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_backplane::Signal;
use parlance_model::Topic;
use serde::Deserialize;
use serde_json::json;

use super::errors::ApiError;
use super::input::{Input, Named};
use super::{Answer, answer};
use crate::node::{MAINTENANCE_KEY, MaintenanceSwitch, Node};

/// A close frame has room for 123 bytes.
const LONGEST_REASON: usize = 123;
const LONGEST_NOTICE: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    reason: Option<String>,
    #[serde(default = "yes")]
    reconnect: bool,
}

const fn yes() -> bool {
    true
}

/// Closes all of a user's connections, on every node.
pub async fn disconnect(
    State(node): State<Arc<Node>>,
    name: Named,
    Input(call): Input<Disconnect>,
) -> Answer {
    let user = name.user()?;
    let reason = call.reason.unwrap_or_else(|| "disconnected by the server".to_owned());
    if reason.len() > LONGEST_REASON {
        return Err(ApiError::invalid(format!("reason is longer than {LONGEST_REASON} bytes")));
    }
    let signal = Signal::Disconnect { reason, reconnect: call.reconnect };
    node.backplane.bus.signal(&Topic::User(user.clone()), signal).await?;
    answer(StatusCode::ACCEPTED, &json!({ "userId": user.as_str() }))
}

/// Switches maintenance on or off, on every node.
pub async fn maintenance(State(node): State<Arc<Node>>, Input(switch): Input<MaintenanceSwitch>) -> Answer {
    if switch.message.as_ref().is_some_and(|text| text.len() > LONGEST_NOTICE) {
        return Err(ApiError::invalid(format!("message is longer than {LONGEST_NOTICE} bytes")));
    }
    let stored = serde_json::to_vec(&switch).map_err(|error| ApiError::internal(&error))?;
    node.backplane.shared.save(MAINTENANCE_KEY, stored, None).await?;
    node.backplane.bus.signal(&Topic::Nodes, Signal::Maintenance).await?;
    answer(StatusCode::OK, &switch)
}

/// The nodes; the embedded engine has one.
pub async fn nodes(State(node): State<Arc<Node>>) -> Answer {
    let this = json!({
        "id": node.id.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "connections": node.links.len(),
        "startedAt": node.started_at.to_iso(),
        "ready": node.ready().is_ok(),
        "lagMs": node.feed_lag_ms(),
    });
    answer(StatusCode::OK, &json!({ "nodes": [this] }))
}
