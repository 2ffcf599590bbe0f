//! sechat through the peer, where one vector is not enough: drop classes, one frame's bytes for all, and the
//! order of what a connection hears.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixtures;

use parlance_model::{Answer, Command, Event, RejectCode};
use parlance_wire::{Accent, Class, Dialect, Encoded, Framing, Peer, Settings, Style};
use proptest::prelude::*;
use serde_json::{Value, json};

fn peer() -> Peer {
    Peer::new(fixtures::raw(Dialect::Sechat))
}

fn encode(accent: Accent, event: &Event) -> Option<Encoded> {
    parlance_wire::encode(accent, &Style::default(), event)
}

fn heard(peer: &mut Peer) -> Vec<Value> {
    let mut all = Vec::new();
    while let Some(frame) = peer.poll_frame() {
        all.extend(frame.texts().into_iter().map(|t| serde_json::from_str::<Value>(t).unwrap()));
    }
    all
}

#[test]
fn only_typing_and_presence_may_be_dropped() {
    for accent in [Accent::SechatV1, Accent::SechatV2, Accent::SechatIoV1, Accent::SechatIoV2] {
        for name in ["typing_on", "typing_off", "presence_online", "presence_offline"] {
            assert_eq!(encode(accent, &fixtures::event(name)).unwrap().class(), Class::Passing, "{name}");
        }
        for name in ["message", "receipt_delivered", "receipt_read", "maintenance_on", "resync"] {
            assert_eq!(encode(accent, &fixtures::event(name)).unwrap().class(), Class::Kept, "{name}");
        }
    }
}

#[test]
fn no_recipient_needs_bytes_of_its_own() {
    for accent in [Accent::SechatV1, Accent::SechatV2] {
        let encoded = encode(accent, &fixtures::event("message")).unwrap();
        assert!(!encoded.is_open());
        assert_eq!(encoded.seal(9), encoded);
    }
}

