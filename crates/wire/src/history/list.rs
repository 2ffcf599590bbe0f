//! A user's conversations over HTTP: the JSON of a list of chats.
//!
//! Owns: the field names of these answers, and how much of a message a list shows. Must not know: who may read them,
//! where they come from, HTTP.

use std::sync::Arc;

use parlance_model::{ConversationId, ConversationKind, MessageEvent, MessageId, Time, UserId};
use serde::Serialize;
use serde_json::{Value, json};

use super::{strip, text};
use crate::Dialect;

/// Characters of a message's text that are shown.
const SHOWN: usize = 256;

/// A conversation as one of its members sees it in a list.
#[derive(Clone, PartialEq, Debug)]
pub struct Listed {
    /// Which.
    pub conversation: ConversationId,
    /// Its integer id.
    pub number: u32,
    /// Its kind.
    pub kind: ConversationKind,
    /// Its title.
    pub title: Option<Arc<str>>,
    /// Who is in it, if they are few.
    pub members: Option<Vec<UserId>>,
    /// Messages of others that were not read.
    pub unread: u64,
    /// There are, or may be, more than that.
    pub more_unread: bool,
    /// How far the member has read; `None` for never.
    pub read: Option<LastRead>,
    /// The newest message.
    pub last: Option<MessageEvent>,
    /// The newest sequence.
    pub last_sequence: u64,
}

/// How far a member has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastRead {
    /// Everything up to here.
    pub seq: u64,
    /// The newest message up to there and its time, when it is still kept.
    pub message: Option<(MessageId, Time)>,
    /// When that was read.
    pub at: Time,
}

/// A page of a user's conversations.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Chats {
    /// By id.
    pub listed: Vec<Listed>,
    /// Those whose part of the store does not answer now.
    pub away: Vec<ConversationId>,
    /// Behind which id the next page begins; `None` at the end.
    pub next: Option<ConversationId>,
}

#[derive(Serialize)]
struct ShownChats<'a> {
    conversations: Vec<ShownChat<'a>>,
    has_more: bool,
    next: Option<&'a str>,
    unavailable: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownChat<'a> {
    id: &'a str,
    number: u32,
    #[serde(rename = "type")]
    kind: &'a str,
    title: Option<&'a str>,
    members: Option<Vec<&'a str>>,
    unread: u64,
    more_unread: bool,
    last_read: Option<ShownRead>,
    last_message: Option<ShownLast<'a>>,
    last_sequence: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownRead {
    sequence: u64,
    message_id: Value,
    at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownLast<'a> {
    id: Value,
    seq: u64,
    sender_id: &'a str,
    body: &'a str,
    cut: bool,
    created_at: String,
}

/// A page of a user's conversations; message ids are rendered as the dialect's clients know them.
pub fn chats(page: &Chats, dialect: Option<Dialect>) -> String {
    text(&ShownChats {
        conversations: page.listed.iter().map(|listed| shown(listed, dialect)).collect(),
        has_more: page.next.is_some(),
        next: page.next.as_ref().map(ConversationId::as_str),
        unavailable: page.away.iter().map(ConversationId::as_str).collect(),
    })
}

/// One of them by itself.
pub fn chat(listed: &Listed, dialect: Option<Dialect>) -> String {
    text(&shown(listed, dialect))
}

impl Listed {
    /// Removes markup from what is shown of the newest message, as a mount that does so with live ones would.
    pub fn strip(&mut self) {
        if let Some(event) = &mut self.last {
            strip(event);
        }
    }
}

fn shown(listed: &Listed, dialect: Option<Dialect>) -> ShownChat<'_> {
    let named = listed.members.as_ref();
    ShownChat {
        id: listed.conversation.as_str(),
        number: listed.number,
        kind: listed.kind.as_str(),
        title: listed.title.as_deref(),
        members: named.map(|users| users.iter().map(UserId::as_str).collect()),
        unread: listed.unread,
        more_unread: listed.more_unread,
        last_read: listed.read.map(|read| ShownRead {
            sequence: read.seq,
            message_id: read.message.map_or(Value::Null, |(id, at)| rendered(dialect, id, at)),
            at: read.at.to_iso(),
        }),
        last_message: listed.last.as_ref().map(|event| last(event, dialect)),
        last_sequence: listed.last_sequence,
    }
}

fn last(event: &MessageEvent, dialect: Option<Dialect>) -> ShownLast<'_> {
    let body = &*event.message.body;
    let end = body.char_indices().nth(SHOWN).map(|(end, _)| end);
    ShownLast {
        id: rendered(dialect, event.id, event.at),
        seq: event.seq,
        sender_id: event.message.author.id.as_str(),
        body: end.and_then(|end| body.get(..end)).unwrap_or(body),
        cut: end.is_some(),
        created_at: event.at.to_iso(),
    }
}

