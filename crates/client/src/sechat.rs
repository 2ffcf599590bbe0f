//! SeChat v2 as a client speaks it. Owns its JSON; must not know what is done with it.

use parlance_model::{ReceiptKind, Status};
use serde_json::{Value, json};

use crate::MessageState;
use crate::speech::{Speaker, flag, optional, text, time};
use crate::update::{Incoming, Message, Outgoing, Refusal};

pub(crate) fn encode(speaker: &Speaker<'_>, outgoing: &Outgoing) -> Option<Value> {
    let (user, now) = (speaker.user, speaker.now.to_iso());
    Some(match outgoing {
        Outgoing::Hello => json!({ "type": "register_session", "sessionId": user, "timestamp": now }),
        Outgoing::Message { id, conversation, body, to, metadata } => {
            let mut frame = json!({
                "type": "message:send",
                "messageId": id,
                "conversationId": conversation,
                "fromUserId": user,
                "toUserIds": to,
                "body": body,
                "timestamp": now,
            });
            if let Some(metadata) = metadata {
                frame["metadata"] = metadata.clone();
            }
            frame
        }
        Outgoing::Typing { conversation, to, on } => json!({
            "type": "typing",
            "conversationId": conversation,
            "fromUserId": user,
            "toUserIds": to,
            "isTyping": on,
            "timestamp": now,
        }),
        Outgoing::Receipt { kind, id, author, .. } => json!({
            "type": match kind { ReceiptKind::Delivered => "receipt:delivered", ReceiptKind::Read => "receipt:read" },
            "messageId": id,
            "fromUserId": user,
            "toUserId": author,
            "timestamp": now,
        }),
        Outgoing::Presence { status } => json!({
            "type": "presence:update",
            "sessionId": user,
            "isOnline": status.is_online(),
            "timestamp": now,
            "deviceInfo": { "platform": "terminal", "version": env!("CARGO_PKG_VERSION") },
        }),
        Outgoing::Keepalive => json!({ "type": "presence:ping", "sessionId": user, "timestamp": now }),
        Outgoing::RequestQueued => json!({ "type": "request_queued_events", "sessionId": user }),
        // Being a member is all the subscription there is, what was missed comes by itself, and there are
        // no reactions.
        Outgoing::Subscribe { .. }
        | Outgoing::Unsubscribe { .. }
        | Outgoing::React { .. }
        | Outgoing::Sync { .. }
        | Outgoing::Raw(_) => return None,
    })
}

pub(crate) fn decode(frame: &Value) -> Vec<Incoming> {
    if text(frame, "type") == "queued_events" {
        let events = frame.get("events").and_then(Value::as_array);
        return events.into_iter().flatten().map(queued).collect();
    }
    vec![decode_one(frame)]
}

/// One of `queued_events`: the frame is under `data`, its type beside it.
fn queued(event: &Value) -> Incoming {
    let mut frame = event.get("data").cloned().unwrap_or_default();
    if let (Some(fields), Some(kind)) = (frame.as_object_mut(), event.get("type")) {
        fields.insert("type".to_owned(), kind.clone());
        fields.insert("wasQueued".to_owned(), Value::Bool(true));
    }
    decode_one(&frame)
}

fn decode_one(frame: &Value) -> Incoming {
    let kind = text(frame, "type");
    match kind.as_str() {
        "message:received" => Incoming::Message(message(frame)),
        "message:acked" => Incoming::Acked { local_id: text(frame, "messageId"), server_id: None },
        "message:delivered" => {
            Incoming::Progress { id: text(frame, "messageId"), state: MessageState::Delivered }
        }
        "message:read" => Incoming::Progress { id: text(frame, "messageId"), state: MessageState::Read },
        "receipt:delivered" => receipt(frame, ReceiptKind::Delivered),
        "receipt:read" => receipt(frame, ReceiptKind::Read),
        "typing:update" => Incoming::Typing {
            conversation: text(frame, "conversationId"),
            user: text(frame, "fromUserId"),
            on: flag(frame, "isTyping"),
        },
        "presence:update" => Incoming::Presence {
            user: text(frame, "sessionId"),
            status: if flag(frame, "isOnline") { Status::Online } else { Status::Offline },
        },
        "session_registered" => Incoming::Nothing,
        "maintenance" => Incoming::Maintenance { message: text(frame, "message") },
        "error" => Incoming::Refused(refusal(frame)),
        _ => Incoming::App { kind, channel: None, payload: frame.clone() },
    }
}

