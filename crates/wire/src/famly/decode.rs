//! famly events to requests: each carries one object, of which unknown members are ignored.
//!
//! Owns: which members are required and how long they may be. Lengths count characters, not bytes.

use std::sync::Arc;

use parlance_model::{
    Command, ConversationId, MessageId, Receipt, ReceiptKind, ReceiptTarget, Reject, RejectCode, Request,
    Role, Send, TypingChange,
};

use crate::{
    Tag,
    codec::{Call, Context, Decoded},
    json::{self, Object},
};

/// Longest event name a tag repeats.
const EVENT_CHARS: usize = 64;
/// Longest message.
const BODY_CHARS: usize = 8000;
/// Longest id a client may choose for a message.
const CLIENT_ID_CHARS: usize = 128;
/// Hex digits of a message id.
const MESSAGE_ID_DIGITS: usize = 24;

pub(super) fn decode(call: &Call<'_>, cx: &Context) -> Decoded {
    let event = call.name.chars().take(EVENT_CHARS).collect();
    let mut tag = Tag { event, packet: call.packet, ..Tag::default() };
    match command(call, &mut tag, cx) {
        Ok(command) => Decoded::Request(tag, Request::new(command, None)),
        Err(reject) => Decoded::Refused(tag, reject),
    }
}

fn command(call: &Call<'_>, tag: &mut Tag, cx: &Context) -> Result<Command, Reject> {
    match call.name {
        "room:join" => {
            let conversation = chat(&payload(call, cx)?)?;
            Ok(Command::Join { conversation, role: Role::Joined })
        }
        "room:leave" => Ok(Command::Leave { conversation: chat(&payload(call, cx)?)? }),
        "message:send" => send(&payload(call, cx)?, tag),
        "receipt:read" => read(&payload(call, cx)?),
        "typing:start" => typing(&payload(call, cx)?, true),
        "typing:stop" => typing(&payload(call, cx)?, false),
        "presence:ping" => Ok(Command::Ping),
        _ => Err(Reject::new(RejectCode::UnknownEvent, "Unknown event")),
    }
}

fn payload<'a>(call: &Call<'a>, cx: &Context) -> Result<Object<'a>, Reject> {
    let Some(first) = call.args.first() else {
        return Err(Reject::new(RejectCode::Malformed, "A payload is required"));
    };
    json::object(first.get(), cx.max_depth)
        .map_err(|_| Reject::new(RejectCode::Malformed, "The payload must be an object"))
}

fn send(payload: &Object<'_>, tag: &mut Tag) -> Result<Command, Reject> {
    let client_id = client_id(payload)?;
    tag.reference = Some(client_id.to_string());
    let conversation = chat(payload)?;
    let body: String = json::required(payload, "body")?;
    if !has_chars(&body, BODY_CHARS) {
        return Err(json::invalid("body", "must be 1 to 8000 characters"));
    }
    Ok(Command::Send(Send {
        conversation,
        client_id: Some(client_id),
        body: body.into(),
        to: Vec::new(),
        metadata: None,
        extra: None,
    }))
}

fn read(payload: &Object<'_>) -> Result<Command, Reject> {
    let conversation = chat(payload)?;
    let text: String = json::required(payload, "messageId")?;
    let id = message_id(&text).ok_or_else(|| json::invalid("messageId", "is not a message id"))?;
    let target = ReceiptTarget::UpTo { conversation, id };
    Ok(Command::Receipt(Receipt { kind: ReceiptKind::Read, target }))
}

fn typing(payload: &Object<'_>, on: bool) -> Result<Command, Reject> {
    Ok(Command::Typing(TypingChange { conversation: chat(payload)?, on, to: Vec::new() }))
}

/// Any 24 hex digits are well formed. Those that name nothing here stand as the id no message has (a log
/// begins with 1), so that they are refused as unknown, and only after membership was checked.
fn message_id(text: &str) -> Option<MessageId> {
    let well_formed = text.len() == MESSAGE_ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    if well_formed {
        return MessageId::from_hex24(text).or(MessageId::new(0, 0));
    }
    MessageId::from_any(text)
}

fn chat(payload: &Object<'_>) -> Result<ConversationId, Reject> {
    let id: String = json::required(payload, "chatId")?;
    ConversationId::parse(&id).map_err(|why| json::invalid("chatId", &format!("is wrong: {why}")))
}

/// A UUID as documented, or any other printable text of reasonable length.
fn client_id(payload: &Object<'_>) -> Result<Arc<str>, Reject> {
    let id: String = json::required(payload, "clientId")?;
    if !has_chars(&id, CLIENT_ID_CHARS) || id.chars().any(char::is_control) {
        return Err(json::invalid("clientId", "must be 1 to 128 printable characters"));
    }
    Ok(id.into())
}

/// Whether there is one character at least and `most` at most.
fn has_chars(text: &str, most: usize) -> bool {
    !text.is_empty() && text.chars().nth(most).is_none()
}
