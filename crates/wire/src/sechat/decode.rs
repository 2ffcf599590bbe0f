//! Client frames of both editions to requests.
//!
//! Owns: which fields are required, and when a connection's edition settles. A field a token makes
//! redundant (`fromUserId`, `sessionId` of most frames) may be absent; when present it is a claim for the
//! gateway to check. Timestamps are never looked at: clients send them with and without a zone.

use std::sync::Arc;

use parlance_model::{
    Command, ConversationId, PresenceChange, RawJson, Receipt, ReceiptKind, ReceiptTarget, Register, Reject,
    RejectCode, Request, Send, Status, TypingChange, UserId, is_house_id,
};

use crate::{
    Accent, Framing, Tag,
    codec::{Call, Context, Decoded},
    json::{self, Object},
};

/// Longest event type an error repeats.
const EVENT_CHARS: usize = 64;
/// Longest message id a client may choose.
const MESSAGE_ID_CHARS: usize = 128;

pub(super) fn decode(text: &str, cx: &mut Context) -> Decoded {
    let mut tag = Tag::default();
    let read = json::object(text, cx.max_depth)
        .and_then(|frame| event_type(&frame).and_then(|kind| read(&kind, &frame, &mut tag, cx)));
    decoded(tag, read)
}

/// A Socket.IO event: its name is the type, whatever `type` the payload repeats.
pub(super) fn decode_call(call: &Call<'_>, cx: &mut Context) -> Decoded {
    let event = call.name.chars().take(EVENT_CHARS).collect();
    let mut tag = Tag { event, packet: call.packet, ..Tag::default() };
    let payload = call.args.first().map(|raw| raw.get()).filter(|text| *text != "null");
    let frame = payload.map_or_else(|| Ok(Object::new()), |text| json::object(text, cx.max_depth));
    let read = frame.and_then(|frame| read(call.name, &frame, &mut tag, cx));
    decoded(tag, read)
}

fn decoded(tag: Tag, read: Result<Request, Reject>) -> Decoded {
    match read {
        Ok(request) => Decoded::Request(tag, request),
        Err(reject) => Decoded::Refused(tag, reject),
    }
}

fn read(kind: &str, frame: &Object<'_>, tag: &mut Tag, cx: &mut Context) -> Result<Request, Reject> {
    tag.event = kind.chars().take(EVENT_CHARS).collect();
    tag.reference = message_id(frame).ok().flatten().map(|id| id.to_string());
    let accent = edition(kind, cx.accent.framing());
    tag.deprecated = accent.is_some_and(super::is_legacy);
    let request = request(kind, frame, cx)?;
    if matches!(request.command, Command::Register(_) | Command::QueuedEvents) {
        tag.subject.clone_from(&request.claimed);
    }
    settle(cx, accent);
    Ok(request)
}

fn event_type(frame: &Object<'_>) -> Result<String, Reject> {
    json::required(frame, "type").map_err(|reject| match reject.code {
        RejectCode::InvalidField => Reject::new(RejectCode::Malformed, "type must be a string").field("type"),
        _ => reject,
    })
}

/// The edition an event type belongs to, for the types that have a twin in the other edition. The rest
/// (registration, keepalive, receipts) is common to both and settles nothing.
fn edition(kind: &str, framing: Framing) -> Option<Accent> {
    let legacy = match kind {
        "send_message" | "typing_indicator" | "online_status_update" => true,
        "message:send" | "typing" | "typing:start" | "typing:stop" | "presence:update"
        | "presence:online" | "presence:offline" => false,
        _ => return None,
    };
    Some(match (framing, legacy) {
        (Framing::Raw, false) => Accent::SechatV2,
        (Framing::Raw, true) => Accent::SechatV1,
        (Framing::Socketio, false) => Accent::SechatIoV2,
        (Framing::Socketio, true) => Accent::SechatIoV1,
    })
}

fn settle(cx: &mut Context, accent: Option<Accent>) {
    if let (false, Some(accent)) = (cx.settled, accent) {
        cx.accent = accent;
        cx.settled = true;
    }
}

