//! SocialHub as a client speaks it. Owns its JSON; must not know what is done with it.

use parlance_model::{ReceiptKind, Status};
use serde_json::{Value, json};

use crate::speech::{Speaker, optional, text, time};
use crate::update::{Incoming, Message, Outgoing, Refusal};

pub(crate) fn encode(speaker: &Speaker<'_>, outgoing: &Outgoing) -> Option<Value> {
    let user = speaker.user;
    let on = |conversation: &str| Some(format!("conversation:{conversation}"));
    let (kind, channel, payload) = match outgoing {
        Outgoing::Message { id, conversation, body, metadata, .. } => {
            let mut payload = json!({ "conversation_id": conversation, "content": body, "client_id": id });
            if let Some(metadata) = metadata {
                payload["metadata"] = metadata.clone();
            }
            // The ack carries our own id back, so a resend and its original share one acknowledgement.
            let mut frame = envelope(speaker, "message", on(conversation), payload);
            frame["id"] = id.clone().into();
            frame["ack_id"] = id.clone().into();
            return Some(frame);
        }
        Outgoing::Typing { conversation, on: typing, .. } => (
            if *typing { "typing_start" } else { "typing_stop" },
            on(conversation),
            json!({ "conversation_id": conversation, "user_id": user, "username": user, "is_typing": typing }),
        ),
        Outgoing::Receipt { kind: ReceiptKind::Read, conversation, id, .. } => (
            "read_receipt",
            on(conversation),
            json!({ "conversation_id": conversation, "message_ids": [id], "read_at": speaker.now.to_iso() }),
        ),
        Outgoing::Subscribe { channel } => ("subscribe", None, json!({ "channel": channel })),
        Outgoing::Unsubscribe { channel } => ("unsubscribe", None, json!({ "channel": channel })),
        Outgoing::Presence { status } => {
            ("presence", None, json!({ "user_id": user, "status": status.as_str() }))
        }
        Outgoing::Keepalive => ("heartbeat", None, json!({ "timestamp": speaker.now.to_iso() })),
        // The token said hello, what was queued comes by itself, and "delivered" is no word here.
        Outgoing::Hello
        | Outgoing::RequestQueued
        | Outgoing::Receipt { .. }
        | Outgoing::React { .. }
        | Outgoing::Sync { .. }
        | Outgoing::Raw(_) => return None,
    };
    Some(envelope(speaker, kind, channel, payload))
}

fn envelope(speaker: &Speaker<'_>, kind: &str, channel: Option<String>, payload: Value) -> Value {
    let mut frame = json!({
        "id": uuid::Uuid::new_v4().to_string(),
        "type": kind,
        "payload": payload,
        "timestamp": speaker.now.to_iso(),
    });
    if let Some(channel) = channel {
        frame["channel"] = channel.into();
    }
    frame
}

pub(crate) fn decode(frame: &Value) -> Incoming {
    let kind = text(frame, "type");
    let payload = frame.get("payload").unwrap_or(&Value::Null);
    match kind.as_str() {
        "message" => Incoming::Message(message(frame, payload)),
        "ack" => ack(frame, payload),
        "error" => Incoming::Refused(refusal(payload)),
        "typing_start" | "typing_stop" => Incoming::Typing {
            conversation: text(payload, "conversation_id"),
            user: text(payload, "user_id"),
            on: kind == "typing_start",
        },
        "read_receipt" => Incoming::Receipt {
            kind: ReceiptKind::Read,
            conversation: optional(payload, "conversation_id"),
            ids: payload
                .get("message_ids")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect(),
            by: optional(payload, "user_id"),
            is_cursor: false,
        },
        "presence" => Incoming::Presence {
            user: text(payload, "user_id"),
            status: Status::parse(&text(payload, "status")).unwrap_or(Status::Offline),
        },
        "notification" => Incoming::Notification(payload.clone()),
        "heartbeat" | "connect" => Incoming::Nothing,
        _ => Incoming::App { kind, channel: optional(frame, "channel"), payload: payload.clone() },
    }
}

