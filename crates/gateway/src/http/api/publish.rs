//! Events of the application's backend: to one user, or to a channel.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_backplane::Posted;
use parlance_model::{Channel, LogKey, Record, is_house_id};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::{Object, ObjectBuilder, Type};
use xxhash_rust::xxh3::xxh3_128;

use super::errors::ApiError;
use super::input::{self, Input};
use super::once::Key;
use super::{Answer, Done, answer};
use crate::http::openapi::{Calls, Conflicts, Id, OfBody};
use crate::node::Node;
use crate::trace::{self, Parent};

/// An event of the application.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    channel: String,
    #[serde(rename = "type")]
    kind: String,
    payload: Box<RawValue>,
    user_id: Option<String>,
}

/// An event of the application: to one user, or to all who subscribed to a feed. How [`Publish`] is described: a user goes
/// with one kind of channel only.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = Publication)]
#[allow(dead_code, reason = "the schema is all there is to it")]
pub enum Described {
    /// To one user.
    ToUser(ToUser),
    /// To all who subscribed to a feed.
    ToFeed(ToFeed),
}

/// To one user, on the channel `notifications`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "channel": "notifications", "type": "notification", "payload": { "text": "a new follower" }, "user_id": "alice",
}))]
#[allow(dead_code, reason = "the schema is all there is to it")]
pub struct ToUser {
    #[schema(pattern = "^notifications$")]
    channel: String,
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    kind: String,
    /// Any JSON, carried through as it is.
    payload: Value,
    #[schema(value_type = Id)]
    user_id: String,
}

/// To all who subscribed to the feed of that name.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "channel": "feed:updates", "type": "feed_update", "payload": { "post": 12 } }))]
#[allow(dead_code, reason = "the schema is all there is to it")]
pub struct ToFeed {
    #[schema(pattern = "^feed:[A-Za-z0-9_:.@-]{1,128}$")]
    channel: String,
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    kind: String,
    /// Any JSON, carried through as it is.
    payload: Value,
    /// Goes with `notifications` only.
    #[schema(schema_with = nothing)]
    user_id: Option<String>,
}

fn nothing() -> Object {
    ObjectBuilder::new().schema_type(Type::Null).build()
}

/// What clients know the event by: `notification`, `feed_update`, `count_update` or any other word that is not one of the
/// gateway's own.
#[derive(ToSchema)]
#[schema(
    pattern = "^(?!(ack|connect|disconnect|error|heartbeat|message|presence|read_receipt|subscribe|typing_start|typing_stop|unsubscribe)$)[A-Za-z0-9_:.@-]{1,128}$"
)]
pub struct EventType(#[allow(dead_code, reason = "the schema is all there is to it")] String);

/// Where an event came to stand.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    #[schema(format = "uuid")]
    id: String,
    /// Within its channel, from 1.
    seq: u64,
    #[schema(format = "date-time")]
    created_at: String,
    /// The call with this idempotency key had been carried out before; nothing was published now.
    duplicate: bool,
}

impl Published {
    /// Whether it is new.
    pub(super) const fn is_fresh(&self) -> bool {
        !self.duplicate
    }
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

/// Publishes an event of the application
///
/// It is in the log when this answers. Without the header `Idempotency-Key` a repeated call publishes again. With it, the
/// first answer is given again for at least 24 hours, by every node, with status 200 and `duplicate`; clients see one event,
/// also when the first call was answered 503 or not at all. The same key with another call is refused (409): what is compared
/// is channel, type, user and the payload as it was written.
#[utoipa::path(
    post, path = "/api/v1/publish", tag = "server", operation_id = "publish",
    params(("Idempotency-Key" = Option<Id>, Header, description = "One for every event that is not a repetition")),
    request_body = Described,
    responses(
        (status = 200, description = "It had been published before", body = Published),
        (status = 201, description = "It is published", body = Published),
        Calls, OfBody, Conflicts,
    ),
)]
pub async fn publish(
    State(node): State<Arc<Node>>,
    once: Key,
    parent: Parent,
    Input(call): Input<Publish>,
) -> Answer {
    let (status, published) = carry_out(&node, &once, &parent, call).await?;
    answer(status, &published)
}

/// Publishes it.
pub(super) async fn carry_out(
    node: &Arc<Node>,
    once: &Key,
    parent: &Parent,
    call: Publish,
) -> Done<Published> {
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
    let payload = input::raw(node, "payload", &call.payload)?;
    let told = (&*call.channel, &*call.kind, &call.user_id, payload.as_str());
    let which = serde_json::to_string(&told).map_err(|error| ApiError::internal(&error))?;
    let which = format!("{:032x}", xxh3_128(which.as_bytes()));
    let once = once.name(node, &which).await?;
    let span = trace::begin(node, parent, None);
    let append = span.append();
    let record = Record::App { kind: call.kind.into(), payload, trace: append.context() };
    let posted = node.backplane.log.post(&key, record, once.as_deref()).await;
    append.end(trace::of_posted(&posted));
    span.end(trace::of_posted(&posted));
    let Posted { stored, fresh } = posted?;
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    let published = Published {
        id: stored.id.to_uuid(stored.at.seconds32()),
        seq: stored.seq,
        created_at: stored.at.to_iso(),
        duplicate: !fresh,
    };
    Ok((status, published))
}
