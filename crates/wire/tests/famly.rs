//! famly through the peer, where one vector is not enough: lengths in characters, drop classes, refused
//! connections, and what must hold of anything a client sends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixtures;

use std::collections::BTreeSet;

use parlance_model::{Command, Event, MessageEvent, MessageId, Receipt, ReceiptTarget, RejectCode, Time};
use parlance_wire::{Accent, Class, Dialect, Encoded, Framing, Peer, Settings, Style, Tag};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const ACCENTS: [Accent; 3] = [Accent::Famly, Accent::FamlyOwn, Accent::FamlyAside];
const EVENTS: [&str; 8] = [
    "room:join",
    "room:leave",
    "message:send",
    "receipt:read",
    "typing:start",
    "typing:stop",
    "presence:ping",
    "nonsense",
];

fn peer() -> Peer {
    let style = Style::default();
    Peer::new(Settings { dialect: Dialect::Famly, framing: Framing::Socketio, style, max_depth: 32, salt: 1 })
}

fn encode(accent: Accent, event: &Event) -> Option<Encoded> {
    parlance_wire::encode(accent, &Style::default(), event)
}

fn receive(peer: &mut Peer, name: &str, args: &[&str], packet: Option<u64>) {
    let args: Vec<&RawValue> = args.iter().map(|a| serde_json::from_str(a).unwrap()).collect();
    peer.receive_event(name, &args, packet, fixtures::NOW);
}

fn heard(peer: &mut Peer) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(frame) = peer.poll_frame() {
        all.extend(frame.texts().into_iter().map(str::to_owned));
    }
    all
}

