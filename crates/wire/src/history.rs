//! History over HTTP: the JSON of a page of messages, of the read cursors and of a user's conversations.
//!
//! Owns: the field names of these answers. Must not know: who may read them, where they come from, HTTP.

mod list;

use std::sync::Arc;

pub use list::{Chats, LastRead, Listed, chat, chats};
use parlance_model::{Event, MessageEvent, MessageId, Reject, RejectCode, Time, UserId};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::chatgenius::Chatgenius;
use crate::codec::EventCodec;
use crate::famly::message::{self, Nested};
use crate::famly::{Famly, errors};
use crate::lingochat::Lingochat;
use crate::{Dialect, Framing, Style, encode, sanitise};

/// A message of a history with the reactions that stand.
#[derive(Clone, PartialEq, Debug)]
pub struct Item {
    /// The message.
    pub event: MessageEvent,
    /// Reactions to it, oldest first.
    pub reactions: Vec<Reaction>,
}

/// A reaction that stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reaction {
    /// Emoji or reaction word.
    pub kind: Arc<str>,
    /// Whose.
    pub user: UserId,
    /// Since when.
    pub at: Time,
}

/// What goes with the messages of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    /// Whether the log holds more in the direction of reading.
    pub more: bool,
    /// Whether messages that were asked for are kept no more.
    pub truncated: bool,
    /// The oldest sequence that is still kept.
    pub first: u64,
    /// The newest sequence.
    pub last: u64,
}

/// How far a member has read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadCursor {
    /// Who.
    pub user: UserId,
    /// The newest message read, rendered as the message itself is ([`famly_id`]).
    pub message: String,
    /// When the cursor came there.
    pub at: Time,
}

