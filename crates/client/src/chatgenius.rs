//! ChatGenius as a client speaks it. Owns its JSON; must not know what is done with it.

use parlance_model::ReceiptKind;
use serde_json::{Value, json};

use crate::speech::{Event, conversation, flag, optional, text, time};
use crate::update::{Ask, Incoming, Message, Outgoing, Refusal};

/// How the server turns down a send whose first copy it still works on.
const IN_PROGRESS: &str = "Message already being processed";

/// The words for what is to be said; `None` when there are none.
pub(crate) fn encode(outgoing: &Outgoing) -> Option<Event> {
    Some(match outgoing {
        Outgoing::Message { id, conversation, body, .. } => {
            let payload = json!({ "content": body, "channelId": conversation, "tempId": id });
            Event::of("message:send", vec![payload]).asking(Ask::Message { id: id.clone() })
        }
        Outgoing::Typing { conversation, on, .. } => {
            let name = if *on { "typing:start" } else { "typing:stop" };
            Event::of(name, vec![json!({ "channelId": conversation })])
        }
        Outgoing::Receipt { kind, id, .. } => {
            let name = match kind {
                ReceiptKind::Delivered => "message:received",
                ReceiptKind::Read => "message:read",
            };
            Event::of(name, vec![json!({ "messageId": id })])
        }
        Outgoing::React { message, kind, on } => {
            let name = if *on { "reaction:add" } else { "reaction:remove" };
            Event::of(name, vec![json!({ "messageId": message, "type": kind })]).asking(Ask::Word)
        }
        Outgoing::Subscribe { channel } => {
            room("channel:join", channel)?.asking(Ask::Join { channel: channel.clone() })
        }
        Outgoing::Unsubscribe { channel } => room("channel:leave", channel)?,
        // The token said hello, the engine keeps the connection alive, and there is no presence.
        Outgoing::Hello
        | Outgoing::Presence { .. }
        | Outgoing::Keepalive
        | Outgoing::RequestQueued
        | Outgoing::Sync { .. }
        | Outgoing::Raw(_) => return None,
    })
}

fn room(name: &str, channel: &str) -> Option<Event> {
    let payload = json!({ "channelId": conversation(channel)? });
    Some(Event::of(name, vec![payload]).asking(Ask::Word))
}

/// What an event says; `None` when it is no event of the dialect.
pub(crate) fn decode(name: &str, payload: &Value) -> Option<Incoming> {
    Some(match name {
        "connection:success" => Incoming::Welcome { conversations: texts(payload.get("channels")?) },
        "connection:error" => Incoming::Closing {
            message: text(payload, "error"),
            passes: text(payload, "reason") != "auth_error",
        },
        "message:delivered" => {
            Incoming::Acked { local_id: text(payload, "tempId"), server_id: optional(payload, "messageId") }
        }
        "message:created" => Incoming::Message(message(payload)?),
        "message:failed" => Incoming::Refused(Refusal {
            local_id: optional(payload, "tempId"),
            is_send: true,
            is_echo: true,
            ..refusal(payload)
        }),
        "message:read" => Incoming::Receipt {
            kind: ReceiptKind::Read,
            conversation: None,
            ids: vec![text(payload, "messageId")],
            by: optional(payload, "userId"),
            is_cursor: false,
        },
        "reaction:added" => {
            let reaction = payload.get("reaction")?;
            reacted(text(payload, "messageId"), reaction, true)
        }
        "reaction:removed" => reacted(text(payload, "messageId"), payload, false),
        "typing:start" | "typing:stop" => Incoming::Typing {
            conversation: text(payload, "channelId"),
            user: text(payload, "userId"),
            on: name == "typing:start",
        },
        "channel:user_joined" | "channel:user_left" => Incoming::Member {
            conversation: text(payload, "channelId"),
            user: text(payload, "userId"),
            joined: name == "channel:user_joined",
        },
        _ => return None,
    })
}

fn reacted(message: String, reaction: &Value, on: bool) -> Incoming {
    Incoming::Reaction { message, kind: text(reaction, "type"), user: text(reaction, "userId"), on }
}

fn message(payload: &Value) -> Option<Message> {
    let fields = payload.get("message")?;
    Some(Message {
        conversation: text(fields, "channelId"),
        id: text(fields, "id"),
        client_id: optional(payload, "tempId"),
        from: text(fields, "userId"),
        body: text(fields, "content"),
        at: time(fields, "createdAt"),
        queued: false,
        seq: None,
        local_id: None,
        metadata: None,
    })
}

/// What an acknowledgement says.
pub(crate) fn answer(ask: &Ask, ack: &Value) -> Vec<Incoming> {
    let local_id = ask.local_id();
    if !flag(ack, "success") {
        return vec![Incoming::Refused(Refusal { is_send: local_id.is_some(), local_id, ..refusal(ack) })];
    }
    let server_id = ack.get("data").and_then(|data| optional(data, "messageId").or(optional(data, "id")));
    local_id.map(|local_id| Incoming::Acked { local_id, server_id }).into_iter().collect()
}

/// The dialect has sentences and no codes; the codes here are the client's own.
fn refusal(fields: &Value) -> Refusal {
    let (message, retry_after_ms) =
        (text(fields, "error"), fields.get("retryAfterMs").and_then(Value::as_u64));
    let code = match retry_after_ms {
        Some(_) => "RATE_LIMITED",
        None if message == IN_PROGRESS => "BUSY",
        None => "ERROR",
    };
    Refusal { code: code.to_owned(), message, retry_after_ms, ..Refusal::default() }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acknowledgement_and_the_event_say_the_same() {
        let ask = Ask::Message { id: "t1".into() };
        let acked = Incoming::Acked { local_id: "t1".into(), server_id: Some("m1".into()) };
        let ack = json!({"success":true,"processed":true,"data":{"id":"m1","messageId":"m1","tempId":"t1"}});
        assert_eq!(answer(&ask, &ack), std::slice::from_ref(&acked));
        let event = json!({"messageId":"m1","tempId":"t1","status":"DELIVERED","processed":true});
        assert_eq!(decode("message:delivered", &event), Some(acked));
    }

    #[test]
    fn a_send_in_progress_may_pass_later_and_another_refusal_not() {
        let ask = Ask::Message { id: "t1".into() };
        for (error, later) in [(IN_PROGRESS, true), ("Access denied to channel", false)] {
            let [Incoming::Refused(refusal)] = &answer(&ask, &json!({"success":false,"error":error}))[..]
            else {
                panic!("no refusal")
            };
            assert_eq!((refusal.may_pass_later(), refusal.is_send), (later, true), "{error}");
        }
    }

    #[test]
    fn reactions_are_read_both_ways() {
        let added = json!({"messageId":"m1","processed":true,
            "reaction":{"id":"r","type":"👍","userId":"bob","messageId":"m1"}});
        let removed = json!({"messageId":"m1","userId":"bob","type":"👍","processed":true});
        for (name, payload, on) in [("reaction:added", added, true), ("reaction:removed", removed, false)] {
            let expected =
                Incoming::Reaction { message: "m1".into(), kind: "👍".into(), user: "bob".into(), on };
            assert_eq!(decode(name, &payload), Some(expected));
        }
    }

    #[test]
    fn a_refused_user_is_told_by_an_event() {
        let error = json!({"error":"Invalid token","reason":"auth_error","reconnectAttempt":1});
        let expected = Incoming::Closing { message: "Invalid token".into(), passes: false };
        assert_eq!(decode("connection:error", &error), Some(expected));
    }
}