fn message(frame: &Value, payload: &Value) -> Message {
    Message {
        conversation: text(payload, "conversation_id"),
        id: text(payload, "id"),
        client_id: optional(payload, "client_id"),
        from: text(payload, "sender_id"),
        body: text(payload, "content"),
        at: time(payload, "created_at"),
        queued: false,
        seq: frame.get("seq").and_then(Value::as_u64),
        local_id: None,
        metadata: payload.get("metadata").filter(|metadata| !metadata.is_null()).cloned(),
    }
}

fn ack(frame: &Value, payload: &Value) -> Incoming {
    let Some(local_id) = optional(payload, "ack_id").or_else(|| optional(frame, "ack_id")) else {
        return Incoming::Nothing;
    };
    if text(payload, "status") != "error" {
        let data = payload.get("data").unwrap_or(&Value::Null);
        return Incoming::Acked {
            local_id,
            server_id: optional(data, "message_id").or(optional(data, "id")),
        };
    }
    let error = payload.get("error").unwrap_or(&Value::Null);
    Incoming::Refused(Refusal { local_id: Some(local_id), is_send: true, ..refusal(error) })
}

fn refusal(error: &Value) -> Refusal {
    let details = error.get("details").unwrap_or(&Value::Null);
    Refusal {
        code: text(error, "code"),
        message: text(error, "message"),
        local_id: optional(details, "client_id"),
        is_send: text(details, "type") == "message",
        retry_after_ms: details.get("retry_after_ms").and_then(Value::as_u64),
        ..Refusal::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_model::Time;
    use parlance_wire::{Dialect, Framing};

    fn said(outgoing: &Outgoing) -> Option<Value> {
        encode(
            &Speaker { dialect: Dialect::Socialhub, framing: Framing::Raw, user: "alice", now: Time(0) },
            outgoing,
        )
    }

    #[test]
    fn a_message_asks_for_its_ack_by_its_own_id() {
        let outgoing = Outgoing::Message {
            id: "u1".into(),
            conversation: "c1".into(),
            body: "hi".into(),
            to: Vec::new(),
            metadata: None,
        };
        let frame = said(&outgoing).unwrap();
        assert_eq!(
            frame,
            json!({"id":"u1","ack_id":"u1","type":"message","channel":"conversation:c1",
                "payload":{"conversation_id":"c1","content":"hi","client_id":"u1"},
                "timestamp":"1970-01-01T00:00:00.000Z"})
        );
        assert_eq!(said(&outgoing).unwrap(), frame, "a resend is the same frame");
    }

    #[test]
    fn delivered_is_no_word_here() {
        let receipt =
            |kind| Outgoing::Receipt { kind, conversation: "c".into(), id: "m".into(), author: "b".into() };
        assert_eq!(said(&receipt(ReceiptKind::Delivered)), None);
        assert_eq!(said(&receipt(ReceiptKind::Read)).unwrap()["payload"]["message_ids"], json!(["m"]));
    }

    #[test]
    fn acks_of_both_kinds_are_read() {
        let good = json!({"type":"ack","ack_id":"u1","payload":{"ack_id":"u1","status":"success","success":true,
            "data":{"id":"s1","message_id":"s1"}}});
        assert_eq!(decode(&good), Incoming::Acked { local_id: "u1".into(), server_id: Some("s1".into()) });
        let bad = json!({"type":"ack","ack_id":"u1","payload":{"ack_id":"u1","status":"error","success":false,
            "error":{"code":"RATE_LIMITED","message":"m","details":{"retry_after_ms":20}}}});
        let Incoming::Refused(refusal) = decode(&bad) else { panic!("no refusal") };
        assert_eq!((refusal.local_id.as_deref(), refusal.retry_after_ms), (Some("u1"), Some(20)));
    }
}
