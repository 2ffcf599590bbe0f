//! LingoChat as a client speaks it: positional arguments, ids that are integers. Owns its JSON; must not know
//! what is done with it.

use parlance_model::{ReceiptKind, Status};
use serde_json::{Value, json};

use crate::speech::{Event, conversation, flag, optional, text, time, word};
use crate::update::{Ask, Incoming, Message, Outgoing, Refusal};

/// How the server says that it cannot do it now.
const UNAVAILABLE: &str = "Service temporarily unavailable";
/// How it says that too much was said.
const LIMIT: &str = "Maximum ";

/// The words for what is to be said; `None` when there are none.
pub(crate) fn encode(outgoing: &Outgoing) -> Option<Event> {
    Some(match outgoing {
        Outgoing::Message { id, conversation, body, metadata, .. } => {
            let mut fields = json!({ "text": body, "clientMessageId": id });
            if let Some(metadata) = metadata {
                fields["metadata"] = metadata.clone();
            }
            Event::of("message:send", vec![number(conversation), fields])
                .asking(Ask::Message { id: id.clone() })
        }
        Outgoing::Typing { conversation, on, .. } => {
            let name = if *on { "typing:start" } else { "typing:stop" };
            Event::of(name, vec![number(conversation)])
        }
        Outgoing::Receipt { kind, id, .. } => {
            let name = match kind {
                ReceiptKind::Delivered => "message:delivered",
                ReceiptKind::Read => "message:read",
            };
            // The acknowledgement tells a refusal of this from one of anything else.
            Event::of(name, vec![number(id)]).asking(Ask::Word)
        }
        Outgoing::Subscribe { channel } => {
            room("conversation:join", channel)?.asking(Ask::Join { channel: channel.clone() })
        }
        Outgoing::Unsubscribe { channel } => room("conversation:leave", channel)?,
        Outgoing::Sync { conversation, since } => {
            Event::of("messages:sync", vec![number(conversation), number(since)])
                .asking(Ask::Sync { conversation: conversation.clone() })
        }
        // The token said hello, the engine keeps the connection alive, and presence is being in the room.
        Outgoing::Hello
        | Outgoing::Presence { .. }
        | Outgoing::Keepalive
        | Outgoing::RequestQueued
        | Outgoing::React { .. }
        | Outgoing::Raw(_) => return None,
    })
}

fn room(name: &str, channel: &str) -> Option<Event> {
    Some(Event::of(name, vec![number(conversation(channel)?)]).asking(Ask::Word))
}

/// An id as the server takes it: a number where it is one.
fn number(id: &str) -> Value {
    let integer = id.parse::<u64>().ok().filter(|integer| integer.to_string() == id);
    integer.map_or_else(|| id.into(), Value::from)
}

/// What an event says; `None` when it is no event of the dialect.
pub(crate) fn decode(name: &str, args: &[Value]) -> Option<Incoming> {
    let first = args.first().unwrap_or(&Value::Null);
    Some(match name {
        "message:new" => Incoming::Message(message(first)),
        "message:ack" => acked(args)?,
        "message:delivered" => receipt(ReceiptKind::Delivered, first, "deliveredTo"),
        "message:read" => receipt(ReceiptKind::Read, first, "readBy"),
        "typing:start" | "typing:stop" => {
            let (conversation, user) = somebody(first)?;
            Incoming::Typing { conversation, user, on: name == "typing:start" }
        }
        "user:online" | "user:offline" => {
            let (_, user) = somebody(first)?;
            let status = if name == "user:online" { Status::Online } else { Status::Offline };
            Incoming::Presence { user, status }
        }
        "room:user_joined" | "room:user_left" => {
            let (conversation, user) = somebody(first)?;
            Incoming::Member { conversation, user, joined: name == "room:user_joined" }
        }
        "error" => Incoming::Refused(Refusal { is_echo: true, ..refusal(word(first).unwrap_or_default()) }),
        _ => return None,
    })
}

/// `(messageId, {clientMessageId,…})`, or all in one object.
fn acked(args: &[Value]) -> Option<Incoming> {
    let fields = args.iter().find(|arg| arg.is_object())?;
    let server_id = args.first().and_then(word).or_else(|| optional(fields, "messageId"));
    Some(Incoming::Acked { local_id: optional(fields, "clientMessageId")?, server_id })
}

/// A user, and where, when the server says so.
fn somebody(arg: &Value) -> Option<(String, String)> {
    word(arg)
        .map(|user| (String::new(), user))
        .or_else(|| Some((text(arg, "conversationId"), optional(arg, "userId")?)))
}

fn receipt(kind: ReceiptKind, fields: &Value, by: &str) -> Incoming {
    Incoming::Receipt {
        kind,
        conversation: None,
        ids: vec![text(fields, "messageId")],
        by: optional(fields, by),
        is_cursor: false,
    }
}