fn message(frame: &Value) -> Message {
    let id = text(frame, "messageId");
    Message {
        conversation: text(frame, "conversationId"),
        client_id: Some(id.clone()),
        id,
        from: text(frame, "fromUserId"),
        body: text(frame, "body"),
        at: time(frame, "timestamp"),
        queued: flag(frame, "wasQueued"),
        seq: frame.get("seq").and_then(Value::as_u64),
        local_id: None,
        metadata: frame.get("metadata").filter(|metadata| !metadata.is_null()).cloned(),
    }
}

fn receipt(frame: &Value, kind: ReceiptKind) -> Incoming {
    Incoming::Receipt {
        kind,
        conversation: optional(frame, "conversationId"),
        ids: vec![text(frame, "messageId")],
        by: optional(frame, "fromUserId"),
        is_cursor: false,
    }
}

fn refusal(frame: &Value) -> Refusal {
    let details = frame.get("details").unwrap_or(&Value::Null);
    let local_id = optional(details, "messageId").or_else(|| optional(frame, "messageId"));
    let number = |name| details.get(name).and_then(Value::as_u64);
    Refusal {
        code: text(frame, "code"),
        message: text(frame, "message"),
        is_send: text(details, "event") == "message:send",
        local_id,
        retry_after_ms: number("retryAfterMs")
            .or_else(|| number("retry_after_ms"))
            .or_else(|| number("retryAfter").map(|seconds| seconds.saturating_mul(1000))),
        ..Refusal::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_model::Time;
    use parlance_wire::{Dialect, Framing};

    fn said(outgoing: Outgoing) -> Value {
        let speaker =
            Speaker { dialect: Dialect::Sechat, framing: Framing::Raw, user: "alice", now: Time(0) };
        encode(&speaker, &outgoing).unwrap()
    }

    #[test]
    fn a_message_has_the_documented_fields() {
        let frame = said(Outgoing::Message {
            id: "m1".into(),
            conversation: "c1".into(),
            body: "hi".into(),
            to: vec!["bob".into()],
            metadata: Some(json!({"encrypted": true})),
        });
        assert_eq!(
            frame,
            json!({"type":"message:send","messageId":"m1","conversationId":"c1","fromUserId":"alice",
                "toUserIds":["bob"],"body":"hi","timestamp":"1970-01-01T00:00:00.000Z","metadata":{"encrypted":true}})
        );
    }

    #[test]
    fn the_receipt_names_reader_and_author() {
        let frame = said(Outgoing::Receipt {
            kind: ReceiptKind::Read,
            conversation: "c1".into(),
            id: "m1".into(),
            author: "bob".into(),
        });
        assert_eq!(
            frame,
            json!({"type":"receipt:read","messageId":"m1","fromUserId":"alice","toUserId":"bob",
                "timestamp":"1970-01-01T00:00:00.000Z"})
        );
    }

    #[test]
    fn queued_events_are_read_one_by_one() {
        let frame = json!({"type":"queued_events","sessionId":"alice","events":[
            {"type":"message:received","data":{"messageId":"m1","fromUserId":"bob","conversationId":"c1","body":"x"}},
            {"type":"typing:update","data":{"conversationId":"c1","fromUserId":"bob","isTyping":true}},
        ]});
        let said = decode(&frame);
        assert!(matches!(&said[0], Incoming::Message(m) if m.queued && m.from == "bob" && m.id == "m1"));
        assert!(matches!(&said[1], Incoming::Typing { on: true, .. }));
    }

    #[test]
    fn an_error_says_which_message_and_whether_it_may_pass_later() {
        let frame = json!({"type":"error","code":"RATE_LIMITED","message":"slow down",
            "details":{"event":"message:send","messageId":"m1","retryAfterMs":300}});
        let [Incoming::Refused(refusal)] = &decode(&frame)[..] else { panic!("no refusal") };
        assert_eq!(refusal.local_id.as_deref(), Some("m1"));
        assert!(refusal.is_send && refusal.may_pass_later());
        let frame = json!({"type":"error","code":"FORBIDDEN","message":"no"});
        let [Incoming::Refused(refusal)] = &decode(&frame)[..] else { panic!("no refusal") };
        assert!(!refusal.may_pass_later() && !refusal.is_send);
    }
}
