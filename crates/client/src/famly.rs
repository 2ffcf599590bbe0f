//! Famly as a client speaks it. Owns its JSON; must not know what is done with it.

use parlance_model::{ReceiptKind, Status};
use serde_json::{Value, json};

use crate::speech::{Event, conversation, flag, optional, text, time};
use crate::update::{Ask, Incoming, Message, Outgoing, Refusal};

/// The words for what is to be said; `None` when there are none.
pub(crate) fn encode(outgoing: &Outgoing) -> Option<Event> {
    Some(match outgoing {
        Outgoing::Message { id, conversation, body, .. } => {
            let payload = json!({ "chatId": conversation, "body": body, "clientId": id });
            Event::of("message:send", vec![payload]).asking(Ask::Message { id: id.clone() })
        }
        Outgoing::Typing { conversation, on, .. } => {
            let name = if *on { "typing:start" } else { "typing:stop" };
            Event::of(name, vec![json!({ "chatId": conversation })])
        }
        Outgoing::Receipt { kind: ReceiptKind::Read, conversation, id, .. } => {
            let payload = json!({ "chatId": conversation, "messageId": id });
            Event::of("receipt:read", vec![payload]).asking(Ask::Word)
        }
        Outgoing::Subscribe { channel } => {
            room("room:join", channel)?.asking(Ask::Join { channel: channel.clone() })
        }
        Outgoing::Unsubscribe { channel } => room("room:leave", channel)?,
        Outgoing::Keepalive => Event::of("presence:ping", vec![json!({})]).asking(Ask::Word),
        // The token said hello, presence is the connection's, and what was missed is fetched over HTTP.
        Outgoing::Hello
        | Outgoing::Receipt { .. }
        | Outgoing::Presence { .. }
        | Outgoing::RequestQueued
        | Outgoing::React { .. }
        | Outgoing::Sync { .. }
        | Outgoing::Raw(_) => return None,
    })
}

fn room(name: &str, channel: &str) -> Option<Event> {
    let payload = json!({ "chatId": conversation(channel)? });
    Some(Event::of(name, vec![payload]).asking(Ask::Word))
}

/// What an event says; `None` when it is no event of the dialect.
pub(crate) fn decode(name: &str, payload: &Value) -> Option<Incoming> {
    Some(match name {
        "message:new" => Incoming::Message(message(payload)),
        "message:notification" => Incoming::Message(message(payload.get("message")?)),
        "typing:update" => Incoming::Typing {
            conversation: text(payload, "chatId"),
            user: text(payload, "userId"),
            on: text(payload, "state") == "start",
        },
        "receipt:update" => Incoming::Receipt {
            kind: ReceiptKind::Read,
            conversation: optional(payload, "chatId"),
            ids: vec![text(payload, "messageId")],
            by: optional(payload, "userId"),
            is_cursor: true,
        },
        "presence:update" => Incoming::Presence {
            user: text(payload, "userId"),
            status: Status::parse(&text(payload, "status")).unwrap_or(Status::Offline),
        },
        "chat:member-added" | "chat:member-removed" => Incoming::Member {
            conversation: text(payload, "chatId"),
            user: text(payload, "userId"),
            joined: name == "chat:member-added",
        },
        _ => return None,
    })
}

fn message(fields: &Value) -> Message {
    Message {
        conversation: text(fields, "chatId"),
        id: text(fields, "_id"),
        client_id: optional(fields, "clientId"),
        from: text(fields, "senderId"),
        body: text(fields, "body"),
        at: time(fields, "createdAt"),
        queued: false,
        seq: None,
        local_id: None,
        metadata: None,
    }
}

/// What an acknowledgement says.
pub(crate) fn answer(ask: &Ask, ack: &Value) -> Vec<Incoming> {
    let local_id = ask.local_id();
    if !flag(ack, "ok") {
        return vec![Incoming::Refused(Refusal {
            code: text(ack, "error"),
            message: text(ack, "message"),
            is_send: local_id.is_some(),
            local_id,
            correlation_id: optional(ack, "correlationId"),
            ..Refusal::default()
        })];
    }
    let server_id = ack.get("data").and_then(|data| optional(data, "serverId"));
    local_id.map(|local_id| Incoming::Acked { local_id, server_id }).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_the_id_a_resend_repeats() {
        let outgoing = Outgoing::Message {
            id: "u1".into(),
            conversation: "c1".into(),
            body: "hi".into(),
            to: Vec::new(),
            metadata: None,
        };
        let event = encode(&outgoing).unwrap();
        assert_eq!(
            (event.name.as_str(), &event.ask),
            ("message:send", &Some(Ask::Message { id: "u1".into() }))
        );
        assert_eq!(event.args, [json!({"chatId":"c1","body":"hi","clientId":"u1"})]);
    }

    #[test]
    fn only_conversations_are_rooms() {
        let join = encode(&Outgoing::Subscribe { channel: "conversation:c1".into() }).unwrap();
        assert_eq!((join.name.as_str(), &join.args[0]), ("room:join", &json!({"chatId":"c1"})));
        assert_eq!(encode(&Outgoing::Subscribe { channel: "presence".into() }), None);
    }

    #[test]
    fn a_refusal_keeps_its_correlation_id() {
        let ack = json!({"ok":false,"error":"RATE_LIMITED","message":"Maximum 10","correlationId":"x"});
        let [Incoming::Refused(refusal)] = &answer(&Ask::Message { id: "u1".into() }, &ack)[..] else {
            panic!("no refusal")
        };
        assert_eq!((refusal.local_id.as_deref(), refusal.correlation_id.as_deref()), (Some("u1"), Some("x")));
        assert!(refusal.may_pass_later() && refusal.is_about_the_pace());
    }

    #[test]
    fn the_broadcast_and_the_notification_are_the_same_message() {
        let nested = json!({"_id":"a1","chatId":"c1","senderId":"bob","body":"hi","clientId":"u1",
            "createdAt":"2025-08-19T20:00:00.000Z","editedAt":null,"deleted":false});
        let mut flat = nested.clone();
        flat["message"] = nested.clone();
        let new = decode("message:new", &flat);
        assert_eq!(new, decode("message:notification", &json!({"chatId":"c1","message":nested})));
        assert!(
            matches!(new, Some(Incoming::Message(m)) if m.id == "a1" && m.from == "bob" && m.at.is_some())
        );
    }
}
