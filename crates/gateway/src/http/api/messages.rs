//! History, and sending on a user's behalf.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use parlance_model::{Author, MessageId, RejectCode, Send, Time};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::conversations::existing;
use super::errors::ApiError;
use super::input::{self, Asked, Input, Named};
use super::{Answer, answer};
use crate::commands;
use crate::http::history::page::{self, Refused};
use crate::http::reply;
use crate::node::Node;

const LONGEST_CLIENT_ID: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    after: Option<String>,
    before: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Post {
    sender_id: String,
    body: String,
    client_id: Option<String>,
    metadata: Option<Box<RawValue>>,
}

/// History, oldest first, without regard to membership.
pub async fn list(State(node): State<Arc<Node>>, name: Named, Asked(query): Asked<Query>) -> Answer {
    let conversation = existing(&node, &name).await?;
    let Query { after, before, since, limit } = query;
    let mut page = page::read(&node, &conversation, &page::Asked { after, before, since, limit }).await?;
    page.react(&node, &conversation).await?;
    Ok(reply::json(StatusCode::OK, parlance_wire::history::page(&page.items, page.frame)))
}

/// Sends on a member's behalf.
pub async fn send(State(node): State<Arc<Node>>, name: Named, Input(call): Input<Post>) -> Answer {
    if call.body.is_empty() {
        return Err(ApiError::invalid("body is empty"));
    }
    if call.client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > LONGEST_CLIENT_ID) {
        return Err(ApiError::invalid(format!("clientId is 1 to {LONGEST_CLIENT_ID} bytes")));
    }
    let metadata = call.metadata.as_deref().filter(|value| value.get() != "null");
    if metadata.is_some_and(|value| !value.get().trim_start().starts_with('{')) {
        return Err(ApiError::invalid("metadata is an object"));
    }
    let send = Send {
        conversation: name.conversation()?,
        client_id: call.client_id.map(Arc::from),
        body: call.body.into(),
        to: Vec::new(),
        metadata: metadata.map(|value| input::raw(&node, "metadata", value)).transpose()?,
        extra: None,
    };
    let author = Author::bare(input::user(&call.sender_id)?);
    match commands::send::on_behalf(&node, author, send).await {
        Ok(accepted) => {
            let status = if accepted.fresh { StatusCode::CREATED } else { StatusCode::OK };
            answer(
                status,
                &json!({
                    "id": shown(accepted.id, accepted.at),
                    "seq": accepted.seq,
                    "createdAt": accepted.at.to_iso(),
                    "duplicate": !accepted.fresh,
                }),
            )
        }
        Err(reject) => {
            if reject.code == RejectCode::Forbidden {
                // Clients are not told this apart; the application's own backend may know.
                existing(&node, &name).await?;
            }
            Err(reject.into())
        }
    }
}

/// Ids are opaque to callers; every rendering is accepted back.
fn shown(id: MessageId, at: Time) -> String {
    id.to_opaque(at.seconds32())
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
