//! chatgenius through the peer, where one vector is not enough: refused connections, drop classes, ids that
//! lead back, and what must hold of anything a client sends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixtures;

use parlance_model::{
    Command, Event, MessageEvent, MessageId, React, ReactionEvent, Receipt, ReceiptTarget, Reject,
    RejectCode, Time,
};
use parlance_wire::{Accent, Class, Dialect, Encoded, Framing, Peer, Settings, Style};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const EVENTS: [&str; 16] = [
    "message:send",
    "send_message",
    "reaction:add",
    "reaction:remove",
    "channel:join",
    "join_channel",
    "channel:leave",
    "leave_channel",
    "typing:start",
    "typing:stop",
    "message:read",
    "message:received",
    "message:confirm",
    "message:created",
    "nonsense",
    "",
];

fn peer() -> Peer {
    let (dialect, framing, style) = (Dialect::Chatgenius, Framing::Socketio, Style::default());
    Peer::new(Settings { dialect, framing, style, max_depth: 32, salt: 1 })
}

fn encode(event: &Event) -> Option<Encoded> {
    parlance_wire::encode(Accent::Chatgenius, &Style::default(), event)
}

fn receive(peer: &mut Peer, name: &str, args: &[Value], packet: Option<u64>) {
    let args: Vec<_> = args.iter().map(|v| serde_json::value::to_raw_value(v).unwrap()).collect();
    let args: Vec<&RawValue> = args.iter().map(|a| &**a).collect();
    peer.receive_event(name, &args, packet, fixtures::NOW);
}

fn command(name: &str, payload: Value) -> Command {
    let mut peer = peer();
    receive(&mut peer, name, &[payload], None);
    peer.poll_request().unwrap().1.unwrap().command
}

fn heard(peer: &mut Peer) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(frame) = peer.poll_frame() {
        all.extend(frame.texts().into_iter().map(str::to_owned));
    }
    all
}

/// The first argument of the one packet an event is told by.
fn payload(event: &Event) -> Value {
    let encoded = encode(event).unwrap();
    let all: Value = serde_json::from_str(&encoded.texts()[0][2..]).unwrap();
    all[1].clone()
}