#[derive(Serialize)]
struct ShownPage<T> {
    messages: Vec<T>,
    has_more: bool,
    truncated: bool,
    #[serde(rename = "firstSequence")]
    first: u64,
    #[serde(rename = "lastSequence")]
    last: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: String,
    conversation_id: &'a str,
    seq: u64,
    sender_id: &'a str,
    body: &'a str,
    client_id: Option<&'a str>,
    created_at: String,
    metadata: Option<&'a RawValue>,
    reactions: Vec<ShownReaction<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownReaction<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    user_id: &'a str,
    created_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamlyPage<'a> {
    messages: Vec<Nested<'a>>,
    has_more: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// A page in the gateway's own shape, for dialects whose history is read over HTTP and for backends.
pub fn page(items: &[Item], frame: Frame) -> String {
    let Frame { more, truncated, first, last } = frame;
    text(&ShownPage { messages: items.iter().map(shown).collect(), has_more: more, truncated, first, last })
}

/// A page whose messages are what clients of the dialect get for a new one: lingochat `message:new`,
/// chatgenius `message:created` and so on, without reactions.
pub fn spoken_page(dialect: Dialect, items: &[Item], frame: Frame) -> String {
    let texts: Vec<String> = items.iter().filter_map(|item| spoken(dialect, &item.event)).collect();
    let messages = texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    let Frame { more, truncated, first, last } = frame;
    text(&ShownPage::<&RawValue> { messages, has_more: more, truncated, first, last })
}

/// A page as famly clients read it: the nested message of `message:new`.
pub fn famly_page(items: &[Item], frame: Frame) -> String {
    let messages = items.iter().map(|item| message::nested(&item.event)).collect();
    text(&FamlyPage { messages, has_more: frame.more, truncated: frame.truncated })
}

/// The read cursors of a conversation as famly clients read them.
pub fn famly_cursors(cursors: &[ReadCursor]) -> String {
    let shown: Vec<_> = cursors
        .iter()
        .map(|c| json!({ "userId": c.user.as_str(), "messageId": c.message, "readAt": c.at.to_iso() }))
        .collect();
    json!({ "cursors": shown }).to_string()
}

/// A refusal as famly clients read it: HTTP status and body. `correlation` is the id a log line carries too.
pub fn famly_refusal(reject: &Reject, correlation: &str) -> (u16, String) {
    let status = match reject.code {
        RejectCode::Unauthenticated
        | RejectCode::InvalidToken
        | RejectCode::TokenExpired
        | RejectCode::TokenExpiring => 401,
        RejectCode::Forbidden | RejectCode::Denied => 403,
        RejectCode::NotFound | RejectCode::UnknownChannel => 404,
        RejectCode::RateLimited
        | RejectCode::TooManyConnections
        | RejectCode::LimitReached
        | RejectCode::InProgress => 429,
        RejectCode::Unavailable | RejectCode::Maintenance => 503,
        RejectCode::Internal => 500,
        _ => 400,
    };
    let code = errors::code(reject.code);
    let message = errors::message(reject);
    let body = json!({ "ok": false, "error": code, "message": message, "correlationId": correlation });
    (status, body.to_string())
}

/// A message id as famly clients know it: 24 hex digits that compare in order of age. `at` is the time of
/// the message itself.
pub fn famly_id(id: MessageId, at: Time) -> String {
    message::id(id, at)
}

/// What a dialect says of a message's body to who is in the room.
fn spoken(dialect: Dialect, event: &MessageEvent) -> Option<String> {
    let event = Event::Message(event.clone());
    let framing = if dialect.speaks(Framing::Raw) { Framing::Raw } else { Framing::Socketio };
    let accent = dialect.default_accent(framing);
    let mut emits = match dialect {
        Dialect::Lingochat => Lingochat::encode(accent, &event),
        Dialect::Famly => Famly::encode(accent, &event),
        Dialect::Chatgenius => Chatgenius::encode(accent, &event),
        Dialect::Sechat | Dialect::Socialhub => {
            let encoded = encode(accent, &Style::default(), &event)?;
            // What is open lacks the recipient's integer, which only live events and polls have.
            let open = encoded.is_open().then(|| String::from_utf8_lossy(encoded.bytes()).into_owned() + "}");
            return open.or_else(|| encoded.texts().first().map(|text| (*text).to_owned()));
        }
    };
    // The last one speaks to who is in the room, those before it to everyone else.
    emits.pop()?.args.into_iter().next()
}

impl Item {
    /// Removes markup from the text, as a mount that does so with live messages would.
    pub fn strip(&mut self) {
        strip(&mut self.event);
    }
}

fn strip(event: &mut MessageEvent) {
    if let Event::Message(stripped) = sanitise::event(&Event::Message(event.clone())).into_owned() {
        *event = stripped;
    }
}

fn shown(item: &Item) -> Shown<'_> {
    let event = &item.event;
    let message = &event.message;
    Shown {
        id: event.id.to_opaque(event.at.seconds32()),
        conversation_id: event.conversation.as_str(),
        seq: event.seq,
        sender_id: message.author.id.as_str(),
        body: &message.body,
        client_id: message.client_id.as_deref(),
        created_at: event.at.to_iso(),
        metadata: message.metadata.as_ref().and_then(|raw| serde_json::from_str(raw.as_str()).ok()),
        reactions: item.reactions.iter().map(shown_reaction).collect(),
    }
}

fn shown_reaction(reaction: &Reaction) -> ShownReaction<'_> {
    ShownReaction { kind: &reaction.kind, user_id: reaction.user.as_str(), created_at: reaction.at.to_iso() }
}

