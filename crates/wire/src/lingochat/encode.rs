//! Canonical events to lingochat events of either edition, inside a conversation or a group room.
//!
//! Owns: the shapes a client is told. Must not know: who hears an event.

use parlance_model::{
    ConversationChanged, ConversationId, Event, MessageEvent, MessageReceipt, ReceiptKind, Resync, RoomEvent,
    TypingEvent, UserId,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Extra, arg};
use crate::{Accent, codec::Emit, sanitise};

/// Largest integer up to which JavaScript's numbers have no gaps.
const MAX_INTEGER: u64 = 1 << 53;

pub(super) fn encode(accent: Accent, event: &Event) -> Vec<Emit> {
    let one = match event {
        Event::Message(message) => new(accent, message),
        Event::Receipt(receipt) => ticked(receipt),
        Event::Typing(event) => typing(accent, event),
        Event::Room(event) if event.flipped => present(accent, event),
        Event::Conversation(changed) if in_group(accent) => return members(accent, changed),
        Event::Resync(resync) => lost(resync),
        Event::Room(_)
        | Event::Conversation(_)
        | Event::Cursor(_)
        | Event::Presence(_)
        | Event::Reaction(_)
        | Event::Notification(_)
        | Event::NotificationRead(_)
        | Event::App(_)
        | Event::Maintenance(_) => return vec![],
    };
    vec![one]
}

/// Whether the accent is of the object edition.
pub(super) const fn speaks_objects(accent: Accent) -> bool {
    matches!(accent, Accent::LingochatObject | Accent::LingochatObjectGroup)
}

const fn in_group(accent: Accent) -> bool {
    matches!(accent, Accent::LingochatPositionalGroup | Accent::LingochatObjectGroup)
}

/// A user: an integer where the id is one that JavaScript can hold, a string otherwise.
#[derive(Serialize)]
#[serde(untagged)]
enum User<'a> {
    Integer(u64),
    Text(&'a str),
}

impl<'a> User<'a> {
    fn of(id: &'a UserId) -> Self {
        let text = id.as_str();
        let plain = text == "0" || !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(integer) if plain && integer <= MAX_INTEGER => Self::Integer(integer),
            _ => Self::Text(text),
        }
    }
}

/// A conversation: its number, or its id where it has none yet.
#[derive(Serialize)]
#[serde(untagged)]
enum Place<'a> {
    Number(u32),
    Id(&'a str),
}

impl<'a> Place<'a> {
    fn of(number: u32, id: &'a ConversationId) -> Self {
        if number == 0 { Self::Id(id.as_str()) } else { Self::Number(number) }
    }
}

/// A message as `message:new` shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct New<'a> {
    id: u64,
    conversation_id: u32,
    sender_id: User<'a>,
    original_text: &'a str,
    text: &'a str,
    translated_text: Option<String>,
    sender_language: Option<String>,
    recipient_language: Option<String>,
    created_at: String,
    client_message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    encrypted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

impl<'a> New<'a> {
    /// `metadata` is no word of the protocol; only an encrypted message shows its own, since nobody can read it without.
    pub fn of(event: &'a MessageEvent) -> Self {
        let message = &event.message;
        let extra: Extra<'_> =
            message.extra.as_ref().and_then(|e| serde_json::from_str(e.as_str()).ok()).unwrap_or_default();
        let encrypted = sanitise::is_encrypted(message.metadata.as_ref());
        let metadata = message.metadata.as_ref().filter(|_| encrypted);
        Self {
            id: event.id.to_integer(),
            conversation_id: event.number,
            sender_id: User::of(&message.author.id),
            original_text: &message.body,
            text: &message.body,
            translated_text: extra.translated_text.map(Into::into),
            sender_language: extra.sender_language.or(extra.language).map(Into::into),
            recipient_language: extra.recipient_language.map(Into::into),
            created_at: event.at.to_iso(),
            client_message_id: message.client_id.as_deref(),
            encrypted,
            metadata: metadata.and_then(|m| serde_json::from_str(m.as_str()).ok()),
        }
    }
}

fn new(accent: Accent, event: &MessageEvent) -> Emit {
    let name = if in_group(accent) { "room:message" } else { "message:new" };
    Emit::kept(name, vec![arg(&New::of(event))]).at(event.number, event.seq)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Delivered<'a> {
    message_id: u64,
    delivered_to: User<'a>,
    delivered_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Read<'a> {
    message_id: u64,
    read_by: User<'a>,
    read_at: String,
}

fn ticked(receipt: &MessageReceipt) -> Emit {
    let (message_id, by, at) = (receipt.message.id.to_integer(), User::of(&receipt.by), receipt.at.to_iso());
    match receipt.kind {
        ReceiptKind::Delivered => Emit::kept(
            "message:delivered",
            vec![arg(&Delivered { message_id, delivered_to: by, delivered_at: at })],
        ),
        ReceiptKind::Read => {
            Emit::kept("message:read", vec![arg(&Read { message_id, read_by: by, read_at: at })])
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Somebody<'a> {
    conversation_id: Place<'a>,
    user_id: User<'a>,
}

/// Who does something, and in the object edition where.
fn somebody(accent: Accent, place: Place<'_>, user: &UserId) -> String {
    let user_id = User::of(user);
    if speaks_objects(accent) { arg(&Somebody { conversation_id: place, user_id }) } else { arg(&user_id) }
}

fn typing(accent: Accent, event: &TypingEvent) -> Emit {
    let name = if event.on { "typing:start" } else { "typing:stop" };
    let place = Place::of(event.number, &event.conversation);
    Emit::passing(name, vec![somebody(accent, place, &event.author.id)])
}

fn present(accent: Accent, event: &RoomEvent) -> Emit {
    let name = match (in_group(accent), event.present) {
        (false, true) => "user:online",
        (false, false) => "user:offline",
        (true, true) => JOINED,
        (true, false) => LEFT,
    };
    let place = Place::of(event.number, &event.conversation);
    Emit::passing(name, vec![somebody(accent, place, &event.author.id)])
}

const JOINED: &str = "room:user_joined";
const LEFT: &str = "room:user_left";

/// One event each. All but the last carry the place before the change: a client that is cut off between two
/// of them hears them all again, and does not take a user's id for a place.
fn members(accent: Accent, changed: &ConversationChanged) -> Vec<Emit> {
    let joined = changed.added.iter().map(|user| (JOINED, user));
    let left = changed.removed.iter().map(|user| (LEFT, user));
    let emit = |(name, user): (&'static str, &UserId)| {
        let place = Place::of(changed.number, &changed.conversation);
        Emit::kept(name, vec![somebody(accent, place, user)])
            .at(changed.number, changed.seq.saturating_sub(1))
    };
    let mut all: Vec<Emit> = joined.chain(left).map(emit).collect();
    if let Some(last) = all.pop() {
        all.push(last.at(changed.number, changed.seq));
    }
    all
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lost<'a> {
    conversation_id: Place<'a>,
    from: u64,
    to: u64,
}

/// `error` carries a sentence and nothing else, so this has a name of its own.
fn lost(resync: &Resync) -> Emit {
    let place = Place::of(resync.number, &resync.conversation);
    let lost = Lost { conversation_id: place, from: resync.from, to: resync.to };
    Emit::kept("messages:resync", vec![arg(&lost)])
}
