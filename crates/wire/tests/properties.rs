//! Properties of the codecs: nothing a client sends makes a peer panic or fall silent about a fault, and
//! what is said on one side is heard on the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixtures;

use parlance_model::{Command, Event, RawJson, ReceiptTarget, Request};
use parlance_wire::{Accent, Dialect, Encoded, Peer, Style, Tag};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Field names of both dialects, and one of neither.
const FIELDS: [&str; 30] = [
    "ack_id",
    "body",
    "channel",
    "channels",
    "content",
    "conversationId",
    "conversation_id",
    "fromUserId",
    "id",
    "isOnline",
    "isTyping",
    "message",
    "messageId",
    "message_id",
    "message_ids",
    "metadata",
    "nonsense",
    "notification_id",
    "payload",
    "recipientId",
    "seq",
    "sessionId",
    "status",
    "timestamp",
    "toUserId",
    "toUserIds",
    "token",
    "type",
    "user_id",
    "userId",
];

/// Event types of both dialects, and some of neither.
const TYPES: [&str; 44] = [
    "",
    "ack",
    "auth",
    "connect",
    "count_update",
    "disconnect",
    "error",
    "feed_update",
    "heartbeat",
    "mark_read",
    "message",
    "message:received",
    "message:send",
    "nonsense",
    "notification",
    "notification_read",
    "notification_read_all",
    "online_status_update",
    "ping",
    "pong",
    "presence",
    "presence:offline",
    "presence:online",
    "presence:ping",
    "presence:update",
    "read_receipt",
    "receipt:delivered",
    "receipt:read",
    "register_session",
    "request_queued_events",
    "send_message",
    "set_presence",
    "subscribe",
    "typing",
    "typing:start",
    "typing:stop",
    "typing:update",
    "typing_indicator",
    "typing_start",
    "typing_stop",
    "unsubscribe",
    "maintenance",
    "session_registered",
    "queued_events",
];

const DIALECTS: [Dialect; 2] = [Dialect::Sechat, Dialect::Socialhub];

fn peer(dialect: Dialect, user: Option<&str>) -> Peer {
    let mut peer = Peer::new(fixtures::raw(dialect));
    if let Some(user) = user {
        peer.set_user(fixtures::user(user));
    }
    peer
}

fn encode(accent: Accent, event: &Event) -> Option<Encoded> {
    parlance_wire::encode(accent, &Style::default(), event)
}

fn read_one(peer: &mut Peer) -> (Tag, Request) {
    fixtures::next(peer).expect("a request")
}

fn leaves() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[a-z]{1,8}(:[a-z]{1,8})?".prop_map(Value::from),
        prop::sample::select(TYPES.to_vec()).prop_map(Value::from),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    leaves().prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(FIELDS.to_vec()), inner), 0..6).prop_map(object),
        ]
    })
}

fn object(members: Vec<(&'static str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn frames() -> impl Strategy<Value = Value> {
    let members = prop::collection::vec((prop::sample::select(FIELDS.to_vec()), values()), 0..12);
    (prop::sample::select(TYPES.to_vec()), members).prop_map(|(kind, members)| {
        let mut frame = object(members);
        frame["type"] = kind.into();
        frame
    })
}

fn house_id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_:.@-]{1,128}"
}

fn client_id() -> impl Strategy<Value = String> {
    "\\PC{1,40}"
}

/// Everything a peer did, whatever it was: every output is well-formed JSON with a type.
fn check_outputs(peer: &mut Peer) -> (usize, usize) {
    let mut counts = (0, 0);
    while let Some((tag, _)) = fixtures::next(peer) {
        counts.0 += 1;
        for code in fixtures::CODES {
            peer.answer(&tag, &Err(fixtures::reject(code)), fixtures::NOW);
        }
        for name in ["done", "registered", "accepted", "accepted_bare", "receipted", "pong", "queued"] {
            peer.answer(&tag, &fixtures::result(name), fixtures::NOW);
        }
    }
    while let Some(frame) = peer.poll_frame() {
        counts.1 += 1;
        let texts = frame.texts();
        assert!(!texts.is_empty());
        for text in texts {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(value["type"].is_string(), "{value}");
        }
    }
    counts
}