#[test]
fn a_refused_connection_is_connected_told_why_and_disconnected() {
    let told = |reject: Reject| {
        let mut peer = peer();
        assert!(peer.refuse("sid", &reject), "the transport is closed after it");
        let all = heard(&mut peer);
        assert_eq!((all.len(), &*all[0], &*all[2]), (3, r#"40{"sid":"sid"}"#, "41"));
        all[1].clone()
    };
    let error = |error: &str, reason: &str| {
        format!(r#"42["connection:error",{{"error":"{error}","reason":"{reason}","reconnectAttempt":1}}]"#)
    };
    for (code, text) in [
        (RejectCode::Unauthenticated, "User not authenticated"),
        (RejectCode::InvalidToken, "Invalid token"),
        (RejectCode::TokenExpired, "Token expired"),
    ] {
        assert_eq!(told(fixtures::reject(code)), error(text, "auth_error"));
    }
    let ahead = Reject::new(RejectCode::TokenExpiring, "Token expires in 60 s").field("exp");
    assert_eq!(told(ahead), error("Token expires in 60 s", "auth_error"));
    let mismatch = Reject::new(RejectCode::Forbidden, "User ID mismatch");
    assert_eq!(told(mismatch), error("User ID mismatch", "auth_error"));
    for code in [RejectCode::Unavailable, RejectCode::Maintenance] {
        let text = "Service temporarily unavailable";
        assert_eq!(told(fixtures::reject(code)), error(text, "server_error"));
    }
    for code in [RejectCode::TooManyConnections, RejectCode::Internal] {
        assert_eq!(told(fixtures::reject(code)), error("No.", "server_error"));
    }
}

#[test]
fn a_refused_connection_is_told_in_its_namespace_without_an_offset() {
    let style = Style { namespace: Some("/api/socket.io".into()), strip: false, offsets: true };
    let (dialect, framing) = (Dialect::Chatgenius, Framing::Socketio);
    let mut peer = Peer::new(Settings { dialect, framing, style, max_depth: 32, salt: 1 });
    peer.refuse("sid", &fixtures::reject(RejectCode::InvalidToken));
    let all = heard(&mut peer);
    assert_eq!(all[0], r#"40/api/socket.io,{"sid":"sid"}"#);
    assert!(all[1].starts_with(r#"42/api/socket.io,["connection:error",{"#) && all[1].ends_with("}]"));
    assert_eq!(all[2], "41/api/socket.io,");
}

#[test]
fn only_typing_may_be_dropped() {
    for name in ["typing_on", "typing_off"] {
        assert_eq!(encode(&fixtures::event(name)).unwrap().class(), Class::Passing, "{name}");
    }
    for name in ["message", "reaction_added", "reaction_removed", "chatgenius_read", "room_entered", "resync"]
    {
        assert_eq!(encode(&fixtures::event(name)).unwrap().class(), Class::Kept, "{name}");
    }
}

#[test]
fn only_log_events_have_an_offset() {
    let place = |name| encode(&fixtures::event(name)).unwrap().offset().map(|o| (o.number, o.seq));
    for (name, seq) in
        [("message", 7), ("reaction_added", 8), ("reaction_removed", 8), ("chatgenius_members", 9)]
    {
        assert_eq!(place(name), Some((1 << 30, seq)), "{name}");
    }
    for name in ["typing_on", "chatgenius_read", "room_entered", "resync"] {
        assert_eq!(place(name), None, "{name}");
    }
}

/// A client takes any trailing string for an offset.
#[test]
fn every_event_ends_with_an_object_unless_with_an_offset() {
    for name in ["message", "reaction_added", "chatgenius_read_two", "chatgenius_members", "typing_on"] {
        let encoded = encode(&fixtures::event(name)).unwrap();
        assert!(!encoded.lacks_offset());
        for text in encoded.texts() {
            assert!(text.starts_with("42[") && text.ends_with("}]"), "{text}");
        }
    }
}

#[test]
fn where_markup_is_removed_the_acknowledgement_has_none() {
    let style = Style { namespace: None, strip: true, offsets: false };
    let (dialect, framing) = (Dialect::Chatgenius, Framing::Socketio);
    let mut peer = Peer::new(Settings { dialect, framing, style, max_depth: 32, salt: 1 });
    receive(&mut peer, "message:send", &[json!({"channelId": "c1", "content": "a<b>c</b>"})], Some(0));
    let (tag, _) = peer.poll_request().unwrap();
    peer.answer(&tag, &fixtures::result("accepted"), fixtures::NOW);
    let all = heard(&mut peer);
    assert!(all[1].contains(r#""content":"ac""#), "{all:?}");
}

#[test]
fn refusals_wait_their_turn() {
    let mut peer = peer();
    receive(&mut peer, "typing:start", &[json!({"channelId": "c1"})], None);
    receive(&mut peer, "message:send", &[json!({"channelId": "c1", "tempId": "t"})], Some(0));
    assert!(peer.poll_request().unwrap().1.is_ok());
    let (tag, refused) = peer.poll_request().unwrap();
    assert!(heard(&mut peer).is_empty());
    peer.answer(&tag, &Err(refused.unwrap_err()), fixtures::NOW);
    let all = heard(&mut peer);
    assert!(all[0].starts_with(r#"42["message:failed",{"error":"content is required","tempId":"t""#));
    assert_eq!(all[1], r#"430[{"success":false,"error":"content is required","processed":true}]"#);
}

/// Any JSON, deep enough to matter.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[a-z]{1,8}|msg_[0-9a-f]{24}".prop_map(Value::from),
    ];
    let member = prop::sample::select(vec![
        "content",
        "channelId",
        "tempId",
        "replyToId",
        "messageId",
        "type",
        "nonsense",
    ]);
    leaf.prop_recursive(4, 24, 7, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(member.clone().prop_map(str::to_owned), inner, 0..7)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever the arguments: no panic, one request or refusal, one ack where one was asked for, and one
    /// event about a message that was to be sent.
    #[test]
    fn anything_is_answered_once(
        name in prop_oneof![9 => prop::sample::select(&EVENTS[..]).prop_map(str::to_owned), 1 => ".{0,80}"],
        args in prop::collection::vec(values(), 0..3),
        packet in prop::option::of(any::<u64>()),
        outcome in 0..fixtures::CODES.len() + 1,
    ) {
        let mut peer = peer();
        receive(&mut peer, &name, &args, packet);
        let (tag, result) = peer.poll_request().unwrap();
        prop_assert!(peer.poll_request().is_none());
        let sends = matches!(name.as_str(), "message:send" | "send_message");
        let result = match (result, fixtures::CODES.get(outcome)) {
            (Err(reject), _) => Err(reject),
            (Ok(_), Some(code)) => Err(fixtures::reject(*code)),
            (Ok(_), None) if sends => fixtures::result("accepted"),
            (Ok(_), None) => fixtures::result("done"),
        };
        peer.answer(&tag, &result, fixtures::NOW);
        let mut heard = heard(&mut peer);
        prop_assert_eq!(heard.len(), usize::from(packet.is_some()) + usize::from(sends), "{:?}", heard);
        if let Some(id) = packet {
            let ack = heard.pop().unwrap();
            let body = ack.strip_prefix(&format!("43{id}")).unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            prop_assert_eq!(&body[0]["success"], &json!(result.is_ok()));
            prop_assert_eq!(body[0]["error"].is_string(), result.is_err());
        }
        if sends {
            let event: Value = serde_json::from_str(&heard[0][2..]).unwrap();
            let word = if result.is_ok() { "message:delivered" } else { "message:failed" };
            prop_assert_eq!(&event[0], word);
        }
    }

    /// What a recipient is shown of a message is what was sent.
    #[test]
    fn a_message_arrives_as_it_was_sent(
        content in "(?s).{1,200}", temp in "\\PC{1,40}", reply in prop::option::of("\\PC{1,40}"),
    ) {
        let sent = json!({"content": content, "channelId": "c1", "tempId": temp, "replyToId": reply});
        let Command::Send(send) = command("message:send", sent) else { panic!("no send") };
        let mut event: MessageEvent = fixtures::message_event();
        event.message.body = send.body;
        event.message.client_id = send.client_id;
        event.message.extra = send.extra;
        let shown = payload(&Event::Message(event));
        prop_assert_eq!(&shown["message"]["content"], &json!(content));
        prop_assert_eq!(&shown["message"]["replyToId"], &json!(reply));
        prop_assert_eq!(&shown["tempId"], &json!(temp));
    }

    /// A message has one id everywhere, and it reads back.
    #[test]
    fn a_message_has_one_id(
        number in 0u32..1 << 31, offset in 0u32..1 << 22, at in 0u32.., later in 0u64..1 << 40, kind in "\\PC{1,64}",
    ) {
        let id = MessageId::new(number, offset).unwrap();
        let at = Time::from_millis(u64::from(at) * 1000 + 999);
        let shown = payload(&Event::Message(MessageEvent { id, at, ..fixtures::message_event() }));
        let shown = &shown["message"]["id"];

        let Event::Reaction(reaction) = fixtures::event("reaction_added") else { panic!("no reaction") };
        for added in [true, false] {
            let reaction = ReactionEvent {
                message: id, message_at: at, added, at: Time::from_millis(later), ..reaction.clone()
            };
            prop_assert_eq!(&payload(&Event::Reaction(reaction))["messageId"], shown);
        }
        let Event::Cursor(mut cursor) = fixtures::event("chatgenius_read") else { panic!("no cursor") };
        (cursor.messages[0].id, cursor.messages[0].at, cursor.at) = (id, at, Time::from_millis(later));
        prop_assert_eq!(&payload(&Event::Cursor(cursor))["messageId"], shown);

        let kind: std::sync::Arc<str> = kind.into();
        let expected = React { message: id, kind: kind.clone(), added: true };
        prop_assert_eq!(
            command("reaction:add", json!({"messageId": shown, "type": kind})), Command::React(expected)
        );
        let Command::Receipt(Receipt { target, .. }) = command("message:read", json!({"messageId": shown})) else {
            panic!("no receipt")
        };
        prop_assert_eq!(target, ReceiptTarget::Ids { conversation: None, ids: vec![id] });
    }
}
