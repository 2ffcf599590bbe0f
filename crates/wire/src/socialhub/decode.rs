//! Reading client frames: the envelope, and each type's payload.
//!
//! Owns: shape. Must not know: permission; every name a frame gives its author is only `claimed`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parlance_model::{
    Channel, Command, ConversationId, MessageId, PresenceChange, RawJson, Receipt, ReceiptKind,
    ReceiptTarget, Register, Reject, RejectCode, Request, Send, Status, TypingChange,
};
use serde_json::value::RawValue;

use crate::{
    Tag,
    codec::{Context, Decoded},
    json::{self, Object},
};

/// Longest id a client may choose (acknowledgement, message, notification), in characters.
const MAX_ID: usize = 128;
/// What is kept of a frame's type for a refusal's details, in characters.
const MAX_TYPE: usize = 64;

/// Fields of a `message` payload with a meaning here; all others are carried as `extra`.
const MESSAGE_FIELDS: [&str; 11] = [
    "content",
    "body",
    "text",
    "conversation_id",
    "channel",
    "client_id",
    "temp_id",
    "id",
    "metadata",
    "sender_id",
    "user_id",
];

/// Reads one frame. `id` and `timestamp` are never validated: the document's own examples omit them.
pub(super) fn decode(text: &str, cx: &Context) -> Decoded {
    let mut tag = Tag::default();
    match read(text, cx, &mut tag) {
        Ok(Some(request)) => Decoded::Request(tag, request),
        Ok(None) => Decoded::Nothing,
        Err(reject) => Decoded::Refused(tag, reject),
    }
}

/// The envelope; fills the tag as far as it gets, so that a refusal is answered where it is awaited.
fn read(text: &str, cx: &Context, tag: &mut Tag) -> Result<Option<Request>, Reject> {
    let envelope = json::object(text, cx.max_depth)?;
    let kind = json::optional::<String>(&envelope, "type");
    if let Ok(Some(kind)) = &kind {
        tag.event = kind.chars().take(MAX_TYPE).collect();
    }
    tag.ack = client_chosen(&envelope, "ack_id")?;
    let Some(kind) = kind?.filter(|k| !k.is_empty()) else {
        return Err(Reject::new(RejectCode::MissingField, "Message type is required").field("type"));
    };
    let payload = Payload::read(&envelope);
    command(&kind, &Inbound { envelope, payload, max_depth: cx.max_depth }, tag)
}

/// A frame taken apart.
struct Inbound<'a> {
    envelope: Object<'a>,
    payload: Payload<'a>,
    max_depth: usize,
}

/// The payload: an object, or for `subscribe` also a bare string; others matter only to types that look.
enum Payload<'a> {
    Absent,
    Fields(Object<'a>),
    Bare(String),
    Other,
}

impl<'a> Payload<'a> {
    fn read(envelope: &Object<'a>) -> Self {
        let Some(raw) = json::member(envelope, "payload") else { return Self::Absent };
        if let Ok(fields) = serde_json::from_str(raw.get()) {
            return Self::Fields(fields);
        }
        serde_json::from_str(raw.get()).map_or(Self::Other, Self::Bare)
    }
}

fn command(kind: &str, frame: &Inbound<'_>, tag: &mut Tag) -> Result<Option<Request>, Reject> {
    let command = match kind {
        // A client's acknowledgement of an event: delivery is known from the log, nothing hangs on it.
        "ack" => return Ok(None),
        "connect" => Command::Register(Register { token: json::optional(&frame.fields()?, "token")? }),
        "disconnect" => return Ok(Some(Request::new(Command::Disconnect, None))),
        "heartbeat" => return Ok(Some(Request::new(Command::Ping, None))),
        "subscribe" => Command::Subscribe(frame.channel()?),
        "unsubscribe" => Command::Unsubscribe(frame.channel()?),
        "message" | "send_message" => Command::Send(frame.send(tag)?),
        "typing_start" => Command::Typing(frame.typing(true)?),
        "typing_stop" => Command::Typing(frame.typing(false)?),
        "read_receipt" | "mark_read" => Command::Receipt(frame.receipt()?),
        "presence" | "set_presence" => Command::Presence(frame.presence()?),
        "notification_read" => Command::NotificationRead { id: Some(frame.notification()?) },
        "notification_read_all" => Command::NotificationRead { id: None },
        _ => return Err(Reject::new(RejectCode::UnknownEvent, "unknown message type").field("type")),
    };
    Ok(Some(Request::new(command, frame.claimed())))
}

