//! Disconnecting users, the maintenance switch, this node.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_backplane::{LiveNode, NodeState, Over};
use parlance_model::Time;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use super::errors::ApiError;
use super::input::{self, Input, Named};
use super::{Answer, Done, answer};
use crate::forward;
use crate::http::openapi::{Calls, Id, OfBody};
use crate::node::{MAINTENANCE_KEY, MaintenanceSwitch, Node};
use crate::orders::{self, Revocation};

/// What a close frame has room for, in bytes; in a call, characters.
const LONGEST_REASON: usize = 123;
const LONGEST_NOTICE: usize = 1024;
const LONGEST_JTI: usize = 512;
/// A year: a longer maintenance is a slip of the unit.
const LONGEST_MAINTENANCE: u64 = 31_536_000;

/// Why a user is disconnected, and whether to come back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({ "reason": "signed out everywhere", "reconnect": false }))]
pub struct Disconnection {
    /// For people; in the close frame, which has room for its first 123 bytes.
    #[schema(max_length = 123)]
    reason: Option<String>,
    /// Whether clients are told to come back (close code 1012) or to stay away (1008).
    #[schema(default = true)]
    reconnect: bool,
}

impl Default for Disconnection {
    fn default() -> Self {
        Self { reason: None, reconnect: true }
    }
}

/// Whom it will be done to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disconnected {
    #[schema(value_type = Id)]
    user_id: String,
}

/// Closes all connections of a user, on every node
///
/// Answered when every node will hear of it. A user without connections is nothing special.
#[utoipa::path(
    post, path = "/api/v1/users/{id}/disconnect", tag = "server", operation_id = "disconnectUser",
    params(("id" = Id, Path, description = "The user")),
    request_body = Option<Disconnection>,
    responses((status = 202, description = "It is under way", body = Disconnected), Calls, OfBody),
)]
pub async fn disconnect(
    State(node): State<Arc<Node>>,
    name: Named,
    Input(call): Input<Option<Disconnection>>,
) -> Answer {
    let (status, said) = end(&node, &name, call).await?;
    answer(status, &said)
}

/// Closes them.
pub(super) async fn end(node: &Arc<Node>, name: &Named, call: Option<Disconnection>) -> Done<Disconnected> {
    let call = call.unwrap_or_default();
    let user = name.user()?;
    let reason = call.reason.unwrap_or_else(|| "disconnected by the server".to_owned());
    let mut reason = input::short("reason", reason, LONGEST_REASON)?;
    reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
    orders::disconnect(node, &user, reason, call.reconnect).await?;
    Ok((StatusCode::ACCEPTED, Disconnected { user_id: user.to_string() }))
}

/// Which tokens: at least one of these; all that are named must fit. A `null` is refused and does not count as absent:
/// a user that is missing by mistake must not become everybody.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1, example = json!({ "user": "alice" }))]
pub struct RevocationCall {
    /// Of this user.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Id, required = false)]
    user: Option<String>,
    /// With this `jti`.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 512)]
    jti: Option<String>,
    /// Issued (`iat`) before this time. Now when only a user is named.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Moment, required = false)]
    before: Option<Moment>,
}

/// A time: seconds since 1970 as in `iat`, or ISO 8601.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Moment {
    /// Seconds since 1970.
    #[schema(value_type = f64)]
    Seconds(Number),
    /// ISO 8601.
    #[schema(format = "date-time")]
    Text(String),
}

/// What is there, and no `null`.
fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// What is revoked from now on.
#[derive(Serialize, ToSchema)]
pub struct Revoked {
    #[schema(value_type = Option<Id>, required = true)]
    user: Option<String>,
    #[schema(required = true)]
    jti: Option<String>,
    #[schema(format = "date-time", required = true)]
    before: Option<String>,
}

/// Revokes tokens
///
/// Every node refuses them and closes the connections that live on them, within a second. Repeated with the same
/// `before`, or for a `jti`, it is the same revocation.
#[utoipa::path(
    post, path = "/api/v1/tokens/revoke", tag = "server", operation_id = "revokeTokens",
    request_body = RevocationCall,
    responses((status = 200, description = "They are revoked", body = Revoked), Calls, OfBody),
)]
pub async fn revoke(State(node): State<Arc<Node>>, Input(call): Input<RevocationCall>) -> Answer {
    let (status, said) = withdraw(&node, call, node.clock.now()).await?;
    answer(status, &said)
}

