//! What histories and polls answer, as the documents describe it.
//!
//! Owns: the schemas of texts that `parlance_wire` writes itself, in its own types and not through serde's. Must not know:
//! how they come about. Nothing is ever made of these types; that they are true is for the suite `openapi` to find out,
//! which is why they name every field and allow no other.
#![allow(dead_code, reason = "the schemas are all there is to them")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{
    ContentBuilder, Object, ObjectBuilder, Ref, RefOr, ResponseBuilder, Schema, Type, response,
};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};

use super::Id;

/// A page of a conversation's history, oldest first.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MessagePage {
    messages: Vec<Message>,
    /// The log holds more in the direction of reading.
    #[serde(rename = "has_more")]
    has_more: bool,
    /// Messages that were asked for are kept no more.
    truncated: bool,
    /// The oldest sequence that is still kept.
    first_sequence: u64,
    /// The newest sequence.
    last_sequence: u64,
}

/// A page whose messages are told in the words of a dialect, as its clients get new ones.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SpokenPage {
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
    #[serde(rename = "has_more")]
    has_more: bool,
    truncated: bool,
    first_sequence: u64,
    last_sequence: u64,
}

/// A page in the gateway's own words, or in those of the dialect that was asked for.
pub struct AnyPage;

impl PartialSchema for AnyPage {
    fn schema() -> RefOr<Schema> {
        // A page without messages is both: utoipa would say `oneOf` of an enum.
        let of = |name: &str| Ref::from_schema_name(name);
        AnyOfBuilder::new().item(of("MessagePage")).item(of("SpokenPage")).into()
    }
}

impl ToSchema for AnyPage {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        for (name, schema) in [
            ("MessagePage".to_owned(), MessagePage::schema()),
            ("SpokenPage".to_owned(), SpokenPage::schema()),
        ] {
            schemas.push((name, schema));
        }
        MessagePage::schemas(schemas);
    }
}

/// A message, with the reactions that stand.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Message {
    /// Opaque.
    #[schema(example = "msg_68a4d7c00000000700000003")]
    id: String,
    #[schema(value_type = Id)]
    conversation_id: String,
    /// Its place in the conversation's log, from 1; other entries have places too.
    seq: u64,
    #[schema(value_type = Id)]
    sender_id: String,
    body: String,
    #[schema(required = true)]
    client_id: Option<String>,
    #[schema(format = "date-time")]
    created_at: String,
    /// What the sender said of it: any JSON.
    #[schema(required = true)]
    metadata: Value,
    reactions: Vec<Reaction>,
}

/// A reaction to a message.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Reaction {
    /// Emoji or word.
    #[serde(rename = "type")]
    kind: String,
    #[schema(value_type = Id)]
    user_id: String,
    #[schema(format = "date-time")]
    created_at: String,
}

/// A page as famly clients read it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FamlyPage {
    /// With `dialect`, in the words of that one.
    messages: Vec<FamlyMessage>,
    has_more: bool,
    /// Messages that belong here are kept no more; absent when none are missing.
    #[schema(required = false)]
    truncated: bool,
}

/// A message as famly clients know it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FamlyMessage {
    #[serde(rename = "_id")]
    #[schema(pattern = "^[0-9a-f]{24}$")]
    id: String,
    #[schema(value_type = Id)]
    chat_id: String,
    #[schema(value_type = Id)]
    sender_id: String,
    body: String,
    #[schema(value_type = String, required = false)]
    client_id: Option<String>,
    #[schema(format = "date-time")]
    created_at: String,
    #[schema(required = true)]
    edited_at: Option<String>,
    deleted: bool,
}

/// How far the members of a chat have read; of those who have read something.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FamlyCursors {
    cursors: Vec<FamlyCursor>,
}

/// How far a member has read.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FamlyCursor {
    #[schema(value_type = Id)]
    user_id: String,
    #[schema(pattern = "^[0-9a-f]{24}$")]
    message_id: String,
    #[schema(format = "date-time")]
    read_at: String,
}

/// A page of a user's conversations, by id.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Chats {
    conversations: Vec<Chat>,
    has_more: bool,
    /// What to ask for next, as `after`; `null` at the end.
    #[schema(value_type = Option<Id>, required = true)]
    next: Option<String>,
    /// Conversations whose part of the store does not answer now.
    #[schema(value_type = Vec<Id>)]
    unavailable: Vec<String>,
}

/// A conversation as one of its members sees it in a list.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Chat {
    #[schema(value_type = Id)]
    id: String,
    /// The integer by which lingochat clients know it.
    number: u32,
    #[serde(rename = "type")]
    #[schema(pattern = "^(dm|group|channel)$")]
    kind: String,
    #[schema(required = true)]
    title: Option<String>,
    /// `null` where they are more than 8.
    #[schema(value_type = Option<Vec<Id>>, required = true)]
    members: Option<Vec<String>>,
    /// Messages of others that were not read, of those that are kept.
    #[schema(maximum = 100)]
    unread: u64,
    /// There are, or may be, more than that.
    more_unread: bool,
    #[schema(required = true)]
    last_read: Option<LastRead>,
    #[schema(required = true)]
    last_message: Option<LastMessage>,
    /// Of the newest entry in the log, message or not.
    last_sequence: u64,
}