impl<'a> Inbound<'a> {
    /// The payload's members; none when there is no payload.
    fn fields(&self) -> Result<Object<'a>, Reject> {
        match &self.payload {
            Payload::Absent => Ok(Object::new()),
            Payload::Fields(fields) => Ok(fields.clone()),
            Payload::Bare(_) | Payload::Other => Err(json::invalid("payload", "must be an object")),
        }
    }

    /// Whom the payload names as its author.
    fn claimed(&self) -> Option<String> {
        let Payload::Fields(fields) = &self.payload else { return None };
        ["user_id", "sender_id"].into_iter().find_map(|name| {
            // What cannot be an id at all is kept as it stands: it equals no subject and is refused there.
            json::member(fields, name).map(|v| plain(v).unwrap_or_else(|| v.get().to_owned()))
        })
    }

    /// `payload.channel`, a bare string payload, or the envelope's `channel`.
    fn channel(&self) -> Result<Channel, Reject> {
        let name = match &self.payload {
            Payload::Bare(name) => Some(name.clone()),
            _ => json::optional::<String>(&self.fields()?, "channel")?,
        };
        let name = match name {
            Some(name) => name,
            None => json::required::<String>(&self.envelope, "channel")?,
        };
        Channel::parse(&name).ok_or_else(unknown_channel)
    }

    /// `payload.conversation_id`, else the conversation the channel names.
    fn conversation(&self, fields: &Object<'a>) -> Result<Option<ConversationId>, Reject> {
        if let Some(raw) = json::member(fields, "conversation_id") {
            return plain(raw)
                .and_then(|id| ConversationId::parse(&id).ok())
                .map(Some)
                .ok_or_else(|| json::invalid("conversation_id", "is not a valid id"));
        }
        let name = match json::optional::<String>(&self.envelope, "channel")? {
            Some(name) => Some(name),
            None => json::optional(fields, "channel")?,
        };
        match name.map(|n| Channel::parse(&n)) {
            None => Ok(None),
            Some(Some(Channel::Conversation(id))) => Ok(Some(id)),
            Some(_) => Err(unknown_channel()),
        }
    }

    fn required_conversation(&self, fields: &Object<'a>) -> Result<ConversationId, Reject> {
        self.conversation(fields)?.ok_or_else(|| json::missing("conversation_id"))
    }

    fn send(&self, tag: &mut Tag) -> Result<Send, Reject> {
        let fields = self.fields()?;
        let client_id = self.client_id(&fields)?;
        tag.reference = client_id.clone();
        let conversation = self.required_conversation(&fields)?;
        tag.subject = Some(conversation.to_string());
        let mut body = None;
        for name in ["content", "body", "text"] {
            body = json::optional::<String>(&fields, name)?;
            if body.is_some() {
                break;
            }
        }
        let body = body.ok_or_else(|| json::missing("content"))?;
        if body.is_empty() {
            return Err(json::invalid("content", "must not be empty"));
        }
        Ok(Send {
            conversation,
            client_id: client_id.map(Arc::from),
            body: body.into(),
            to: Vec::new(),
            metadata: self.metadata(&fields)?,
            extra: self.extra(&fields)?,
        })
    }

    /// The client's own id. The envelope's `id` is the last resort, so that resending the same envelope
    /// is noticed; neither `id` is ever refused, for the document does not tie them to any form.
    fn client_id(&self, fields: &Object<'a>) -> Result<Option<String>, Reject> {
        for name in ["client_id", "temp_id"] {
            if let Some(id) = client_chosen(fields, name)? {
                return Ok(Some(id));
            }
        }
        let usable = |object: &Object<'a>| client_chosen(object, "id").ok().flatten();
        Ok(usable(fields).or_else(|| usable(&self.envelope)))
    }

    fn metadata(&self, fields: &Object<'a>) -> Result<Option<RawJson>, Reject> {
        let Some(raw) = json::member(fields, "metadata") else { return Ok(None) };
        if !raw.get().starts_with('{') {
            return Err(json::invalid("metadata", "must be an object"));
        }
        self.carried(raw.get()).map(Some)
    }

    fn extra(&self, fields: &Object<'a>) -> Result<Option<RawJson>, Reject> {
        let rest: BTreeMap<&str, &RawValue> = fields
            .iter()
            .map(|(name, value)| (name.as_ref(), *value))
            .filter(|(name, _)| !MESSAGE_FIELDS.contains(name))
            .collect();
        if rest.is_empty() {
            return Ok(None);
        }
        let text = serde_json::to_string(&rest).map_err(|_| json::invalid("payload", "cannot be kept"))?;
        self.carried(&text).map(Some)
    }

    fn carried(&self, text: &str) -> Result<RawJson, Reject> {
        RawJson::new(text, self.max_depth).map_err(|_| json::invalid("payload", "is nested too deeply"))
    }

    fn typing(&self, on: bool) -> Result<TypingChange, Reject> {
        let conversation = self.required_conversation(&self.fields()?)?;
        Ok(TypingChange { conversation, on, to: Vec::new() })
    }

    fn receipt(&self) -> Result<Receipt, Reject> {
        let fields = self.fields()?;
        let named: Vec<&RawValue> = match json::optional::<Vec<&RawValue>>(&fields, "message_ids")? {
            Some(list) => list,
            None => vec![json::member(&fields, "message_id").ok_or_else(|| json::missing("message_ids"))?],
        };
        if named.is_empty() {
            return Err(json::invalid("message_ids", "must not be empty"));
        }
        let ids = named
            .into_iter()
            .map(|raw| plain(raw).and_then(|id| MessageId::from_any(&id)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| json::invalid("message_ids", "contains an id that is not a message's"))?;
        let conversation = self.conversation(&fields)?;
        Ok(Receipt { kind: ReceiptKind::Read, target: ReceiptTarget::Ids { conversation, ids } })
    }

    fn presence(&self) -> Result<PresenceChange, Reject> {
        let word: String = json::required(&self.fields()?, "status")?;
        // Nobody with a live device is offline: that is for the gateway to say when the last one is gone.
        Status::parse(&word)
            .filter(|status| status.is_online())
            .map(|status| PresenceChange { status })
            .ok_or_else(|| json::invalid("status", "must be online, away or busy"))
    }

    fn notification(&self) -> Result<Arc<str>, Reject> {
        client_chosen(&self.fields()?, "notification_id")?
            .map(Arc::from)
            .ok_or_else(|| json::missing("notification_id"))
    }
}

fn unknown_channel() -> Reject {
    Reject::new(RejectCode::UnknownChannel, "no such channel").field("channel")
}

/// A string, or a number as its text: clients keep ids in either.
fn plain(raw: &RawValue) -> Option<String> {
    let text = raw.get();
    match text.bytes().next()? {
        b'"' => serde_json::from_str(text).ok(),
        b'-' | b'0'..=b'9' => Some(text.to_owned()),
        _ => None,
    }
}

/// An id of the client's choice: a string or number of 1 to [`MAX_ID`] characters.
fn client_chosen(object: &Object<'_>, name: &'static str) -> Result<Option<String>, Reject> {
    let Some(raw) = json::member(object, name) else { return Ok(None) };
    plain(raw)
        .filter(|id| (1..=MAX_ID).contains(&id.chars().count()))
        .map(Some)
        .ok_or_else(|| json::invalid(name, "must be a string of 1 to 128 characters"))
}