/// Revokes them; `now` is when whoever wants it said so.
pub(super) async fn withdraw(node: &Arc<Node>, call: RevocationCall, now: Time) -> Done<Revoked> {
    let user = call.user.as_deref().map(input::user).transpose()?;
    let jti = call.jti.map(|jti| input::short("jti", jti, LONGEST_JTI)).transpose()?;
    if jti.as_ref().is_some_and(String::is_empty) {
        return Err(ApiError::invalid("jti is empty"));
    }
    let before = call.before.as_ref().map(|given| {
        time(given).ok_or_else(|| {
            ApiError::invalid("before is a time: seconds since 1970, as in `iat`, or ISO 8601")
        })
    });
    let before = match (before.transpose()?, &user, &jti) {
        (None, None, None) => return Err(ApiError::invalid("user, jti or before is needed")),
        (None, Some(_), None) => Some(now),
        (before, ..) => before,
    };
    let revocation =
        Revocation { user: user.map(|user| user.to_string()), jti, before: before.map(Time::millis) };
    let said = Revoked {
        user: revocation.user.clone(),
        jti: revocation.jti.clone(),
        before: before.map(Time::to_iso),
    };
    orders::revoke(node, revocation).await?;
    Ok((StatusCode::OK, said))
}

fn time(given: &Moment) -> Option<Time> {
    match given {
        Moment::Seconds(number) => crate::auth::numeric_date(&number.clone().into()),
        Moment::Text(text) => Time::parse_iso(text),
    }
}

/// Whether maintenance is on.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "enabled": true, "message": "Back at six", "retryAfter": 600 }))]
pub struct Maintenance {
    enabled: bool,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 1024)]
    message: Option<String>,
    /// Seconds until a retry makes sense; 60 when absent.
    #[serde(default, deserialize_with = "input::whole")]
    #[schema(maximum = 31_536_000)]
    retry_after: Option<u64>,
}

/// Switches maintenance on or off, on every node
///
/// While it is on, new messages are refused with the retryable error of each dialect, and here with 503. Repeated, it
/// changes nothing.
#[utoipa::path(
    put, path = "/api/v1/maintenance", tag = "server", operation_id = "setMaintenance",
    request_body = Maintenance,
    responses((status = 200, description = "As it stands now", body = Maintenance), Calls, OfBody),
)]
pub async fn maintenance(State(node): State<Arc<Node>>, Input(call): Input<Maintenance>) -> Answer {
    let message = call.message.map(|text| input::short("message", text, LONGEST_NOTICE)).transpose()?;
    if call.retry_after.is_some_and(|seconds| seconds > LONGEST_MAINTENANCE) {
        return Err(ApiError::invalid(format!("retryAfter is more than {LONGEST_MAINTENANCE} seconds")));
    }
    let switch = MaintenanceSwitch { enabled: call.enabled, message, retry_after: call.retry_after };
    let stored = serde_json::to_vec(&switch).map_err(|error| ApiError::internal(&error))?;
    node.backplane.shared.keep(MAINTENANCE_KEY, stored, None, Over::Anything).await?;
    orders::tell(&node).await;
    answer(StatusCode::OK, &switch)
}

/// The nodes of a cluster.
#[derive(Serialize, ToSchema)]
pub struct Nodes {
    nodes: Vec<Shown>,
}

/// A node, as it said last: within the last seconds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Node)]
pub struct Shown {
    /// New at every start.
    id: String,
    /// Where other nodes reach its internal listener.
    address: String,
    version: String,
    /// Authenticated connections.
    connections: u64,
    #[schema(format = "date-time")]
    started_at: String,
    /// Milliseconds since its feed last came round.
    lag_ms: u64,
    /// It is stopping: its clients are being sent elsewhere.
    draining: bool,
    /// Which rollout it belongs to.
    generation: u64,
    /// It takes new connections, and has room for many.
    room: bool,
}

/// The nodes that were heard of lately
#[utoipa::path(
    get, path = "/api/v1/nodes", tag = "server", operation_id = "listNodes",
    responses((status = 200, description = "This one among them", body = Nodes), Calls),
)]
pub async fn nodes(State(node): State<Arc<Node>>) -> Answer {
    let mut live = node.backplane.nodes.live().await?;
    let now = node.clock.now();
    let this = forward::state(&node);
    match live.iter_mut().find(|other| other.state.id == node.id) {
        Some(own) => own.state = this,
        None => live.insert(0, LiveNode { state: this, seen: now }),
    }
    let nodes = live.into_iter().map(|node| shown(node.state)).collect();
    answer(StatusCode::OK, &Nodes { nodes })
}

/// Without its pass.
fn shown(state: NodeState) -> Shown {
    Shown {
        id: state.id.to_string(),
        address: state.address,
        version: state.version,
        connections: state.connections,
        started_at: state.started_at.to_iso(),
        lag_ms: state.lag_ms,
        draining: state.draining,
        generation: state.generation,
        room: state.room,
    }
}