/// Whether a message with this body and client id (JSON texts) is well formed.
fn takes(body: &str, client_id: &str) -> bool {
    let mut peer = peer();
    let payload = format!(r#"{{"chatId":"c1","body":{body},"clientId":{client_id}}}"#);
    receive(&mut peer, "message:send", &[&payload], Some(0));
    peer.poll_request().unwrap().1.is_ok()
}

#[test]
fn lengths_count_characters_not_bytes_and_not_utf16() {
    for one in ["x", "é", "漢", "😀"] {
        let of = |count: usize| serde_json::to_string(&one.repeat(count)).unwrap();
        assert!(takes(&of(1), r#""k""#) && takes(&of(8000), r#""k""#), "8000 of {one}");
        assert!(!takes(&of(8001), r#""k""#), "8001 of {one}");
        assert!(takes(r#""b""#, &of(128)) && !takes(r#""b""#, &of(129)), "client id of {one}");
    }
    assert!(!takes(r#""""#, r#""k""#));
}

#[test]
fn an_escaped_pair_of_surrogates_is_one_character_and_half_of_one_is_refused() {
    let pairs = |count: usize| format!("\"{}\"", r"\ud83d\ude00".repeat(count));
    assert!(takes(&pairs(8000), r#""k""#) && !takes(&pairs(8001), r#""k""#));
    for half in [r#""\ud83d""#, r#""\ude00""#, r#""a\ud83db""#, r#""\ude00\ud83d""#] {
        assert!(!takes(half, r#""k""#), "body {half}");
        assert!(!takes(r#""b""#, half), "client id {half}");
    }
}

#[test]
fn only_typing_and_presence_may_be_dropped() {
    for accent in ACCENTS {
        for name in ["typing_on", "typing_off", "presence_online", "presence_offline"] {
            assert_eq!(encode(accent, &fixtures::event(name)).unwrap().class(), Class::Passing, "{name}");
        }
        for name in ["message", "famly_read", "member_added", "title_changed", "resync"] {
            assert_eq!(encode(accent, &fixtures::event(name)).unwrap().class(), Class::Kept, "{name}");
        }
    }
}

#[test]
fn only_log_events_have_an_offset() {
    for accent in ACCENTS {
        for (name, seq) in [("message", Some(7)), ("member_added", Some(9)), ("title_changed", Some(9))] {
            let offset = encode(accent, &fixtures::event(name)).unwrap().offset();
            assert_eq!(offset.map(|o| (o.number, o.seq)), seq.map(|s| (1 << 30, s)), "{name}");
        }
        for name in ["typing_on", "presence_online", "famly_read", "resync"] {
            assert_eq!(encode(accent, &fixtures::event(name)).unwrap().offset(), None, "{name}");
        }
    }
}

/// A client takes any trailing string for an offset.
#[test]
fn every_event_ends_with_an_object_unless_with_an_offset() {
    for name in ["message", "famly_read", "typing_on", "presence_online", "famly_swap", "resync"] {
        for text in encode(Accent::Famly, &fixtures::event(name)).unwrap().texts() {
            assert!(text.starts_with("42[") && text.ends_with("}]"), "{text}");
        }
    }
}

#[test]
fn a_connection_is_refused_in_the_documented_words() {
    let said = |code| {
        let mut peer = peer();
        assert!(!peer.refuse("sid", &fixtures::reject(code)), "the client may try again on the transport");
        heard(&mut peer).concat()
    };
    assert_eq!(said(RejectCode::Unauthenticated), r#"44{"message":"Authentication token required"}"#);
    for code in [RejectCode::InvalidToken, RejectCode::TokenExpired] {
        assert_eq!(said(code), r#"44{"message":"Authentication failed"}"#);
    }
    assert_eq!(said(RejectCode::TooManyConnections), r#"44{"message":"No.","data":{"code":"RATE_LIMITED"}}"#);
    assert_eq!(
        said(RejectCode::Unavailable),
        r#"44{"message":"Service temporarily unavailable","data":{"code":"INTERNAL","retryAfterMs":1500}}"#
    );
    assert_eq!(said(RejectCode::Forbidden), r#"44{"message":"No.","data":{"code":"FORBIDDEN"}}"#);
}

#[test]
fn made_up_correlation_ids_are_uuids_that_never_repeat() {
    let mut peer = peer();
    for id in 0..50 {
        receive(&mut peer, "nonsense", &["{}"], Some(id));
    }
    while let Some((tag, result)) = peer.poll_request() {
        peer.answer(&tag, &Err(result.unwrap_err()), fixtures::NOW);
    }
    let ids: BTreeSet<String> = heard(&mut peer)
        .iter()
        .map(|text| {
            let ack: Value = serde_json::from_str(&text[text.find('[').unwrap()..]).unwrap();
            let id = ack[0]["correlationId"].as_str().unwrap().to_owned();
            assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
            id
        })
        .collect();
    assert_eq!(ids.len(), 50);
}

#[test]
fn a_word_under_no_request_is_silence() {
    for code in fixtures::CODES {
        let mut peer = peer();
        peer.answer(&Tag::default(), &Err(fixtures::reject(code)), fixtures::NOW);
        assert!(heard(&mut peer).is_empty(), "{code:?}");
    }
}

/// Any JSON, deep enough to matter.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[0-9a-f]{24}".prop_map(Value::from),
    ];
    let member = prop_oneof![
        Just("chatId".to_owned()),
        Just("body".to_owned()),
        Just("clientId".to_owned()),
        Just("messageId".to_owned()),
        ".{0,4}",
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(member.clone(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever the arguments: no panic, one request or refusal, and one ack where one was asked for.
    #[test]
    fn anything_is_answered_once(
        name in prop_oneof![proptest::sample::select(&EVENTS[..]).prop_map(str::to_owned), ".{0,80}"],
        args in prop::collection::vec(values(), 0..3),
        packet in prop::option::of(any::<u64>()),
        outcome in 0..fixtures::CODES.len() + 1,
    ) {
        let mut peer = peer();
        let args: Vec<String> = args.iter().map(Value::to_string).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        receive(&mut peer, &name, &args, packet);
        let (tag, result) = peer.poll_request().unwrap();
        prop_assert!(peer.poll_request().is_none());
        let result = match (result, fixtures::CODES.get(outcome)) {
            (Err(reject), _) => Err(reject),
            (Ok(_), Some(code)) => Err(fixtures::reject(*code)),
            (Ok(_), None) => fixtures::result("done"),
        };
        peer.answer(&tag, &result, fixtures::NOW);
        let heard = heard(&mut peer);
        prop_assert_eq!(heard.len(), usize::from(packet.is_some()));
        if let Some(id) = packet {
            let prefix = format!("43{id}[{{\"ok\":");
            prop_assert!(heard[0].starts_with(&prefix), "{}", heard[0]);
            prop_assert!(serde_json::from_str::<Value>(&heard[0][prefix.len() - 7..]).is_ok(), "{}", heard[0]);
        }
    }

    /// What a recipient is shown of a message is what was sent, twice over; and the id shown reads back.
    #[test]
    fn a_message_arrives_as_it_was_sent(
        body in any::<String>(), client_id in ".{1,40}",
        number in 0u32..1 << 31, offset in 0u32..1 << 22, seconds in 0u32..,
    ) {
        let mut event: MessageEvent = fixtures::message_event();
        event.message.body = body.as_str().into();
        event.message.client_id = Some(client_id.as_str().into());
        event.id = MessageId::new(number, offset).unwrap();
        event.at = Time::from_millis(u64::from(seconds) * 1000);
        let encoded = encode(Accent::FamlyOwn, &Event::Message(event.clone())).unwrap();
        let shown: Value = serde_json::from_str(&encoded.texts()[0][2..]).unwrap();
        for place in [&shown[1], &shown[1]["message"]] {
            prop_assert_eq!(&place["body"], &json!(body));
            prop_assert_eq!(&place["clientId"], &json!(client_id));
            prop_assert_eq!(&place["_id"], &shown[1]["_id"]);
        }
        let read = json!({ "chatId": "c1", "messageId": shown[1]["_id"] }).to_string();
        let mut peer = peer();
        receive(&mut peer, "receipt:read", &[&read], None);
        let Command::Receipt(Receipt { target, .. }) = peer.poll_request().unwrap().1.unwrap().command else {
            return Err(TestCaseError::fail("no receipt"));
        };
        prop_assert_eq!(target, ReceiptTarget::UpTo { conversation: fixtures::conversation(), id: event.id });
    }

    /// 24 hex digits are never a fault of shape, whatever they are.
    #[test]
    fn every_object_id_is_well_formed(id in "[0-9a-fA-F]{24}") {
        let mut peer = peer();
        receive(&mut peer, "receipt:read", &[&json!({ "chatId": "c1", "messageId": id }).to_string()], Some(0));
        prop_assert!(peer.poll_request().unwrap().1.is_ok());
    }
}