/// Nothing here can fail to serialize: strings, numbers and JSON that was read before.
fn text(page: &impl Serialize) -> String {
    serde_json::to_string(page).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_model::{Author, ConversationId, Message, RawJson};
    use serde_json::Value;

    const AT: Time = Time(1_755_633_600_123);

    fn item(client_id: Option<&str>) -> Item {
        let author = Author::bare(UserId::parse("alice").unwrap());
        let message = Message {
            author,
            client_id: client_id.map(Arc::from),
            body: "hi \u{1F600} \"there\"".into(),
            metadata: Some(RawJson::trusted(r#"{"n":12345678901234567890123}"#)),
            extra: None,
            trace: None,
        };
        let event = MessageEvent {
            conversation: ConversationId::parse("c1").unwrap(),
            number: 7,
            id: MessageId::new(7, 3).unwrap(),
            seq: 3,
            at: AT,
            message,
            queued: false,
        };
        let reaction = Reaction { kind: "like".into(), user: UserId::parse("bob").unwrap(), at: AT };
        Item { event, reactions: vec![reaction] }
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_page_has_the_documented_members() {
        let frame = Frame { more: true, truncated: false, first: 1, last: 9 };
        let text = page(&[item(Some("k"))], frame);
        assert!(text.contains(r#""metadata":{"n":12345678901234567890123}"#), "carried unread: {text}");
        let mut shown = json(&text);
        shown["messages"][0]["metadata"] = Value::Null;
        let at = "2025-08-19T20:00:00.123Z";
        assert_eq!(
            shown,
            json!({
                "messages": [{
                    "id": "msg_68a4d7c00000000700000003", "conversationId": "c1", "seq": 3,
                    "senderId": "alice", "body": "hi \u{1F600} \"there\"", "clientId": "k", "createdAt": at,
                    "metadata": null,
                    "reactions": [{ "type": "like", "userId": "bob", "createdAt": at }],
                }],
                "has_more": true, "truncated": false, "firstSequence": 1, "lastSequence": 9,
            })
        );
    }

    #[test]
    fn famly_hears_its_own_message_object() {
        let shown = json(&famly_page(&[item(None), item(Some("k"))], Frame::default()));
        let first = json!({
            "_id": "68a4d7c00000000700000003", "chatId": "c1", "senderId": "alice",
            "body": "hi \u{1F600} \"there\"", "createdAt": "2025-08-19T20:00:00.123Z", "editedAt": null,
            "deleted": false,
        });
        assert_eq!(shown["messages"][0], first, "no clientId where there is none");
        assert_eq!(shown["messages"][1]["clientId"], "k");
        assert_eq!((&shown["hasMore"], shown.get("truncated")), (&json!(false), None));
        let cut = Frame { truncated: true, ..Frame::default() };
        assert_eq!(
            json(&famly_page(&[], cut)),
            json!({ "messages": [], "hasMore": false, "truncated": true })
        );
    }

    #[test]
    fn every_dialect_hears_its_own_object() {
        for (dialect, pointer) in [
            (Dialect::Sechat, "/body"),
            (Dialect::Lingochat, "/originalText"),
            (Dialect::Famly, "/body"),
            (Dialect::Chatgenius, "/message/content"),
            (Dialect::Socialhub, "/payload/content"),
        ] {
            let shown = json(&spoken_page(dialect, &[item(None), item(Some("k"))], Frame::default()));
            for n in 0..2 {
                let body = shown["messages"][n].pointer(pointer).and_then(Value::as_str);
                assert_eq!(body, Some("hi \u{1F600} \"there\""), "{dialect:?} {shown}");
            }
            assert_eq!(
                (shown["messages"].as_array().map(Vec::len), &shown["has_more"]),
                (Some(2), &json!(false))
            );
        }
    }

    #[test]
    fn cursors_and_refusals_are_the_documented_ones() {
        let id = famly_id(MessageId::new(7, 3).unwrap(), AT);
        let cursor = ReadCursor { user: UserId::parse("bob").unwrap(), message: id, at: AT };
        let only = json!({
            "userId": "bob", "messageId": "68a4d7c00000000700000003", "readAt": "2025-08-19T20:00:00.123Z",
        });
        assert_eq!(json(&famly_cursors(&[cursor])), json!({ "cursors": [only] }));
        let (status, body) = famly_refusal(&Reject::new(RejectCode::Forbidden, "no"), "id1");
        let refusal = json!({ "ok": false, "error": "FORBIDDEN", "message": "no", "correlationId": "id1" });
        assert_eq!((status, json(&body)), (403, refusal));
    }
}
