//! Events as envelopes. Log events are left open for each recipient's integer.
//!
//! Must not know: recipients; the bytes are the same for all of them.

use parlance_model::{
    AppEvent, Author, CursorMoved, Event, MessageEvent, MessageId, NotificationEvent, NotificationRead,
    PresenceEvent, ReceiptKind, Resync, Time, TypingEvent,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::frame::{Frame, raw};
use crate::{Class, Encoded, json};

/// The event's envelope; `None` where this vocabulary has no word for it.
pub(super) fn encode(event: &Event) -> Option<Encoded> {
    match event {
        Event::Message(event) => message(event).map(open),
        Event::Cursor(event) if event.kind == ReceiptKind::Read => cursor(event).map(kept),
        Event::Typing(event) => typing(event).map(passing),
        Event::Presence(event) => presence(event).map(passing),
        Event::Notification(event) => notification(event).map(open),
        Event::NotificationRead(event) => notification_read(event).map(open),
        Event::App(event) => app(event).map(open),
        Event::Resync(event) => resync(event).map(kept),
        Event::Cursor(_)
        | Event::Receipt(_)
        | Event::Room(_)
        | Event::Conversation(_)
        | Event::Reaction(_)
        | Event::Maintenance(_) => None,
    }
}

/// Whether this vocabulary tells the event with the recipient's integer. What it has no word for must not get one: a
/// client would look for it.
pub const fn is_numbered(event: &Event) -> bool {
    matches!(event, Event::Message(_) | Event::Notification(_) | Event::NotificationRead(_) | Event::App(_))
}

fn open(text: String) -> Encoded {
    Encoded::open(text, Class::Kept)
}

fn kept(text: String) -> Encoded {
    Encoded::framed(&[text], Class::Kept)
}

fn passing(text: String) -> Encoded {
    Encoded::framed(&[text], Class::Passing)
}

fn uuid(id: MessageId, at: Time) -> String {
    id.to_uuid(at.seconds32())
}

fn message(event: &MessageEvent) -> Option<String> {
    #[derive(Serialize)]
    struct Payload<'a> {
        id: &'a str,
        conversation_id: &'a str,
        sender_id: &'a str,
        content: &'a str,
        created_at: String,
        is_read: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a RawValue>,
        sender: Sender<'a>,
    }
    #[derive(Serialize)]
    struct Sender<'a> {
        id: &'a str,
        username: &'a str,
        display_name: &'a str,
        avatar_url: Option<&'a str>,
    }
    impl<'a> From<&'a Author> for Sender<'a> {
        fn from(author: &'a Author) -> Self {
            Self {
                id: author.id.as_str(),
                username: author.login_name(),
                display_name: author.display_name(),
                avatar_url: author.picture.as_deref(),
            }
        }
    }
    let id = uuid(event.id, event.at);
    let payload = Payload {
        id: &id,
        conversation_id: event.conversation.as_str(),
        sender_id: event.message.author.id.as_str(),
        content: &event.message.body,
        created_at: event.at.to_iso(),
        is_read: false,
        client_id: event.message.client_id.as_deref(),
        metadata: event.message.metadata.as_ref().and_then(raw),
        sender: (&event.message.author).into(),
    };
    Frame::new(id.clone(), "message", payload, event.at)
        .on(format!("conversation:{}", event.conversation))
        .text()
}

fn cursor(event: &CursorMoved) -> Option<String> {
    #[derive(Serialize)]
    struct Payload<'a> {
        conversation_id: &'a str,
        user_id: &'a str,
        message_ids: Vec<String>,
        read_at: String,
    }
    // A cursor that passed only the reader's own messages tells nobody anything.
    let last = event.messages.last()?;
    let id = json::made_up_uuid(&[
        b"read_receipt",
        event.conversation.as_str().as_bytes(),
        event.by.as_str().as_bytes(),
        &last.id.to_integer().to_le_bytes(),
        &event.at.millis().to_le_bytes(),
    ]);
    let payload = Payload {
        conversation_id: event.conversation.as_str(),
        user_id: event.by.as_str(),
        message_ids: event.messages.iter().map(|m| uuid(m.id, m.at)).collect(),
        read_at: event.at.to_iso(),
    };
    Frame::new(id, "read_receipt", payload, event.at)
        .on(format!("conversation:{}", event.conversation))
        .text()
}

