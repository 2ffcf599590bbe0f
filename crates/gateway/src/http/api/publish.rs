//! Events of the application's backend: to one user, or to a channel.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_model::{Channel, LogKey, Record, is_house_id};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::input::{self, Input};
use super::{Answer, answer};
use crate::node::Node;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    channel: String,
    #[serde(rename = "type")]
    kind: String,
    payload: Box<RawValue>,
    user_id: Option<String>,
}

/// What clients take for the gateway's own frames.
const OWN_TYPES: [&str; 12] = [
    "ack",
    "connect",
    "disconnect",
    "error",
    "heartbeat",
    "message",
    "presence",
    "read_receipt",
    "subscribe",
    "typing_start",
    "typing_stop",
    "unsubscribe",
];

/// Publishes one event; it is in the log when this answers.
pub async fn publish(State(node): State<Arc<Node>>, Input(call): Input<Publish>) -> Answer {
    if !is_house_id(&call.kind) {
        return Err(ApiError::invalid("type is 1 to 128 characters of A-Z a-z 0-9 _ : . @ -"));
    }
    if OWN_TYPES.contains(&call.kind.as_str()) {
        return Err(ApiError::invalid("this type names an event of the gateway's own"));
    }
    let key = match (Channel::parse(&call.channel), &call.user_id) {
        (Some(Channel::Notifications), Some(user)) => LogKey::User(input::user(user)?),
        (Some(Channel::Notifications), None) => {
            return Err(ApiError::invalid("the channel notifications needs a user_id"));
        }
        (Some(Channel::Feed(name)), None) => LogKey::App(name),
        (Some(Channel::Feed(_)), Some(_)) => {
            return Err(ApiError::invalid("user_id goes with the channel notifications only"));
        }
        (Some(_), _) => return Err(ApiError::invalid("this channel carries the gateway's own events only")),
        (None, _) => return Err(ApiError::invalid("channel is notifications or feed:<name>")),
    };
    let payload = input::raw(&node, "payload", &call.payload)?;
    let record = Record::App { kind: call.kind.into(), payload };
    let posted = node.backplane.log.post(&key, record).await?;
    answer(
        StatusCode::CREATED,
        &json!({
            "id": posted.id.to_uuid(posted.at.seconds32()),
            "seq": posted.seq,
            "createdAt": posted.at.to_iso(),
        }),
    )
}