fn request(kind: &str, frame: &Object<'_>, cx: &Context) -> Result<Request, Reject> {
    match kind {
        "message:send" => send(frame, cx),
        "receipt:delivered" => receipt(frame, ReceiptKind::Delivered),
        "receipt:read" => receipt(frame, ReceiptKind::Read),
        "typing" => typing(frame, None),
        "typing:start" => typing(frame, Some(true)),
        "typing:stop" => typing(frame, Some(false)),
        "presence:update" | "online_status_update" => presence(frame, presence_word(frame)),
        "presence:online" => presence(frame, Some(true)),
        "presence:offline" => presence(frame, Some(false)),
        "presence:ping" => Ok(Request::new(Command::Ping, claim(frame, "sessionId")?)),
        "register_session" => register(frame),
        "request_queued_events" => Ok(Request::new(Command::QueuedEvents, claim(frame, "sessionId")?)),
        "send_message" => legacy_send(frame, cx),
        "typing_indicator" => legacy_typing(frame, cx),
        _ => Err(Reject::new(RejectCode::UnknownEvent, "Invalid event type")),
    }
}

fn send(frame: &Object<'_>, cx: &Context) -> Result<Request, Reject> {
    let client_id = message_id(frame)?.ok_or_else(|| json::missing("messageId"))?;
    let conversation = conversation(frame)?.ok_or_else(|| json::missing("conversationId"))?;
    let body: String = json::required(frame, "body")?;
    let command = Command::Send(Send {
        conversation,
        client_id: Some(client_id),
        body: body.into(),
        to: recipients(frame)?,
        metadata: metadata(frame, cx)?,
        extra: None,
    });
    Ok(Request::new(command, claim(frame, "fromUserId")?))
}

fn receipt(frame: &Object<'_>, kind: ReceiptKind) -> Result<Request, Reject> {
    let id = message_id(frame)?.ok_or_else(|| json::missing("messageId"))?;
    let author = user(frame, "toUserId")?.ok_or_else(|| json::missing("toUserId"))?;
    let target = ReceiptTarget::ClientId { author, id };
    let command = Command::Receipt(Receipt { kind, target });
    Ok(Request::new(command, claim(frame, "fromUserId")?))
}

/// `implied` is what the event type itself says.
fn typing(frame: &Object<'_>, implied: Option<bool>) -> Result<Request, Reject> {
    let conversation = conversation(frame)?.ok_or_else(|| json::missing("conversationId"))?;
    let on = flag(frame, "isTyping", implied)?;
    let command = Command::Typing(TypingChange { conversation, on, to: recipients(frame)? });
    Ok(Request::new(command, claim(frame, "fromUserId")?))
}

/// Over Socket.IO the real client's `presence:update` says in `type` which of the two it is.
fn presence_word(frame: &Object<'_>) -> Option<bool> {
    match json::member(frame, "type")?.get() {
        "\"presence:online\"" => Some(true),
        "\"presence:offline\"" => Some(false),
        _ => None,
    }
}

fn presence(frame: &Object<'_>, implied: Option<bool>) -> Result<Request, Reject> {
    let status = if flag(frame, "isOnline", implied)? { Status::Online } else { Status::Offline };
    let command = Command::Presence(PresenceChange { status });
    Ok(Request::new(command, claim(frame, "sessionId")?))
}

fn register(frame: &Object<'_>) -> Result<Request, Reject> {
    let session = claim(frame, "sessionId")?.ok_or_else(|| json::missing("sessionId"))?;
    let command = Command::Register(Register { token: json::optional(frame, "token")? });
    Ok(Request::new(command, Some(session)))
}

fn legacy_send(frame: &Object<'_>, cx: &Context) -> Result<Request, Reject> {
    let (conversation, to) = legacy_target(frame, cx)?;
    let body: String = json::required(frame, "message")?;
    let command = Command::Send(Send {
        conversation,
        client_id: message_id(frame)?,
        body: body.into(),
        to,
        metadata: metadata(frame, cx)?,
        extra: None,
    });
    Ok(Request::new(command, claim(frame, "fromUserId")?))
}

fn legacy_typing(frame: &Object<'_>, cx: &Context) -> Result<Request, Reject> {
    let (conversation, to) = legacy_target(frame, cx)?;
    let on = flag(frame, "isTyping", None)?;
    let command = Command::Typing(TypingChange { conversation, on, to });
    Ok(Request::new(command, claim(frame, "fromUserId")?))
}