fn typing(event: &TypingEvent) -> Option<String> {
    #[derive(Serialize)]
    struct Payload<'a> {
        conversation_id: &'a str,
        user_id: &'a str,
        username: &'a str,
        is_typing: bool,
    }
    let kind = if event.on { "typing_start" } else { "typing_stop" };
    let id = json::made_up_uuid(&[
        kind.as_bytes(),
        event.conversation.as_str().as_bytes(),
        event.author.id.as_str().as_bytes(),
        &event.at.millis().to_le_bytes(),
    ]);
    let payload = Payload {
        conversation_id: event.conversation.as_str(),
        user_id: event.author.id.as_str(),
        username: event.author.login_name(),
        is_typing: event.on,
    };
    Frame::new(id, kind, payload, event.at).on(format!("conversation:{}", event.conversation)).text()
}

fn presence(event: &PresenceEvent) -> Option<String> {
    #[derive(Serialize)]
    struct Payload<'a> {
        user_id: &'a str,
        status: &'static str,
        last_seen: String,
    }
    let id = json::made_up_uuid(&[
        b"presence",
        event.user.as_str().as_bytes(),
        event.status.as_str().as_bytes(),
        &event.at.millis().to_le_bytes(),
    ]);
    let payload = Payload {
        user_id: event.user.as_str(),
        status: event.status.as_str(),
        last_seen: event.last_seen.to_iso(),
    };
    // Subscribers of `presence` and of `presence:{userId}` get the same bytes, so one name must do for both:
    // the narrow one, which says whose it is; clients dispatch on the type.
    Frame::new(id, "presence", payload, event.at).on(format!("presence:{}", event.user)).text()
}

fn notification(event: &NotificationEvent) -> Option<String> {
    Frame::new(uuid(event.id, event.at), &event.kind, raw(&event.payload), event.at)
        .on("notifications".to_owned())
        .text()
}

fn notification_read(event: &NotificationRead) -> Option<String> {
    #[derive(Serialize)]
    struct Payload<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        notification_id: Option<&'a str>,
        read_at: String,
    }
    let notification_id = event.notification.as_deref();
    let kind = if notification_id.is_some() { "notification_read" } else { "notification_read_all" };
    let payload = Payload { notification_id, read_at: event.at.to_iso() };
    Frame::new(uuid(event.id, event.at), kind, payload, event.at).on("notifications".to_owned()).text()
}

fn app(event: &AppEvent) -> Option<String> {
    Frame::new(uuid(event.id, event.at), &event.kind, raw(&event.payload), event.at)
        .on(event.channel.to_string())
        .text()
}

/// The vocabulary has no word for a gap; an error that names the channel is what every client hears.
fn resync(event: &Resync) -> Option<String> {
    #[derive(Serialize)]
    struct Payload<'a> {
        code: &'static str,
        message: &'static str,
        details: Details<'a>,
    }
    #[derive(Serialize)]
    struct Details<'a> {
        resync: bool,
        channel: &'a str,
        from: u64,
        to: u64,
    }
    let channel = format!("conversation:{}", event.conversation);
    let id = json::made_up_uuid(&[
        b"resync",
        event.conversation.as_str().as_bytes(),
        &event.from.to_le_bytes(),
        &event.to.to_le_bytes(),
        &event.at.millis().to_le_bytes(),
    ]);
    let payload = Payload {
        code: "INTERNAL_ERROR",
        message: "some messages can no longer be replayed; reload the conversation",
        details: Details { resync: true, channel: &channel, from: event.from, to: event.to },
    };
    Frame::new(id, "error", payload, event.at).on(channel.clone()).text()
}
