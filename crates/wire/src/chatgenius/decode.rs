//! Client events to requests.
//!
//! Owns: which fields are required. Members the document does not name are ignored; the author is always the
//! token's subject.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use parlance_model::{
    Command, ConversationId, MessageId, RawJson, React, Receipt, ReceiptKind, ReceiptTarget, Reject,
    RejectCode, Request, Role, Send, TypingChange,
};
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    Tag,
    codec::{Call, Context, Decoded},
    json::{self, Object},
    sanitise,
};

/// Longest event name a tag keeps.
const EVENT_CHARS: usize = 64;
/// Longest `tempId` and `replyToId`.
const ID_CHARS: usize = 128;
/// Longest reaction.
const REACTION_CHARS: usize = 64;

pub(super) fn decode(call: &Call<'_>, cx: &Context) -> Decoded {
    let event = call.name.chars().take(EVENT_CHARS).collect();
    let mut tag = Tag { event, packet: call.packet, ..Tag::default() };
    match read(call, &mut tag, cx.strip) {
        Ok(command) => Decoded::Request(tag, Request::new(command, None)),
        Err(reject) => Decoded::Refused(tag, reject),
    }
}

fn read(call: &Call<'_>, tag: &mut Tag, strip: bool) -> Result<Command, Reject> {
    let conversation = || channel(call.args);
    Ok(match call.name {
        "message:send" | "send_message" => Command::Send(send(&payload(call.args)?, tag, strip)?),
        "channel:join" | "join_channel" => {
            Command::Join { conversation: conversation()?, role: Role::Joined }
        }
        "channel:leave" | "leave_channel" => Command::Leave { conversation: conversation()? },
        "typing:start" => Command::Typing(typing(conversation()?, true)),
        "typing:stop" => Command::Typing(typing(conversation()?, false)),
        "reaction:add" => Command::React(react(&payload(call.args)?, true)?),
        "reaction:remove" => Command::React(react(&payload(call.args)?, false)?),
        "message:read" => Command::Receipt(receipt(&payload(call.args)?, ReceiptKind::Read)?),
        "message:received" | "message:confirm" => {
            Command::Receipt(receipt(&payload(call.args)?, ReceiptKind::Delivered)?)
        }
        _ => return Err(Reject::new(RejectCode::UnknownEvent, "Unknown event")),
    })
}

/// The first argument. How deep it is was checked where it came in.
fn payload<'a>(args: &[&'a RawValue]) -> Result<Object<'a>, Reject> {
    let none = || Reject::new(RejectCode::Malformed, "The event's argument must be an object");
    let text = args.first().ok_or_else(none)?.get();
    serde_json::from_str(text).map_err(|_| none())
}

/// `{channelId}`, or the id alone.
fn channel(args: &[&RawValue]) -> Result<ConversationId, Reject> {
    if let Some(id) = args.first().and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()) {
        return parsed(&id);
    }
    channel_id(&payload(args)?)
}

fn channel_id(fields: &Object<'_>) -> Result<ConversationId, Reject> {
    parsed(&json::required::<Cow<'_, str>>(fields, "channelId")?)
}

fn parsed(id: &str) -> Result<ConversationId, Reject> {
    ConversationId::parse(id).map_err(|why| json::invalid("channelId", &format!("is wrong: {why}")))
}

fn send(fields: &Object<'_>, tag: &mut Tag, strip: bool) -> Result<Send, Reject> {
    let client_id = text(fields, "tempId", ID_CHARS)?;
    tag.reference = client_id.as_deref().map(str::to_owned);
    let conversation = channel_id(fields)?;
    let body: String = json::required(fields, "content")?;
    if body.is_empty() {
        return Err(json::invalid("content", "must not be empty"));
    }
    let reply = text(fields, "replyToId", ID_CHARS)?;
    let extra =
        reply.as_deref().and_then(|id| serde_json::to_string(&BTreeMap::from([("replyToId", id)])).ok());
    tag.subject = tag.packet.and_then(|_| {
        let shown = if strip { sanitise::strip(&body) } else { Cow::Borrowed(&*body) };
        repeated(&shown, &conversation, reply.as_deref())
    });
    Ok(Send {
        conversation,
        client_id,
        body: body.into(),
        to: Vec::new(),
        metadata: None,
        extra: extra.map(RawJson::trusted),
    })
}

/// What the acknowledgement repeats of the message, as the text of an object.
fn repeated(content: &str, channel: &ConversationId, reply: Option<&str>) -> Option<String> {
    let members = [
        ("content", to_raw_value(content).ok()?),
        ("channelId", to_raw_value(channel.as_str()).ok()?),
        ("replyToId", to_raw_value(&reply).ok()?),
    ];
    serde_json::to_string(&BTreeMap::from(members)).ok()
}

const fn typing(conversation: ConversationId, on: bool) -> TypingChange {
    TypingChange { conversation, on, to: Vec::new() }
}

fn react(fields: &Object<'_>, added: bool) -> Result<React, Reject> {
    let message = message(fields)?;
    let kind = text(fields, "type", REACTION_CHARS)?.ok_or_else(|| json::missing("type"))?;
    Ok(React { message, kind, added })
}

fn receipt(fields: &Object<'_>, kind: ReceiptKind) -> Result<Receipt, Reject> {
    let ids = vec![message(fields)?];
    Ok(Receipt { kind, target: ReceiptTarget::Ids { conversation: None, ids } })
}

/// An id that is none of the server's names no message.
fn message(fields: &Object<'_>) -> Result<MessageId, Reject> {
    let id: Cow<'_, str> = json::required(fields, "messageId")?;
    MessageId::from_any(&id)
        .ok_or_else(|| Reject::new(RejectCode::NotFound, "no such message").field("messageId"))
}

/// A text of the client's choice, of 1 to `max` printable characters.
fn text(fields: &Object<'_>, name: &'static str, max: usize) -> Result<Option<Arc<str>>, Reject> {
    let Some(text) = json::optional::<String>(fields, name)? else { return Ok(None) };
    if text.is_empty() || text.chars().count() > max || text.chars().any(char::is_control) {
        return Err(json::invalid(name, &format!("must be 1 to {max} printable characters")));
    }
    Ok(Some(text.into()))
}
