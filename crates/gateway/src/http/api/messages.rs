//! History, and sending on a user's behalf.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_model::{Author, MessageId, RejectCode, Send, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::conversations::existing;
use super::errors::ApiError;
use super::input::{self, Asked, Input, Named};
use super::{Answer, Done, answer};
use crate::commands;
use crate::http::history::page::{self, Refused};
use crate::http::openapi::client::MessagePage;
use crate::http::openapi::{Calls, Id, NotAllowed, NotThere, OfBody};
use crate::http::reply;
use crate::node::Node;
use crate::trace::Parent;

const LONGEST_CLIENT_ID: usize = 128;

/// Which part of a history.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Query {
    /// The oldest messages after this one (its id, in any dialect's rendering). Not together with `since`.
    after: Option<String>,
    /// The newest messages before this one (its id); with `after` or `since`, where reading ends.
    before: Option<String>,
    /// The oldest messages from this time on (ISO 8601), or after this message (its id).
    since: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
}

/// A message on a member's behalf.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "senderId": "alice", "body": "Hello", "clientId": "order-17-shipped", "metadata": { "order": 17 },
}))]
pub struct MessageCall {
    /// A member of the conversation.
    #[schema(value_type = Id)]
    sender_id: String,
    /// At most `limits.body_bytes` (as shipped 65,536 bytes); beyond that, 413.
    #[schema(min_length = 1)]
    body: String,
    /// With the same sender's second call of this id nothing is sent: the answer is that of the first.
    #[schema(min_length = 1, max_length = 128)]
    client_id: Option<String>,
    /// An object, carried through as it is; its size as the body's.
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<Box<RawValue>>,
}

/// Whatever the application says of a message.
#[derive(ToSchema)]
#[schema(value_type = Object)]
pub struct Metadata(#[allow(dead_code, reason = "the schema is all there is to it")] Value);

/// Where a message came to stand.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "id": "msg_68a4d7c00000000700000003", "seq": 3, "createdAt": "2026-03-01T12:00:00.000Z", "duplicate": false,
}))]
pub struct Sent {
    /// Opaque.
    id: String,
    /// Its place in the conversation's log, from 1.
    seq: u64,
    #[schema(format = "date-time")]
    created_at: String,
    /// It had been sent before: the sender, the `clientId` and this answer are those of the first call.
    duplicate: bool,
}

/// History of a conversation, oldest first, whoever its members are
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/messages", tag = "server", operation_id = "listMessages",
    params(("id" = Id, Path, description = "The conversation"), Query),
    responses((status = 200, description = "A page", body = MessagePage), Calls, NotThere),
)]
pub async fn list(State(node): State<Arc<Node>>, name: Named, Asked(query): Asked<Query>) -> Answer {
    let conversation = existing(&node, &name).await?;
    // As at the public listener: a parameter without a value is none.
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (after, before, since) = (given(query.after), given(query.before), given(query.since));
    let limit = query.limit;
    let mut page = page::read(&node, &conversation, &page::Asked { after, before, since, limit }).await?;
    page.react(&node, &conversation).await?;
    Ok(reply::json(StatusCode::OK, parlance_wire::history::page(&page.items, page.frame)))
}

/// Sends a message on a member's behalf
///
/// It is in the log when this answers. A call may be repeated when it has a `clientId`: the repetition is answered 200 instead
/// of 201, with `duplicate` and the id of the first.
#[utoipa::path(
    post, path = "/api/v1/conversations/{id}/messages", tag = "server", operation_id = "sendMessage",
    params(("id" = Id, Path, description = "The conversation")),
    request_body = MessageCall,
    responses(
        (status = 200, description = "It had been sent before", body = Sent),
        (status = 201, description = "It is sent", body = Sent),
        Calls, OfBody, NotAllowed, NotThere,
    ),
)]
pub async fn send(
    State(node): State<Arc<Node>>,
    name: Named,
    parent: Parent,
    Input(call): Input<MessageCall>,
) -> Answer {
    let (status, sent) = carry_out(&node, &name, &parent, call).await?;
    answer(status, &sent)
}

/// Sends it.
pub(super) async fn carry_out(
    node: &Arc<Node>,
    name: &Named,
    parent: &Parent,
    call: MessageCall,
) -> Done<Sent> {
    if call.body.is_empty() {
        return Err(ApiError::invalid("body is empty"));
    }
    let client_id = call.client_id.map(|id| input::short("clientId", id, LONGEST_CLIENT_ID)).transpose()?;
    if client_id.as_ref().is_some_and(String::is_empty) {
        return Err(ApiError::invalid("clientId is empty"));
    }
    let metadata = call.metadata.as_deref().filter(|value| value.get() != "null");
    if metadata.is_some_and(|value| !value.get().trim_start().starts_with('{')) {
        return Err(ApiError::invalid("metadata is an object"));
    }
    let send = Send {
        conversation: name.conversation()?,
        client_id: client_id.map(Arc::from),
        body: call.body.into(),
        to: Vec::new(),
        metadata: metadata.map(|value| input::raw(node, "metadata", value)).transpose()?,
        extra: None,
    };
    let author = Author::bare(input::user(&call.sender_id)?);
    match commands::send::on_behalf(node, author, send, parent).await {
        Ok(accepted) => {
            let status = if accepted.fresh { StatusCode::CREATED } else { StatusCode::OK };
            let sent = Sent {
                id: shown(accepted.id, accepted.at),
                seq: accepted.seq,
                created_at: accepted.at.to_iso(),
                duplicate: !accepted.fresh,
            };
            Ok((status, sent))
        }
        Err(reject) => {
            if reject.code == RejectCode::Forbidden {
                // Clients are not told this apart; the application's own backend may know.
                existing(node, name).await?;
            }
            Err(reject.into())
        }
    }
}

/// Ids are opaque to callers; every rendering is accepted back.
fn shown(id: MessageId, at: Time) -> String {
    id.to_opaque(at.seconds32())
}

impl MessageCall {
    /// With a client id, where it has none.
    pub(super) fn known_as(mut self, id: &str) -> Self {
        self.client_id.get_or_insert_with(|| id.to_owned());
        self
    }
}

impl Sent {
    /// Whether it is new.
    pub(super) const fn is_fresh(&self) -> bool {
        !self.duplicate
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(message) => Self::invalid(message),
            Refused::Foreign => Self::not_found("the message is not of this conversation"),
            Refused::Fault(fault) => fault.into(),
        }
    }
}