/// A message id as clients of the dialect know it; of none: the opaque one.
fn rendered(dialect: Option<Dialect>, id: MessageId, at: Time) -> Value {
    let seconds = at.seconds32();
    match dialect {
        Some(Dialect::Famly) => id.to_hex24(seconds).into(),
        Some(Dialect::Lingochat) => json!(id.to_integer()),
        Some(Dialect::Socialhub) => id.to_uuid(seconds).into(),
        Some(Dialect::Sechat | Dialect::Chatgenius) | None => id.to_opaque(seconds).into(),
    }
}

#[cfg(test)]
mod tests {
    use parlance_model::{Author, Message};

    use super::*;

    const AT: Time = Time(1_755_633_600_123);

    fn listed(body: &str) -> Listed {
        let author = Author::bare(UserId::parse("alice").unwrap());
        let message =
            Message { author, client_id: None, body: body.into(), metadata: None, extra: None, trace: None };
        let conversation = ConversationId::parse("c1").unwrap();
        let id = MessageId::new(7, 3).unwrap();
        let event = MessageEvent {
            conversation: conversation.clone(),
            number: 7,
            id,
            seq: 3,
            at: AT,
            message,
            queued: false,
        };
        Listed {
            conversation,
            number: 7,
            kind: ConversationKind::Dm,
            title: None,
            members: Some(vec![UserId::parse("alice").unwrap(), UserId::parse("bob").unwrap()]),
            unread: 1,
            more_unread: false,
            read: Some(LastRead { seq: 2, message: Some((MessageId::new(7, 2).unwrap(), AT)), at: AT }),
            last: Some(event),
            last_sequence: 4,
        }
    }

    #[test]
    fn a_chat_has_the_documented_members() {
        let at = "2025-08-19T20:00:00.123Z";
        let expected = json!({
            "id": "c1", "number": 7, "type": "dm", "title": null, "members": ["alice", "bob"],
            "unread": 1, "moreUnread": false,
            "lastRead": { "sequence": 2, "messageId": "msg_68a4d7c00000000700000002", "at": at },
            "lastMessage": {
                "id": "msg_68a4d7c00000000700000003", "seq": 3, "senderId": "alice", "body": "hi", "cut": false,
                "createdAt": at,
            },
            "lastSequence": 4,
        });
        let next = ConversationId::parse("c1").ok();
        let page = Chats { listed: vec![listed("hi")], away: vec![], next };
        let page: Value = serde_json::from_str(&chats(&page, None)).unwrap();
        assert_eq!(
            page,
            json!({ "conversations": [expected], "has_more": true, "next": "c1", "unavailable": [] })
        );
        let empty = Listed { members: None, read: None, last: None, ..listed("") };
        let empty: Value = serde_json::from_str(&chat(&empty, None)).unwrap();
        for nothing in ["members", "lastRead", "lastMessage"] {
            assert!(empty.get(nothing).is_some_and(Value::is_null), "{nothing}: {empty}");
        }
    }

    #[test]
    fn ids_are_those_of_the_dialect() {
        for (dialect, id) in [
            (Dialect::Famly, json!("68a4d7c00000000700000003")),
            (Dialect::Lingochat, json!(7 * (1u64 << 22) + 3)),
            (Dialect::Chatgenius, json!("msg_68a4d7c00000000700000003")),
            (Dialect::Sechat, json!("msg_68a4d7c00000000700000003")),
        ] {
            let shown: Value = serde_json::from_str(&chat(&listed("hi"), Some(dialect))).unwrap();
            assert_eq!(shown["lastMessage"]["id"], id, "{dialect:?}");
        }
        let shown: Value = serde_json::from_str(&chat(&listed("hi"), Some(Dialect::Socialhub))).unwrap();
        assert_eq!(shown["lastMessage"]["id"].as_str().map(str::len), Some(36), "a UUID: {shown}");
    }

    #[test]
    fn long_texts_are_cut_between_characters_after_markup_was_removed() {
        for (body, length, cut) in [
            ("\u{1F600}".repeat(256), 256, false),
            ("\u{1F600}".repeat(257), 256, true),
            (String::new(), 0, false),
        ] {
            let shown: Value = serde_json::from_str(&chat(&listed(&body), None)).unwrap();
            let text = shown["lastMessage"]["body"].as_str().unwrap();
            assert_eq!((text.chars().count(), &shown["lastMessage"]["cut"]), (length, &json!(cut)));
        }
        let mut marked = listed(&format!("<b>{}</b>", "x".repeat(256)));
        marked.strip();
        let shown: Value = serde_json::from_str(&chat(&marked, None)).unwrap();
        assert_eq!(shown["lastMessage"]["body"], "x".repeat(256));
    }
}
