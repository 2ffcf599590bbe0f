//! Canonical events to famly's.
//!
//! Owns: the shapes a client is told. The accent says from where a message is heard: from inside the room
//! ([`Accent::Famly`]), by its author there ([`Accent::FamlyOwn`]), or as a member elsewhere
//! ([`Accent::FamlyAside`]).

use parlance_model::{
    ConversationChanged, ConversationKind, CursorMoved, Event, MessageEvent, PresenceEvent, ReceiptKind,
    Resync, Status, TypingEvent, UserId,
};
use serde::Serialize;

use super::{
    message::{self, Nested},
    text,
};
use crate::{Accent, codec::Emit};

pub(super) fn encode(accent: Accent, event: &Event) -> Vec<Emit> {
    match event {
        Event::Message(message) => said(accent, message),
        Event::Cursor(cursor) => read(cursor).into_iter().collect(),
        Event::Typing(typing) => vec![typed(typing)],
        Event::Presence(presence) => vec![present(presence)],
        Event::Conversation(change) => changed(change),
        Event::Resync(resync) => vec![lost(resync)],
        Event::Receipt(_)
        | Event::Reaction(_)
        | Event::Room(_)
        | Event::Notification(_)
        | Event::NotificationRead(_)
        | Event::App(_)
        | Event::Maintenance(_) => Vec::new(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct New<'a> {
    chat_id: &'a str,
    #[serde(rename = "_id")]
    id: &'a str,
    body: &'a str,
    sender_id: &'a str,
    created_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    message: &'a Nested<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notification<'a> {
    chat_id: &'a str,
    message: &'a Nested<'a>,
}

fn said(accent: Accent, event: &MessageEvent) -> Vec<Emit> {
    let message = message::nested(event);
    let mut emits = Vec::with_capacity(2);
    if accent != Accent::FamlyOwn {
        let notification = Notification { chat_id: message.chat_id, message: &message };
        emits.push(Emit::kept("message:notification", vec![text(&notification)]));
    }
    if accent != Accent::FamlyAside {
        emits.push(Emit::kept("message:new", vec![text(&new(&message))]));
    }
    last_at(emits, event.number, event.seq)
}

fn new<'a>(message: &'a Nested<'a>) -> New<'a> {
    New {
        chat_id: message.chat_id,
        id: &message.id,
        body: message.body,
        sender_id: message.sender_id,
        created_at: &message.created_at,
        client_id: message.client_id,
        message,
    }
}

/// Marks the last of what is said of one log entry: who has heard that one has heard them all.
fn last_at(mut emits: Vec<Emit>, number: u32, seq: u64) -> Vec<Emit> {
    if let Some(last) = emits.pop() {
        emits.push(last.at(number, seq));
    }
    emits
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Read<'a> {
    chat_id: &'a str,
    message_id: String,
    user_id: &'a str,
    read_at: String,
}

/// Deliveries have no word, nor has a cursor that passed nothing that is still known.
fn read(cursor: &CursorMoved) -> Option<Emit> {
    let last = cursor.last.as_ref().filter(|_| cursor.kind == ReceiptKind::Read)?;
    let read = Read {
        chat_id: cursor.conversation.as_str(),
        message_id: message::id(last.id, last.at),
        user_id: cursor.by.as_str(),
        read_at: cursor.at.to_iso(),
    };
    Some(Emit::kept("receipt:update", vec![text(&read)]))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typing<'a> {
    chat_id: &'a str,
    user_id: &'a str,
    state: &'static str,
}

fn typed(event: &TypingEvent) -> Emit {
    let typing = Typing {
        chat_id: event.conversation.as_str(),
        user_id: event.author.id.as_str(),
        state: if event.on { "start" } else { "stop" },
    };
    Emit::passing("typing:update", vec![text(&typing)])
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Presence<'a> {
    user_id: &'a str,
    status: &'static str,
    timestamp: String,
}

/// Somebody who is away or busy (in another dialect's words) is there.
fn present(event: &PresenceEvent) -> Emit {
    let status = match event.status {
        Status::Offline => "offline",
        Status::Online | Status::Away | Status::Busy => "online",
    };
    let presence = Presence { user_id: event.user.as_str(), status, timestamp: event.at.to_iso() };
    Emit::passing("presence:update", vec![text(&presence)])
}

#[derive(Serialize)]
struct Update<'a> {
    chat: Chat<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Chat<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    r#type: &'static str,
    title: Option<&'a str>,
    member_ids: Vec<&'a str>,
    created_by: &'a str,
    created_at: String,
    updated_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member<'a> {
    chat_id: &'a str,
    user_id: &'a str,
    timestamp: String,
}

/// The chat first, so that who hears of a member knows the chat already.
fn changed(change: &ConversationChanged) -> Vec<Emit> {
    let update = Emit::kept("chat:update", vec![text(&Update { chat: chat(change) })]);
    let member = |name: &'static str, user: &UserId| {
        let member = Member {
            chat_id: change.conversation.as_str(),
            user_id: user.as_str(),
            timestamp: change.at.to_iso(),
        };
        Emit::kept(name, vec![text(&member)])
    };
    let added = change.added.iter().map(|user| member("chat:member-added", user));
    let removed = change.removed.iter().map(|user| member("chat:member-removed", user));
    let emits = std::iter::once(update).chain(added).chain(removed).collect();
    last_at(emits, change.number, change.seq)
}

/// `createdBy` is never null in the document; nobody's chat has an empty one.
fn chat(change: &ConversationChanged) -> Chat<'_> {
    Chat {
        id: change.conversation.as_str(),
        r#type: match change.kind {
            ConversationKind::Dm => "dm",
            ConversationKind::Group | ConversationKind::Channel => "group",
        },
        title: change.title.as_deref(),
        member_ids: change.members.iter().map(UserId::as_str).collect(),
        created_by: change.created_by.as_ref().map(UserId::as_str).unwrap_or_default(),
        created_at: change.created_at.to_iso(),
        updated_at: change.at.to_iso(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lost<'a> {
    chat_id: &'a str,
    from: u64,
    to: u64,
    timestamp: String,
}

/// The dialect has no word for messages that cannot be replayed. Silence would hide a gap, so it has this
/// one in addition, which a client that does not know it ignores.
fn lost(resync: &Resync) -> Emit {
    let lost = Lost {
        chat_id: resync.conversation.as_str(),
        from: resync.from,
        to: resync.to,
        timestamp: resync.at.to_iso(),
    };
    Emit::kept("chat:resync", vec![text(&lost)])
}
