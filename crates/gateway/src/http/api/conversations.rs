//! Conversations and their members.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use parlance_backplane::{Change, ChangeRefused, Changed, MemberSet};
use parlance_model::{Conversation, ConversationKind};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::errors::{ApiError, Code};
use super::input::{self, Input, Named};
use super::{Answer, Done, answer};
use crate::commands;
use crate::http::openapi::{Calls, Conflicts, Id, NotThere, OfBody};
use crate::node::Node;

/// A title: absent keeps it, `null` removes it.
type Title = Option<Option<String>>;

const LONGEST_TITLE: usize = 1024;

/// What kind of conversation it is.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Two people.
    Dm,
    /// A closed group.
    Group,
    /// A channel of an application.
    Channel,
}

/// A conversation to be, or to be set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "id": "team-7", "type": "group", "title": "Team 7", "members": ["alice", "bob"], "createdBy": "alice",
}))]
pub struct ConversationCall {
    /// A new one when absent.
    #[schema(value_type = Option<Id>)]
    id: Option<String>,
    /// Cannot be changed later: of a conversation that exists, the kind it has stays.
    #[serde(rename = "type")]
    kind: Kind,
    /// Absent keeps the one there is, `null` removes it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 1024)]
    title: Title,
    /// All members: who is not among them is removed.
    #[schema(value_type = Vec<Id>)]
    members: Vec<String>,
    /// The integer by which lingochat clients know it; assigned when absent. An id of digits that is a number below
    /// 2^30 is its own.
    #[serde(default, deserialize_with = "input::whole")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 2_147_483_647_u32)]
    number: Option<u64>,
    /// The first member when absent. Said once: of a conversation that exists, it stays.
    #[schema(value_type = Option<Id>)]
    created_by: Option<String>,
}

/// A change of a conversation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({ "title": "Team 7", "addMembers": ["carol"], "removeMembers": ["bob"] }))]
pub struct ConversationChange {
    /// Absent keeps the one there is, `null` removes it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 1024)]
    title: Title,
    /// Who is a member already stays one.
    #[serde(default)]
    #[schema(value_type = Vec<Id>)]
    add_members: Vec<String>,
    /// Who is no member is passed over. Nobody may be added and removed in one call.
    #[serde(default)]
    #[schema(value_type = Vec<Id>)]
    remove_members: Vec<String>,
}

impl ConversationCall {
    /// With an id, where it has none.
    pub(super) fn known_as(mut self, id: &str) -> Self {
        self.id.get_or_insert_with(|| id.to_owned());
        self
    }
}

fn given<'de, D: Deserializer<'de>>(field: D) -> Result<Title, D::Error> {
    Option::<String>::deserialize(field).map(Some)
}

/// A conversation and its members.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Conversation, example = json!({
    "id": "team-7", "type": "group", "title": "Team 7", "number": 1_073_741_824, "members": ["alice", "bob"],
    "createdBy": "alice", "createdAt": "2026-03-01T12:00:00.000Z", "updatedAt": "2026-03-01T12:00:00.000Z",
    "lastSequence": 0,
}))]
pub struct Shown {
    #[schema(value_type = Id)]
    id: String,
    #[serde(rename = "type")]
    kind: Kind,
    #[schema(value_type = Option<String>, required = true)]
    title: Option<Arc<str>>,
    /// The integer by which lingochat clients know it.
    number: u32,
    #[schema(value_type = Vec<Id>)]
    members: Vec<String>,
    #[schema(value_type = Option<Id>, required = true)]
    created_by: Option<String>,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(format = "date-time")]
    updated_at: String,
    /// The sequence of the newest entry of its log, 0 before the first. Not every entry is a message.
    last_sequence: u64,
}

/// Creates a conversation, or sets one that is there
///
/// With the `id` of a conversation that exists, its members become exactly those of the call, and its title the one given,
/// so a repeated call changes nothing and is answered 200 instead of 201. Members hear of it in their dialects.
#[utoipa::path(
    post, path = "/api/v1/conversations", tag = "server", operation_id = "createConversation",
    request_body = ConversationCall,
    responses(
        (status = 200, description = "It was there, and is now as the call says", body = Shown),
        (status = 201, description = "It was created", body = Shown),
        Calls, OfBody, Conflicts,
    ),
)]
pub async fn create(State(node): State<Arc<Node>>, Input(call): Input<ConversationCall>) -> Answer {
    let (status, shown) = set(&node, call).await?;
    answer(status, &shown)
}

/// Creates it, or sets it.
pub(super) async fn set(node: &Arc<Node>, call: ConversationCall) -> Done<Shown> {
    // Whoever it was stays it, also when that member goes: so it is said once, here.
    let creator = call.created_by.as_ref().or(call.members.first());
    let id = call.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let change = Change {
        id: input::conversation(&id)?,
        create: true,
        only_create: false,
        kind: call.kind.into(),
        title: title(call.title)?,
        members: MemberSet::Exactly(input::users(&call.members)?),
        number: call.number.map(number).transpose()?,
        by: creator.map(|user| input::user(user)).transpose()?,
    };
    if let Some(asked) = change.number
        && let Some(there) = node.backplane.members.outline(&change.id).await?
        && there.conversation.number() != asked
    {
        return Err(ApiError::conflict(Code::NumberTaken, "the conversation has another number"));
    }
    let changed = apply(node, change).await?;
    let status = if changed.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, shown(&changed.conversation)))
}

