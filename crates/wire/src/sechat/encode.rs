//! Canonical events to sechat frames of either edition.
//!
//! Owns: the shapes a client is told. v1 has its own words for messages, typing and presence; for what it
//! never had (delivery states, maintenance, errors) it hears v2's, which its clients may ignore.

use std::borrow::Cow;
use std::collections::BTreeMap;

use parlance_model::{
    Event, MaintenanceNotice, Message, MessageEvent, MessageReceipt, PresenceEvent, ReceiptKind, Resync,
    TypingEvent,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Frame, frame, is_legacy, message_id};
use crate::{Accent, Class, Encoded, json::Object};

pub(super) fn encode(accent: Accent, event: &Event) -> Option<Encoded> {
    let texts: Vec<String> = frames(accent, event).into_iter().map(|(_, text)| text).collect();
    (!texts.is_empty()).then(|| Encoded::framed(&texts, class(event)))
}

/// Typing and presence may be dropped at a slow recipient.
pub(super) const fn class(event: &Event) -> Class {
    match event {
        Event::Typing(_) | Event::Presence(_) => Class::Passing,
        _ => Class::Kept,
    }
}

/// The frames that tell an event, in order; none where the dialect has no word for it.
pub(super) fn frames(accent: Accent, event: &Event) -> Vec<Frame> {
    let frames = match event {
        Event::Message(message) => [body(accent, message), compact(accent, message)],
        Event::Receipt(receipt) => [tick(receipt), forwarded(receipt)],
        Event::Typing(event) => [typing(accent, event), None],
        Event::Presence(event) => [presence(accent, event), None],
        Event::Maintenance(notice) => [maintenance(notice), None],
        Event::Resync(resync) => [lost(resync), None],
        Event::Cursor(_)
        | Event::Reaction(_)
        | Event::Room(_)
        | Event::Conversation(_)
        | Event::Notification(_)
        | Event::NotificationRead(_)
        | Event::App(_) => [None, None],
    };
    frames.into_iter().flatten().collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Received<'a> {
    r#type: &'static str,
    message_id: String,
    from_user_id: &'a str,
    conversation_id: &'a str,
    body: &'a str,
    timestamp: String,
    metadata: &'a RawValue,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    was_queued: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMessage<'a> {
    r#type: &'static str,
    sender_id: &'a str,
    content: &'a str,
    message_id: String,
    metadata: BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>,
}

/// The frame that carries a message's body.
pub(super) fn body(accent: Accent, event: &MessageEvent) -> Option<Frame> {
    let message = &event.message;
    let message_id = message_id(message.client_id.as_deref(), event.id, event.at);
    if is_legacy(accent) {
        let r#type = "new_message";
        let metadata = legacy_metadata(event)?;
        let (sender_id, content) = (message.author.id.as_str(), &*message.body);
        return frame(r#type, &NewMessage { r#type, sender_id, content, message_id, metadata });
    }
    let r#type = "message:received";
    let received = Received {
        r#type,
        message_id,
        from_user_id: message.author.id.as_str(),
        conversation_id: event.conversation.as_str(),
        body: &message.body,
        timestamp: event.at.to_iso(),
        metadata: metadata(message)?,
        was_queued: event.queued,
    };
    frame(r#type, &received)
}

/// The author's metadata as it came; `{}` when there is none, so that clients can look into it unasked.
fn metadata(message: &Message) -> Option<&RawValue> {
    let text = message.metadata.as_ref().map_or("{}", |m| m.as_str());
    serde_json::from_str(text).or_else(|_| serde_json::from_str("{}")).ok()
}

/// v1 keeps the conversation and the sender's name in the metadata. The author's own members stay, but
/// cannot stand in for what the server vouches for.
fn legacy_metadata(event: &MessageEvent) -> Option<BTreeMap<Cow<'_, str>, Cow<'_, RawValue>>> {
    let original = serde_json::from_str::<Object<'_>>(metadata(&event.message)?.get()).unwrap_or_default();
    let mut all: BTreeMap<_, Cow<'_, RawValue>> =
        original.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
    if all.get("silent").is_none_or(|v| !matches!(v.get(), "true" | "false")) {
        all.insert("silent".into(), Cow::Owned(to_raw_value(&false).ok()?));
    }
    all.insert("conversationId".into(), Cow::Owned(to_raw_value(event.conversation.as_str()).ok()?));
    all.insert("senderName".into(), Cow::Owned(to_raw_value(event.message.author.display_name()).ok()?));
    Some(all)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tick<'a> {
    r#type: &'static str,
    message_id: String,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_user_id: Option<&'a str>,
}

/// The documented frame that follows the body; v1 has none.
fn compact(accent: Accent, event: &MessageEvent) -> Option<Frame> {
    if is_legacy(accent) {
        return None;
    }
    let r#type = "message:delivered";
    let message_id = message_id(event.message.client_id.as_deref(), event.id, event.at);
    frame(r#type, &Tick { r#type, message_id, timestamp: event.at.to_iso(), by_user_id: None })
}

fn tick(receipt: &MessageReceipt) -> Option<Frame> {
    let r#type = match receipt.kind {
        ReceiptKind::Delivered => "message:delivered",
        ReceiptKind::Read => "message:read",
    };
    let by_user_id = Some(receipt.by.as_str());
    frame(
        r#type,
        &Tick { r#type, message_id: receipted(receipt), timestamp: receipt.at.to_iso(), by_user_id },
    )
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Forwarded<'a> {
    r#type: &'static str,
    message_id: String,
    from_user_id: &'a str,
    to_user_id: &'a str,
    timestamp: String,
}

/// The recipient's receipt as the author would have got it from the recipient.
fn forwarded(receipt: &MessageReceipt) -> Option<Frame> {
    let r#type = match receipt.kind {
        ReceiptKind::Delivered => "receipt:delivered",
        ReceiptKind::Read => "receipt:read",
    };
    let forwarded = Forwarded {
        r#type,
        message_id: receipted(receipt),
        from_user_id: receipt.by.as_str(),
        to_user_id: receipt.message.author.as_str(),
        timestamp: receipt.at.to_iso(),
    };
    frame(r#type, &forwarded)
}

fn receipted(receipt: &MessageReceipt) -> String {
    message_id(receipt.message.client_id.as_deref(), receipt.message.id, receipt.message.at)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypingUpdate<'a> {
    r#type: &'static str,
    conversation_id: &'a str,
    from_user_id: &'a str,
    is_typing: bool,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypingIndicator<'a> {
    r#type: &'static str,
    sender_id: &'a str,
    is_typing: bool,
}

fn typing(accent: Accent, event: &TypingEvent) -> Option<Frame> {
    let (author, is_typing) = (event.author.id.as_str(), event.on);
    if is_legacy(accent) {
        let r#type = "typing_indicator";
        return frame(r#type, &TypingIndicator { r#type, sender_id: author, is_typing });
    }
    let r#type = "typing:update";
    let update = TypingUpdate {
        r#type,
        conversation_id: event.conversation.as_str(),
        from_user_id: author,
        is_typing,
        timestamp: event.at.to_iso(),
    };
    frame(r#type, &update)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Presence<'a> {
    r#type: &'static str,
    session_id: &'a str,
    is_online: bool,
    timestamp: String,
}

/// Away and busy are online here: sechat knows two states.
fn presence(accent: Accent, event: &PresenceEvent) -> Option<Frame> {
    let r#type = if is_legacy(accent) { "online_status_update" } else { "presence:update" };
    let presence = Presence {
        r#type,
        session_id: event.user.as_str(),
        is_online: event.status.is_online(),
        timestamp: event.at.to_iso(),
    };
    frame(r#type, &presence)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Maintenance<'a> {
    r#type: &'static str,
    message: &'a str,
    retry_after: u64,
    timestamp: String,
}

/// The dialect has no word for its end: `retryAfter` 0 says that now is the time.
fn maintenance(notice: &MaintenanceNotice) -> Option<Frame> {
    let r#type = "maintenance";
    let retry_after = if notice.enabled { notice.retry_after } else { 0 };
    frame(
        r#type,
        &Maintenance { r#type, message: &notice.message, retry_after, timestamp: notice.at.to_iso() },
    )
}

#[derive(Serialize)]
struct Lost<'a> {
    r#type: &'static str,
    code: &'static str,
    message: &'static str,
    details: LostDetails<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LostDetails<'a> {
    event: &'static str,
    conversation_id: &'a str,
    resync: bool,
    from: u64,
    to: u64,
    timestamp: String,
}

/// The dialect has no word for messages that cannot be replayed. Silence would hide a gap, so it is told as
/// an error of the event that failed, with `resync` for clients that know to reload the conversation.
fn lost(resync: &Resync) -> Option<Frame> {
    let r#type = "error";
    let details = LostDetails {
        event: "message:received",
        conversation_id: resync.conversation.as_str(),
        resync: true,
        from: resync.from,
        to: resync.to,
        timestamp: resync.at.to_iso(),
    };
    let message = "Messages were missed: reload the conversation";
    frame(r#type, &Lost { r#type, code: "SERVICE_UNAVAILABLE", message, details })
}
