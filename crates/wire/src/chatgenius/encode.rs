//! Canonical events in chatgenius' words.
//!
//! Owns: the shapes a client is told. What the dialect has no word for (presence, delivery, titles,
//! notifications, maintenance) is not told.

use parlance_model::{
    Author, ConversationChanged, CursorMoved, Event, MessageEvent, ReactionEvent, ReceiptKind, Resync,
    RoomEvent, TypingEvent, UserId,
};
use serde::Serialize;

use super::{emit, message_id};
use crate::{Class, codec::Emit, json::Object};

pub(super) fn encode(event: &Event) -> Vec<Emit> {
    match event {
        Event::Message(message) => one(created(message)),
        Event::Reaction(reaction) => one(reacted(reaction)),
        Event::Typing(event) => one(typing(event)),
        Event::Cursor(cursor) => read(cursor),
        Event::Room(room) => one(entered(room)),
        Event::Conversation(change) => members(change),
        Event::Resync(resync) => one(lost(resync)),
        Event::Receipt(_)
        | Event::Presence(_)
        | Event::Notification(_)
        | Event::NotificationRead(_)
        | Event::App(_)
        | Event::Maintenance(_) => Vec::new(),
    }
}

fn one(emit: Option<Emit>) -> Vec<Emit> {
    emit.into_iter().collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct User<'a> {
    id: &'a str,
    name: &'a str,
    image_url: Option<&'a str>,
}

impl<'a> User<'a> {
    fn of(author: &'a Author) -> Self {
        Self { id: author.id.as_str(), name: author.display_name(), image_url: author.picture.as_deref() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created<'a> {
    message: Message<'a>,
    temp_id: Option<&'a str>,
    processed: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    id: String,
    content: &'a str,
    channel_id: &'a str,
    user_id: &'a str,
    reply_to_id: Option<String>,
    delivery_status: &'static str,
    created_at: &'a str,
    updated_at: &'a str,
    user: User<'a>,
}

fn created(event: &MessageEvent) -> Option<Emit> {
    let (at, message) = (event.at.to_iso(), &event.message);
    let created = Created {
        message: Message {
            id: message_id(event.id, event.at),
            content: &message.body,
            channel_id: event.conversation.as_str(),
            user_id: message.author.id.as_str(),
            reply_to_id: message.extra.as_ref().and_then(|extra| reply_to(extra.as_str())),
            delivery_status: "DELIVERED",
            created_at: &at,
            updated_at: &at,
            user: User::of(&message.author),
        },
        temp_id: message.client_id.as_deref(),
        processed: true,
    };
    Some(emit("message:created", &created)?.at(event.number, event.seq))
}

/// Other dialects may have kept something of that name which is no id.
fn reply_to(extra: &str) -> Option<String> {
    let members: Object<'_> = serde_json::from_str(extra).ok()?;
    serde_json::from_str(members.get("replyToId")?.get()).ok()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Added<'a> {
    message_id: &'a str,
    reaction: Reaction<'a>,
    processed: bool,
}

/// A reaction, as events and acknowledgements show it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reaction<'a> {
    id: String,
    r#type: &'a str,
    user_id: &'a str,
    message_id: String,
    created_at: String,
    user: User<'a>,
}

impl<'a> Reaction<'a> {
    pub(super) fn of(event: &'a ReactionEvent) -> Self {
        Self {
            id: message_id(event.id, event.at),
            r#type: &event.kind,
            user_id: event.author.id.as_str(),
            message_id: message_id(event.message, event.message_at),
            created_at: event.at.to_iso(),
            user: User::of(&event.author),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed<'a> {
    message_id: &'a str,
    user_id: &'a str,
    r#type: &'a str,
    processed: bool,
}

fn reacted(event: &ReactionEvent) -> Option<Emit> {
    let message_id = message_id(event.message, event.message_at);
    let emit = if event.added {
        let reaction = Reaction::of(event);
        emit("reaction:added", &Added { message_id: &message_id, reaction, processed: true })
    } else {
        let user_id = event.author.id.as_str();
        let removed = Removed { message_id: &message_id, user_id, r#type: &event.kind, processed: true };
        emit("reaction:removed", &removed)
    };
    Some(emit?.at(event.number, event.seq))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typing<'a> {
    channel_id: &'a str,
    user_id: &'a str,
    user: User<'a>,
}

fn typing(event: &TypingEvent) -> Option<Emit> {
    let name = if event.on { "typing:start" } else { "typing:stop" };
    let typing = Typing {
        channel_id: event.conversation.as_str(),
        user_id: event.author.id.as_str(),
        user: User::of(&event.author),
    };
    Some(Emit { class: Class::Passing, ..emit(name, &typing)? })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Read<'a> {
    message_id: String,
    user_id: &'a str,
    status: &'static str,
    timestamp: &'a str,
}

/// One event per message: clients keep the status of each by its id.
fn read(cursor: &CursorMoved) -> Vec<Emit> {
    if cursor.kind != ReceiptKind::Read {
        return Vec::new();
    }
    let (user_id, at) = (cursor.by.as_str(), cursor.at.to_iso());
    let read = |id| Read { message_id: id, user_id, status: "READ", timestamp: &at };
    let emits = cursor.messages.iter().map(|m| emit("message:read", &read(message_id(m.id, m.at))));
    emits.flatten().collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Membership<'a> {
    user_id: &'a str,
    channel_id: &'a str,
    timestamp: &'a str,
}

/// The rooms a connection is put into by itself are nobody's news.
fn entered(room: &RoomEvent) -> Option<Emit> {
    let at = room.at.to_iso();
    room.explicit.then(|| moved(room.present, &room.author.id, room.conversation.as_str(), &at))?
}

fn members(change: &ConversationChanged) -> Vec<Emit> {
    let (channel, at) = (change.conversation.as_str(), change.at.to_iso());
    let joined = change.added.iter().map(|user| moved(true, user, channel, &at));
    let left = change.removed.iter().map(|user| moved(false, user, channel, &at));
    let mut emits: Vec<Emit> = joined.chain(left).flatten().collect();
    let last = emits.pop().map(|last| last.at(change.number, change.seq));
    emits.extend(last);
    emits
}

fn moved(present: bool, user: &UserId, channel_id: &str, timestamp: &str) -> Option<Emit> {
    let name = if present { "channel:user_joined" } else { "channel:user_left" };
    emit(name, &Membership { user_id: user.as_str(), channel_id, timestamp })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lost<'a> {
    channel_id: &'a str,
    from: u64,
    to: u64,
}

/// The dialect has no word for messages that cannot be replayed. Silence would hide a gap.
fn lost(resync: &Resync) -> Option<Emit> {
    let channel_id = resync.conversation.as_str();
    emit("channel:resync", &Lost { channel_id, from: resync.from, to: resync.to })
}