/// How far the user has read.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LastRead {
    sequence: u64,
    /// The newest message up to there, as the dialect knows it; `null` when it is kept no more.
    #[schema(required = true)]
    message_id: Value,
    #[schema(format = "date-time")]
    at: String,
}

/// The newest message of a conversation.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LastMessage {
    /// As the dialect knows it.
    #[schema(required = true)]
    id: Value,
    seq: u64,
    #[schema(value_type = Id)]
    sender_id: String,
    /// Its first 256 characters.
    #[schema(max_length = 256)]
    body: String,
    /// There is more of it.
    cut: bool,
    #[schema(format = "date-time")]
    created_at: String,
}

/// How far the user has read: one of the two.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(example = json!({ "sequence": 1 }))]
pub enum ReadMark {
    /// To a message.
    Message(ReadMessage),
    /// To a place in the log.
    Sequence(ReadSequence),
}

/// To a message, by its id in any dialect's rendering.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReadMessage {
    message_id: MessageRef,
}

/// A message's id: a text, or lingochat's integer.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum MessageRef {
    Text(String),
    Integer(u64),
}

/// To a place in the log; one beyond the newest is the newest.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadSequence {
    #[schema(schema_with = any_integer)]
    sequence: u64,
}

/// Up to 2^64; for an `u64` utoipa says `int64`.
fn any_integer() -> Object {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build()
}

/// A dialect whose words an answer is in.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Tongue {
    Sechat,
    Lingochat,
    Famly,
    Chatgenius,
    Socialhub,
}

/// Which conversations.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ChatsQuery {
    /// Those behind this id: `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9_:.@-]{0,128}$")]
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// Whose message ids and whose policy; of none: opaque ids.
    #[param(inline)]
    dialect: Option<Tongue>,
}

/// Which part of a history.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// The oldest messages after this one (its id, in any dialect's rendering). Not together with `since`.
    after: Option<String>,
    /// The newest messages before this one (its id); with `after` or `since`, where reading ends.
    before: Option<String>,
    /// The oldest messages from this time on (ISO 8601), or after this message (its id).
    since: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// In whose words each message is; of none: in the gateway's own.
    #[param(inline)]
    dialect: Option<Tongue>,
}

/// Events since the last poll, oldest first.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PollPage {
    events: Vec<PollEvent>,
    /// What the next poll says.
    last_poll_id: u64,
    has_more: bool,
}

/// An event, as on a WebSocket but for its id.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PollEvent {
    /// The user's integer.
    id: u64,
    #[serde(rename = "type")]
    kind: String,
    #[schema(value_type = String, required = false)]
    channel: Option<String>,
    #[schema(required = true)]
    payload: Value,
    #[schema(format = "date-time")]
    timestamp: String,
}

/// What was missed, oldest first: the envelopes of a WebSocket.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MissedPage {
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
    last_sequence: u64,
    has_more: bool,
}

/// What a poll asks for; what it does not say is taken from the query.
#[derive(ToSchema)]
#[schema(example = json!({ "user_id": "alice", "last_poll_id": 0, "timeout": 0 }))]
pub struct PollCall {
    /// The user of the token.
    #[schema(value_type = Id)]
    user_id: String,
    /// The `last_poll_id` of the answer before; 0 at first.
    #[schema(maximum = 9_007_199_254_740_992_u64)]
    last_poll_id: Option<u64>,
    /// Seconds to wait for something to happen; 30 when absent, and not more than 30.
    #[schema(minimum = 0)]
    timeout: Option<f64>,
}

/// A refusal.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientRefusal {
    /// For people; its wording may change.
    error: String,
    /// For programs.
    #[schema(example = "TOKEN_EXPIRED")]
    code: String,
}

/// A refusal as famly clients read it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FamlyRefusal {
    /// `false`.
    ok: bool,
    /// For programs.
    error: String,
    /// For people; its wording may change.
    message: String,
    /// The gateway's log names the refusal by it.
    #[schema(format = "uuid")]
    correlation_id: String,
}

/// What a client's call may be refused with.
const REFUSED: [(&str, &str); 6] = [
    ("400", "A parameter, the body or the address is wrong"),
    ("401", "No token, or one that is wrong, expired or revoked"),
    (
        "403",
        "Of another user, of a conversation that is not the user's, or that is not there; or a foreign origin",
    ),
    ("429", "Too many of them; see Retry-After"),
    ("500", "A fault of the gateway's own"),
    ("503", "Something the gateway needs is away; the call may be repeated"),
];
/// What a client's call with a body may be refused with besides.
const OF_BODY: [(&str, &str); 2] =
    [("408", "The body took too long to arrive"), ("413", "The body is beyond its limit")];

fn refused(of: &[(&str, &str)], schema: &str) -> BTreeMap<String, RefOr<response::Response>> {
    let response = |description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
        ResponseBuilder::new().description(description).content("application/json", content).build()
    };
    of.iter().map(|(status, text)| ((*status).to_owned(), response(text).into())).collect()
}

/// What every call of a client may be refused with.
pub struct Asks;

impl IntoResponses for Asks {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        refused(&REFUSED, "ClientRefusal")
    }
}

/// The same, in famly's words.
pub struct AsksFamly;

impl IntoResponses for AsksFamly {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        refused(&REFUSED, "FamlyRefusal")
    }
}

/// What a client's call with a body may be refused with besides.
pub struct AsksBody;

impl IntoResponses for AsksBody {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        refused(&OF_BODY, "ClientRefusal")
    }
}