fn send_of(peer: &mut Peer) -> parlance_model::Send {
    match read_one(peer).1.command {
        Command::Send(send) => send,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for dialect in DIALECTS {
            for text in [text.as_str(), &String::from_utf8_lossy(&bytes)] {
                let mut peer = peer(dialect, None);
                peer.receive(text, fixtures::NOW);
                check_outputs(&mut peer);
            }
        }
    }

    #[test]
    fn any_frames_are_survived_and_answered(all in prop::collection::vec(frames(), 1..4), known: bool) {
        for dialect in DIALECTS {
            let mut peer = peer(dialect, known.then_some("alice"));
            for frame in &all {
                peer.receive(&frame.to_string(), fixtures::NOW);
            }
            let (requests, outputs) = check_outputs(&mut peer);
            if dialect == Dialect::Sechat {
                // Each frame became a request or an error: none was swallowed.
                prop_assert!(requests + outputs >= all.len());
            }
        }
    }

    #[test]
    fn a_frame_cut_short_is_survived(frame in frames(), at in 0usize..400) {
        let text = frame.to_string();
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        for dialect in DIALECTS {
            let mut peer = peer(dialect, None);
            peer.receive(&text[..at], fixtures::NOW);
            check_outputs(&mut peer);
        }
    }

    #[test]
    fn the_accent_changes_at_most_once(all in prop::collection::vec(frames(), 1..12)) {
        for dialect in DIALECTS {
            let mut peer = peer(dialect, Some("alice"));
            let mut heard = vec![peer.accent()];
            for frame in &all {
                peer.receive(&frame.to_string(), fixtures::NOW);
                heard.push(peer.accent());
            }
            heard.dedup();
            prop_assert!(heard.len() <= 2, "{heard:?}");
            prop_assert!(heard.iter().all(|a| a.dialect() == dialect));
        }
    }

    #[test]
    fn sechat_message_send_is_read_as_written(
        id in client_id(), conversation in house_id(), from in house_id(),
        to in prop::collection::vec(house_id(), 0..5), body: String,
    ) {
        let frame = json!({
            "type": "message:send", "messageId": id, "conversationId": conversation, "fromUserId": from,
            "toUserIds": to, "body": body,
        });
        let mut peer = peer(Dialect::Sechat, None);
        peer.receive(&frame.to_string(), fixtures::NOW);
        let (tag, request) = read_one(&mut peer);
        prop_assert_eq!(tag.event(), "message:send");
        prop_assert_eq!(request.claimed.as_deref(), Some(&*from));
        let Command::Send(send) = request.command else { panic!("no send") };
        prop_assert_eq!(&*send.body, body);
        prop_assert_eq!(send.client_id.as_deref(), Some(&*id));
        prop_assert_eq!(send.conversation.as_str(), conversation);
        prop_assert_eq!(send.to.iter().map(|u| u.as_str().to_owned()).collect::<Vec<_>>(), to);
    }

    #[test]
    fn sechat_editions_say_the_same(
        id in client_id(), conversation in house_id(), to in house_id(), body: String, on: bool,
    ) {
        let pairs = [
            (
                json!({"type": "message:send", "messageId": id, "conversationId": conversation,
                       "toUserIds": [to], "body": body}),
                json!({"type": "send_message", "messageId": id, "conversationId": conversation,
                       "recipientId": to, "message": body}),
            ),
            (
                json!({"type": "typing", "conversationId": conversation, "toUserIds": [to], "isTyping": on}),
                json!({"type": "typing_indicator", "conversationId": conversation, "recipientId": to,
                       "isTyping": on}),
            ),
            (
                json!({"type": "presence:update", "isOnline": on}),
                json!({"type": "online_status_update", "isOnline": on}),
            ),
        ];
        for (new, old) in pairs {
            let read = |frame: Value| {
                let mut peer = peer(Dialect::Sechat, None);
                peer.receive(&frame.to_string(), fixtures::NOW);
                read_one(&mut peer).1
            };
            prop_assert_eq!(read(new), read(old));
        }
    }

    #[test]
    fn what_sechat_sends_its_recipient_reads(id in client_id(), body: String, metadata in values(), queued: bool) {
        let frame = json!({
            "type": "message:send", "messageId": id, "conversationId": "c1", "body": body,
            "metadata": {"m": metadata},
        });
        let mut peer = peer(Dialect::Sechat, None);
        peer.receive(&frame.to_string(), fixtures::NOW);
        let send = send_of(&mut peer);
        let mut event = fixtures::message_event();
        event.queued = queued;
        event.message.body = send.body;
        event.message.client_id = send.client_id;
        event.message.metadata = send.metadata;
        let event = Event::Message(event);

        let texts = |accent| -> Vec<Value> {
            let encoded = encode(accent, &event).unwrap();
            encoded.texts().iter().map(|t| serde_json::from_str(t).unwrap()).collect()
        };
        let v2 = texts(Accent::SechatV2);
        prop_assert_eq!(v2.len(), 2);
        prop_assert_eq!(&v2[0]["body"], &frame["body"]);
        // As text: parsing and printing a float again may change its last digit.
        let metadata = frame["metadata"].to_string();
        prop_assert!(encode(Accent::SechatV2, &event).unwrap().texts()[0].contains(&metadata));
        prop_assert_eq!(&v2[0]["messageId"], &frame["messageId"]);
        prop_assert_eq!(&v2[1]["messageId"], &frame["messageId"]);
        prop_assert_eq!(v2[0].get("wasQueued").is_some(), queued);
        let v1 = texts(Accent::SechatV1);
        prop_assert_eq!(v1.len(), 1);
        prop_assert_eq!(&v1[0]["content"], &frame["body"]);
        prop_assert_eq!(&v1[0]["messageId"], &frame["messageId"]);
    }

    /// The stock client answers a body with a receipt made of what it heard: it must lead back to the message.
    #[test]
    fn a_receipt_names_the_message_it_answers(id in prop::option::of(client_id())) {
        let mut event = fixtures::message_event();
        event.message.client_id = id.as_deref().map(Into::into);
        let server_id = event.id;
        let encoded = encode(Accent::SechatV2, &Event::Message(event)).unwrap();
        let heard: Value = serde_json::from_str(encoded.texts()[0]).unwrap();
        let receipt = json!({
            "type": "receipt:delivered", "messageId": heard["messageId"], "fromUserId": "bob",
            "toUserId": heard["fromUserId"],
        });
        let mut peer = peer(Dialect::Sechat, None);
        peer.receive(&receipt.to_string(), fixtures::NOW);
        let Command::Receipt(receipt) = read_one(&mut peer).1.command else {
            panic!("no receipt")
        };
        let ReceiptTarget::ClientId { author, id: named } = receipt.target else { panic!("no client id") };
        prop_assert_eq!(author.as_str(), "alice");
        match id {
            Some(id) => prop_assert_eq!(&*named, id),
            None => prop_assert_eq!(parlance_model::MessageId::from_any(&named), Some(server_id)),
        }
    }

    #[test]
    fn a_message_of_any_text_is_well_formed_in_every_accent(body: String, name: String, metadata in values()) {
        let mut event = fixtures::message_event();
        event.message.body = body.into();
        event.message.author.name = Some(name.into());
        event.message.metadata = Some(RawJson::trusted(metadata.to_string()));
        for accent in [Accent::SechatV1, Accent::SechatV2, Accent::Socialhub] {
            let Some(encoded) = encode(accent, &Event::Message(event.clone())) else { continue };
            let sealed = encoded.seal(1 << 52);
            prop_assert!(!sealed.texts().is_empty());
            for text in sealed.texts() {
                let value: Value = serde_json::from_str(text).unwrap();
                prop_assert!(value["type"].is_string());
            }
        }
    }
}