fn message(fields: &Value) -> Message {
    Message {
        conversation: text(fields, "conversationId"),
        id: text(fields, "id"),
        client_id: optional(fields, "clientMessageId"),
        from: text(fields, "senderId"),
        body: text(fields, "text"),
        at: time(fields, "createdAt"),
        queued: false,
        seq: None,
        local_id: None,
        metadata: fields.get("metadata").filter(|metadata| !metadata.is_null()).cloned(),
    }
}

/// What an acknowledgement says.
pub(crate) fn answer(ask: &Ask, ack: &Value) -> Vec<Incoming> {
    let done = flag(ack, "success");
    let refused = |local_id: Option<String>| {
        let refusal = refusal(text(ack, "error"));
        Incoming::Refused(Refusal { is_send: local_id.is_some(), local_id, ..refusal })
    };
    match ask {
        Ask::Message { id } if done => {
            vec![Incoming::Acked { local_id: id.clone(), server_id: optional(ack, "messageId") }]
        }
        Ask::Message { id } => vec![refused(Some(id.clone()))],
        Ask::Word | Ask::Join { .. } if done => Vec::new(),
        Ask::Word | Ask::Join { .. } => vec![refused(None)],
        Ask::Sync { conversation } => {
            let conversation = conversation.clone();
            let messages = ack.get("messages").and_then(Value::as_array).into_iter().flatten();
            let messages = messages.map(|fields| Message { queued: true, ..message(fields) }).collect();
            let synced = Incoming::Synced { conversation, messages, more: flag(ack, "hasMore") };
            if done { vec![synced] } else { vec![refused(None), synced] }
        }
    }
}

/// The dialect has sentences and no codes; the codes here are the client's own.
fn refusal(message: String) -> Refusal {
    let code = match message.as_str() {
        UNAVAILABLE => "SERVICE_UNAVAILABLE",
        other if other.starts_with(LIMIT) => "RATE_LIMITED",
        _ => "ERROR",
    };
    Refusal { code: code.to_owned(), message, ..Refusal::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(conversation: &str) -> Event {
        encode(&Outgoing::Message {
            id: "u1".into(),
            conversation: conversation.into(),
            body: "hi".into(),
            to: Vec::new(),
            metadata: None,
        })
        .unwrap()
    }

    #[test]
    fn arguments_are_positional_and_numbers_numbers() {
        assert_eq!(sent("42").args, [json!(42), json!({"text":"hi","clientMessageId":"u1"})]);
        assert_eq!(sent("demo").args[0], json!("demo"));
        assert_eq!(sent("007").args[0], json!("007"), "another conversation than 7");
    }

    #[test]
    fn the_acknowledgement_is_read_from_the_event_in_both_editions_and_from_the_packet() {
        let acked = Incoming::Acked { local_id: "u1".into(), server_id: Some("7".into()) };
        let fields = json!({"clientMessageId":"u1","conversationId":42,"duplicate":false});
        assert_eq!(decode("message:ack", &[json!(7), fields.clone()]), Some(acked.clone()));
        let mut object = fields;
        object["messageId"] = json!(7);
        assert_eq!(decode("message:ack", &[object]), Some(acked.clone()));
        let ask = Ask::Message { id: "u1".into() };
        assert_eq!(answer(&ask, &json!({"success":true,"messageId":7})), [acked]);
    }

    #[test]
    fn users_are_numbers_names_or_in_an_object() {
        for (arg, conversation, user) in [
            (json!(5), "", "5"),
            (json!("bob"), "", "bob"),
            (json!({"conversationId":42,"userId":5}), "42", "5"),
        ] {
            let expected =
                Incoming::Typing { conversation: conversation.into(), user: user.into(), on: true };
            assert_eq!(decode("typing:start", &[arg]), Some(expected));
        }
    }

    #[test]
    fn a_failed_sync_still_ends() {
        let ask = Ask::Sync { conversation: "42".into() };
        let said = answer(&ask, &json!({"success":false,"error":"no"}));
        assert!(matches!(&said[..], [Incoming::Refused(_), Incoming::Synced { more: false, .. }]));
        let said = answer(&ask, &json!({"success":true,"messages":[{"id":1,"text":"a"}],"hasMore":true}));
        assert!(matches!(&said[..], [Incoming::Synced { more: true, messages, .. }] if messages[0].queued));
    }

    #[test]
    fn sentences_tell_what_may_pass_later() {
        for (sentence, later) in
            [(UNAVAILABLE, true), ("Maximum 10 messages per second", true), ("Not a member", false)]
        {
            assert_eq!(refusal(sentence.into()).may_pass_later(), later, "{sentence}");
        }
    }
}