/// v1 names one recipient, and a conversation or none: then it is the one of the two users.
fn legacy_target(frame: &Object<'_>, cx: &Context) -> Result<(ConversationId, Vec<UserId>), Reject> {
    let recipient = user(frame, "recipientId")?;
    if let Some(conversation) = conversation(frame)? {
        return Ok((conversation, recipient.into_iter().collect()));
    }
    let recipient = recipient.ok_or_else(|| json::missing("recipientId"))?;
    let me = cx.user.as_ref().ok_or_else(|| {
        Reject::new(RejectCode::Unauthenticated, "register the session before naming a recipient")
    })?;
    let conversation =
        direct(me, &recipient).ok_or_else(|| json::invalid("recipientId", "names no conversation"))?;
    Ok((conversation, vec![recipient]))
}

/// The conversation of two users: `dm:<a>:<b>` in the order of their ids. Where that would be too long or
/// could be read in two ways, a hash of both stands in their place (one colon fewer: no clash).
fn direct(one: &UserId, other: &UserId) -> Option<ConversationId> {
    let (a, b) = if one <= other { (one.as_str(), other.as_str()) } else { (other.as_str(), one.as_str()) };
    let plain = format!("dm:{a}:{b}");
    if is_house_id(&plain) && !a.contains(':') && !b.contains(':') {
        return ConversationId::parse(&plain).ok();
    }
    ConversationId::parse(&format!("dm:{}", json::made_up_uuid(&[a.as_bytes(), b.as_bytes()]))).ok()
}

fn flag(frame: &Object<'_>, name: &'static str, implied: Option<bool>) -> Result<bool, Reject> {
    json::optional(frame, name)?.or(implied).ok_or_else(|| json::missing(name))
}

/// A client's own message id: any printable text of reasonable length, since clients make them as they like.
fn message_id(frame: &Object<'_>) -> Result<Option<Arc<str>>, Reject> {
    let Some(id) = json::optional::<String>(frame, "messageId")? else { return Ok(None) };
    if id.is_empty() || id.chars().count() > MESSAGE_ID_CHARS || id.chars().any(char::is_control) {
        return Err(json::invalid("messageId", "must be 1 to 128 printable characters"));
    }
    Ok(Some(id.into()))
}

fn conversation(frame: &Object<'_>) -> Result<Option<ConversationId>, Reject> {
    let Some(id) = json::optional::<String>(frame, "conversationId")? else { return Ok(None) };
    ConversationId::parse(&id)
        .map(Some)
        .map_err(|why| json::invalid("conversationId", &format!("is wrong: {why}")))
}

fn user(frame: &Object<'_>, name: &'static str) -> Result<Option<UserId>, Reject> {
    let Some(id) = json::optional::<String>(frame, name)? else { return Ok(None) };
    UserId::parse(&id).map(Some).map_err(|why| json::invalid(name, &format!("is wrong: {why}")))
}

fn claim(frame: &Object<'_>, name: &'static str) -> Result<Option<String>, Reject> {
    Ok(user(frame, name)?.map(|id| id.as_str().to_owned()))
}

fn recipients(frame: &Object<'_>) -> Result<Vec<UserId>, Reject> {
    let ids: Vec<String> = json::optional(frame, "toUserIds")?.unwrap_or_default();
    ids.iter()
        .map(|id| UserId::parse(id))
        .collect::<Result<_, _>>()
        .map_err(|why| json::invalid("toUserIds", &format!("holds a wrong id: {why}")))
}

fn metadata(frame: &Object<'_>, cx: &Context) -> Result<Option<RawJson>, Reject> {
    let Some(value) = json::member(frame, "metadata") else { return Ok(None) };
    if !value.get().starts_with('{') {
        return Err(json::invalid("metadata", "must be an object"));
    }
    RawJson::new(value.get(), cx.max_depth)
        .map(Some)
        .map_err(|why| json::invalid("metadata", &format!("is wrong: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    #[test]
    fn two_users_have_one_conversation_whoever_asks() {
        assert_eq!(direct(&id("bob"), &id("alice")).unwrap().as_str(), "dm:alice:bob");
        assert_eq!(direct(&id("alice"), &id("bob")), direct(&id("bob"), &id("alice")));
        let (long, longer) = ("x".repeat(100), "y".repeat(128));
        assert_eq!(direct(&id(&long), &id(&longer)), direct(&id(&longer), &id(&long)));
        assert!(direct(&id(&long), &id(&longer)).is_some());
    }

    #[test]
    fn a_colon_in_an_id_makes_no_two_pairs_one() {
        assert_ne!(direct(&id("a"), &id("b:c")), direct(&id("a:b"), &id("c")));
    }
}