/// Changes the title, adds and removes members
///
/// A removed member stops receiving within a second. A repeated call changes nothing.
#[utoipa::path(
    patch, path = "/api/v1/conversations/{id}", tag = "server", operation_id = "changeConversation",
    params(("id" = Id, Path, description = "The conversation")),
    request_body = ConversationChange,
    responses(
        (status = 200, description = "The conversation as it is now", body = Shown),
        Calls, OfBody, NotThere,
    ),
)]
pub async fn update(
    State(node): State<Arc<Node>>,
    name: Named,
    Input(call): Input<ConversationChange>,
) -> Answer {
    let (status, shown) = change(&node, &name, call).await?;
    answer(status, &shown)
}

/// Changes it.
pub(super) async fn change(node: &Arc<Node>, name: &Named, call: ConversationChange) -> Done<Shown> {
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
    Ok((StatusCode::OK, shown(&apply(node, change).await?.conversation)))
}

/// One conversation with its members
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}", tag = "server", operation_id = "getConversation",
    params(("id" = Id, Path, description = "The conversation")),
    responses(
        (status = 200, description = "The conversation", body = Shown),
        Calls, NotThere,
    ),
)]
pub async fn get(State(node): State<Arc<Node>>, name: Named) -> Answer {
    let found = node.backplane.conversations.get(&name.conversation()?).await?;
    answer(StatusCode::OK, &shown(&found.ok_or_else(unknown)?))
}

/// Removes a conversation with its log
///
/// One that is not there is answered 404, also when an earlier call removed it: a wrong id must not look like a success.
/// Who repeats a call whose answer was lost takes 204 and 404 alike.
#[utoipa::path(
    delete, path = "/api/v1/conversations/{id}", tag = "server", operation_id = "deleteConversation",
    params(("id" = Id, Path, description = "The conversation")),
    responses(
        (status = 204, description = "It is removed"),
        Calls, NotThere,
    ),
)]
pub async fn delete(State(node): State<Arc<Node>>, name: Named) -> Answer {
    if !remove(&node, &name).await? {
        return Err(unknown());
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Removes it; whether it was there.
pub(super) async fn remove(node: &Node, name: &Named) -> Result<bool, ApiError> {
    Ok(node.backplane.conversations.delete(&name.conversation()?).await?)
}

/// The conversation an address names; without its members when they are many.
pub async fn existing(node: &Node, name: &Named) -> Result<Conversation, ApiError> {
    let outline = node.backplane.members.outline(&name.conversation()?).await?;
    outline.map(|outline| outline.conversation).ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::not_found("there is no such conversation")
}

async fn apply(node: &Arc<Node>, change: Change) -> Result<Changed, ApiError> {
    let changed = commands::conversations::change(node, change).await?;
    let mut changed = changed.map_err(|refused| match refused {
        ChangeRefused::NotFound => unknown(),
        ChangeRefused::NumberTaken => {
            ApiError::conflict(Code::NumberTaken, "the number belongs to another conversation")
        }
    })?;
    // Those of a large one are left out: nobody else needs them all.
    if changed.conversation.members.is_empty()
        && let Some(now) = node.backplane.conversations.get(&changed.conversation.id).await?
    {
        changed.conversation.members = now.members;
    }
    Ok(changed)
}

fn title(given: Title) -> Result<Option<Option<Arc<str>>>, ApiError> {
    let given = given.map(|title| title.map(|title| input::short("title", title, LONGEST_TITLE)).transpose());
    Ok(given.transpose()?.map(|title| title.map(Arc::from)))
}

fn number(asked: u64) -> Result<u32, ApiError> {
    let number = u32::try_from(asked).ok().filter(|number| (1..parlance_model::MAX_NUMBER).contains(number));
    number.ok_or_else(|| ApiError::invalid("number is between 1 and 2147483647"))
}

impl From<Kind> for ConversationKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Dm => Self::Dm,
            Kind::Group => Self::Group,
            Kind::Channel => Self::Channel,
        }
    }
}

impl From<ConversationKind> for Kind {
    fn from(kind: ConversationKind) -> Self {
        match kind {
            ConversationKind::Dm => Self::Dm,
            ConversationKind::Group => Self::Group,
            ConversationKind::Channel => Self::Channel,
        }
    }
}

fn shown(conversation: &Conversation) -> Shown {
    Shown {
        id: conversation.id.to_string(),
        kind: conversation.kind.into(),
        title: conversation.title.clone(),
        number: conversation.number(),
        members: conversation.members.iter().map(|member| member.user.to_string()).collect(),
        created_by: conversation.created_by.as_ref().map(ToString::to_string),
        created_at: conversation.created_at.to_iso(),
        updated_at: conversation.updated_at.to_iso(),
        last_sequence: conversation.head.seq,
    }
}
