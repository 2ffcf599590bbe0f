//! Conversations and their members.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use parlance_backplane::{Change, ChangeRefused, Changed, MemberSet};
use parlance_model::{Conversation, ConversationKind};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::errors::ApiError;
use super::input::{self, Input, Named};
use super::{Answer, answer};
use crate::commands;
use crate::node::Node;

/// A title: absent keeps it, `null` removes it.
type Title = Option<Option<String>>;

const LONGEST_TITLE: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Create {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "given")]
    title: Title,
    members: Vec<String>,
    number: Option<u32>,
    created_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Update {
    #[serde(default, deserialize_with = "given")]
    title: Title,
    #[serde(default)]
    add_members: Vec<String>,
    #[serde(default)]
    remove_members: Vec<String>,
}

fn given<'de, D: Deserializer<'de>>(field: D) -> Result<Title, D::Error> {
    Option::<String>::deserialize(field).map(Some)
}

/// Creates one, or sets the members and title of an existing one.
pub async fn create(State(node): State<Arc<Node>>, Input(call): Input<Create>) -> Answer {
    // Whoever it was stays it, also when that member goes: so it is said once, here.
    let creator = call.created_by.as_ref().or(call.members.first());
    let id = call.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let change = Change {
        id: input::conversation(&id)?,
        create: true,
        only_create: false,
        kind: ConversationKind::parse(&call.kind)
            .ok_or_else(|| ApiError::invalid("type is dm, group or channel"))?,
        title: title(call.title)?,
        members: MemberSet::Exactly(input::users(&call.members)?),
        number: call.number.map(number).transpose()?,
        by: creator.map(|user| input::user(user)).transpose()?,
    };
    if let Some(asked) = change.number
        && let Some(there) = node.backplane.conversations.get(&change.id).await?
        && there.number() != asked
    {
        let message = "the conversation has another number";
        return Err(ApiError::new(StatusCode::CONFLICT, "NUMBER_TAKEN", message));
    }
    let changed = apply(&node, change).await?;
    let status = if changed.created { StatusCode::CREATED } else { StatusCode::OK };
    answer(status, &shown(&changed.conversation))
}

/// Changes the title, adds and removes members.
pub async fn update(State(node): State<Arc<Node>>, name: Named, Input(call): Input<Update>) -> Answer {
    let (add, remove) = (input::users(&call.add_members)?, input::users(&call.remove_members)?);
    if let Some(both) = add.iter().find(|user| remove.contains(user)) {
        return Err(ApiError::invalid(format!("{both} cannot be added and removed at once")));
    }
    let change = Change {
        id: name.conversation()?,
        create: false,
        only_create: false,
        kind: ConversationKind::Group,
        title: title(call.title)?,
        members: MemberSet::Delta { add, remove },
        number: None,
        by: None,
    };
    answer(StatusCode::OK, &shown(&apply(&node, change).await?.conversation))
}

/// One conversation.
pub async fn get(State(node): State<Arc<Node>>, name: Named) -> Answer {
    answer(StatusCode::OK, &shown(&existing(&node, &name).await?))
}

/// Removes one with its log.
pub async fn delete(State(node): State<Arc<Node>>, name: Named) -> Answer {
    if !node.backplane.conversations.delete(&name.conversation()?).await? {
        return Err(unknown());
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// The conversation an address names.
pub async fn existing(node: &Node, name: &Named) -> Result<Conversation, ApiError> {
    node.backplane.conversations.get(&name.conversation()?).await?.ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::not_found("there is no such conversation")
}

async fn apply(node: &Arc<Node>, change: Change) -> Result<Changed, ApiError> {
    commands::conversations::change(node, change).await?.map_err(|refused| match refused {
        ChangeRefused::NotFound => unknown(),
        ChangeRefused::NumberTaken => {
            ApiError::new(StatusCode::CONFLICT, "NUMBER_TAKEN", "the number belongs to another conversation")
        }
    })
}

fn title(given: Title) -> Result<Option<Option<Arc<str>>>, ApiError> {
    if given.iter().flatten().any(|title| title.len() > LONGEST_TITLE) {
        return Err(ApiError::invalid(format!("title is longer than {LONGEST_TITLE} bytes")));
    }
    Ok(given.map(|title| title.map(Arc::from)))
}

fn number(asked: u32) -> Result<u32, ApiError> {
    if (1..parlance_model::MAX_NUMBER).contains(&asked) {
        Ok(asked)
    } else {
        Err(ApiError::invalid("number is between 1 and 2147483647"))
    }
}

fn shown(conversation: &Conversation) -> Value {
    let members: Vec<&str> = conversation.members.iter().map(|m| m.user.as_str()).collect();
    json!({
        "id": conversation.id.as_str(),
        "type": conversation.kind.as_str(),
        "title": conversation.title,
        "number": conversation.number(),
        "members": members,
        "createdBy": conversation.created_by.as_ref().map(|user| user.as_str()),
        "createdAt": conversation.created_at.to_iso(),
        "updatedAt": conversation.updated_at.to_iso(),
        "lastSequence": conversation.head.seq,
    })
}
