//! Disconnecting users, the maintenance switch, this node.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_backplane::{LiveNode, NodeState, Over};
use parlance_model::Time;
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::ApiError;
use super::input::{self, Input, Named};
use super::{Answer, answer};
use crate::forward;
use crate::node::{MAINTENANCE_KEY, MaintenanceSwitch, Node};
use crate::orders::{self, Revocation};

/// A close frame has room for 123 bytes.
const LONGEST_REASON: usize = 123;
const LONGEST_NOTICE: usize = 1024;
const LONGEST_JTI: usize = 512;

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
    orders::disconnect(&node, &user, reason, call.reconnect).await?;
    answer(StatusCode::ACCEPTED, &json!({ "userId": user.as_str() }))
}

/// Which tokens: at least one of these; all that are named must fit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    user: Option<String>,
    jti: Option<String>,
    /// As `iat` (seconds), or an ISO time. For a user's tokens, now when absent.
    before: Option<Value>,
}

/// Has every node refuse tokens and close the connections that live on them.
pub async fn revoke(State(node): State<Arc<Node>>, Input(call): Input<Revoke>) -> Answer {
    let user = call.user.as_deref().map(input::user).transpose()?;
    if call.jti.as_ref().is_some_and(|jti| jti.is_empty() || jti.len() > LONGEST_JTI) {
        return Err(ApiError::invalid(format!("jti has 1 to {LONGEST_JTI} bytes")));
    }
    let before = call.before.as_ref().map(|given| {
        time(given).ok_or_else(|| {
            ApiError::invalid("before is a time: seconds since 1970, as in `iat`, or ISO 8601")
        })
    });
    let before = match (before.transpose()?, &user, &call.jti) {
        (None, None, None) => return Err(ApiError::invalid("user, jti or before is needed")),
        (None, Some(_), None) => Some(node.clock.now()),
        (before, ..) => before,
    };
    let revocation = Revocation {
        user: user.map(|user| user.to_string()),
        jti: call.jti,
        before: before.map(Time::millis),
    };
    let said = json!({
        "user": revocation.user, "jti": revocation.jti, "before": before.map(Time::to_iso),
    });
    orders::revoke(&node, revocation).await?;
    answer(StatusCode::OK, &said)
}

fn time(given: &Value) -> Option<Time> {
    given.as_str().map_or_else(|| crate::auth::numeric_date(given), Time::parse_iso)
}

/// Switches maintenance on or off, on every node.
pub async fn maintenance(State(node): State<Arc<Node>>, Input(switch): Input<MaintenanceSwitch>) -> Answer {
    if switch.message.as_ref().is_some_and(|text| text.len() > LONGEST_NOTICE) {
        return Err(ApiError::invalid(format!("message is longer than {LONGEST_NOTICE} bytes")));
    }
    let stored = serde_json::to_vec(&switch).map_err(|error| ApiError::internal(&error))?;
    node.backplane.shared.keep(MAINTENANCE_KEY, stored, None, Over::Anything).await?;
    orders::tell(&node).await;
    answer(StatusCode::OK, &switch)
}

/// The nodes of the cluster, as each said last; this one as it is now.
pub async fn nodes(State(node): State<Arc<Node>>) -> Answer {
    let mut live = node.backplane.nodes.live().await?;
    let now = node.clock.now();
    let this = forward::state(&node);
    match live.iter_mut().find(|other| other.state.id == node.id) {
        Some(own) => own.state = this,
        None => live.insert(0, LiveNode { state: this, seen: now }),
    }
    let all: Vec<Value> = live.into_iter().map(|node| shown(node.state)).collect();
    answer(StatusCode::OK, &json!({ "nodes": all }))
}

/// Without its pass.
fn shown(state: NodeState) -> Value {
    json!({
        "id": state.id.as_str(),
        "address": state.address,
        "version": state.version,
        "connections": state.connections,
        "startedAt": state.started_at.to_iso(),
        "lagMs": state.lag_ms,
        "draining": state.draining,
    })
}