#[test]
fn type_is_the_first_member_of_every_frame() {
    for name in ["message", "receipt_read", "typing_on", "presence_online", "maintenance_on", "resync"] {
        for accent in [Accent::SechatV1, Accent::SechatV2] {
            for text in encode(accent, &fixtures::event(name)).unwrap().texts() {
                assert!(text.starts_with(r#"{"type":""#), "{text}");
            }
        }
    }
}

#[test]
fn metadata_reaches_the_recipient_byte_for_byte() {
    let mut peer = peer();
    let metadata = r#"{"n":1.0000000000000000000001, "b":[ 1e400 ],"a":"\u00e4\/"}"#;
    let frame = format!(
        r#"{{"type":"message:send","messageId":"m","conversationId":"c","body":"b","metadata":{metadata}}}"#
    );
    peer.receive(&frame, fixtures::NOW);
    let (_, request) = fixtures::next(&mut peer).unwrap();
    let Command::Send(send) = request.command else { panic!("{request:?}") };
    let mut event = fixtures::message_event();
    event.message.metadata = send.metadata;
    let encoded = encode(Accent::SechatV2, &Event::Message(event)).unwrap();
    assert!(encoded.texts()[0].contains(metadata), "{:?}", encoded.texts());
}

#[test]
fn requests_and_refusals_keep_their_order() {
    let mut peer = peer();
    peer.receive(r#"{"type":"presence:ping"}"#, fixtures::NOW);
    peer.receive(r#"{"type":"first"}"#, fixtures::NOW);
    peer.receive(r#"{"type":"second"}"#, fixtures::NOW);
    assert!(matches!(peer.poll_request().unwrap().1.unwrap().command, Command::Ping));
    for event in ["first", "second"] {
        let (tag, refused) = peer.poll_request().unwrap();
        assert!(heard(&mut peer).is_empty(), "a refusal is said in its turn, not before");
        peer.answer(&tag, &refused.map(|_| Answer::Done), fixtures::NOW);
        assert_eq!(heard(&mut peer)[0]["details"]["event"], json!(event));
    }
    assert!(peer.poll_request().is_none());
}

#[test]
fn an_id_that_could_mean_two_pairs_of_users_means_one() {
    let conversation = |me: &str, other: &str| {
        let mut peer = peer();
        peer.set_user(fixtures::user(me));
        peer.receive(
            &json!({"type":"send_message","recipientId":other,"message":"x"}).to_string(),
            fixtures::NOW,
        );
        match fixtures::next(&mut peer).unwrap().1.command {
            Command::Send(send) => send.conversation,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(conversation("a:b", "c"), conversation("c", "a:b"));
    assert_ne!(conversation("a:b", "c"), conversation("a", "b:c"));
}

#[test]
fn over_socketio_the_payload_is_the_raw_frame() {
    for (raw, io) in [(Accent::SechatV1, Accent::SechatIoV1), (Accent::SechatV2, Accent::SechatIoV2)] {
        for name in ["message", "receipt_read", "typing_on", "presence_online", "maintenance_on", "resync"] {
            let event = fixtures::event(name);
            let (raw, io) = (encode(raw, &event).unwrap(), encode(io, &event).unwrap());
            let expected: Vec<String> = raw
                .texts()
                .iter()
                .map(|text| {
                    let frame: Value = serde_json::from_str(text).unwrap();
                    format!("42[{},{text}]", frame["type"])
                })
                .collect();
            assert_eq!(io.texts(), expected, "{name}");
        }
    }
}

#[test]
fn over_socketio_a_refused_connection_may_try_again() {
    let said = |code| {
        let (dialect, framing, style) = (Dialect::Sechat, Framing::Socketio, Style::default());
        let mut peer = Peer::new(Settings { dialect, framing, style, max_depth: 32, salt: 1 });
        assert!(!peer.refuse("sid", &fixtures::reject(code)));
        peer.poll_frame().unwrap().texts().concat()
    };
    for code in [RejectCode::Unauthenticated, RejectCode::InvalidToken, RejectCode::TokenExpired] {
        assert_eq!(said(code), r#"44{"message":"Unauthorized: No.","data":{"code":"UNAUTHORIZED"}}"#);
    }
    assert_eq!(said(RejectCode::Forbidden), r#"44{"message":"No.","data":{"code":"FORBIDDEN"}}"#);
    let unavailable = r#"44{"message":"No.","data":{"code":"SERVICE_UNAVAILABLE","retryAfterMs":1500}}"#;
    assert_eq!(said(RejectCode::Unavailable), unavailable);
}

/// The arguments a sechat client of either edition could get wrong.
fn arguments() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{1,8}(:[a-z]{1,8})?".prop_map(Value::from),
    ];
    let member = prop::sample::select(vec![
        "type",
        "messageId",
        "conversationId",
        "fromUserId",
        "toUserId",
        "toUserIds",
        "sessionId",
        "body",
        "message",
        "isOnline",
        "isTyping",
        "recipientId",
        "metadata",
    ]);
    leaf.prop_recursive(3, 24, 9, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            9 => prop::collection::btree_map(member.clone().prop_map(str::to_owned), inner, 0..9)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Over Socket.IO: one request or refusal for whatever comes, one acknowledgement where one was asked for,
    /// and no refusal without its `error` event.
    #[test]
    fn over_socketio_anything_is_answered_once(
        name in prop::sample::select(vec![
            "message:send", "receipt:read", "typing", "typing:start", "presence:update", "presence:offline",
            "presence:ping", "register_session", "request_queued_events", "send_message", "typing_indicator",
            "online_status_update", "nonsense", "",
        ]),
        args in prop::collection::vec(arguments(), 0..2),
        packet in prop::option::of(any::<u64>()),
        outcome in 0..fixtures::CODES.len() + 1,
    ) {
        let (dialect, framing, style) = (Dialect::Sechat, Framing::Socketio, Style::default());
        let mut peer = Peer::new(Settings { dialect, framing, style, max_depth: 32, salt: 1 });
        let args: Vec<_> = args.iter().map(|v| serde_json::value::to_raw_value(v).unwrap()).collect();
        let args: Vec<_> = args.iter().map(|a| &**a).collect();
        peer.receive_event(name, &args, packet, fixtures::NOW);
        let (tag, read) = peer.poll_request().unwrap();
        prop_assert!(peer.poll_request().is_none());
        let result = match (read, fixtures::CODES.get(outcome)) {
            (Err(reject), _) => Err(reject),
            (Ok(_), Some(code)) => Err(fixtures::reject(*code)),
            (Ok(_), None) => fixtures::result("done"),
        };
        peer.answer(&tag, &result, fixtures::NOW);
        let mut texts = Vec::new();
        while let Some(frame) = peer.poll_frame() {
            texts.extend(frame.texts().into_iter().map(str::to_owned));
        }
        let acks = texts.iter().filter(|t| t.starts_with("43")).count();
        let errors = texts.iter().filter(|t| t.starts_with(r#"42["error",{"type":"error""#)).count();
        prop_assert_eq!((acks, errors), (usize::from(packet.is_some()), usize::from(result.is_err())));
        prop_assert_eq!(texts.len(), acks + errors);
    }
}
