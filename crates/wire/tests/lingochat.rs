//! lingochat beyond its vectors: refused handshakes, values a vector cannot spell, and that nothing a client
//! sends is left without a word.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixtures;

use parlance_model::{
    Command, Event, Receipt, ReceiptTarget, Reject, RejectCode, Request, Role, Since, Time,
};
use parlance_wire::{Accent, Dialect, Framing, Peer, Settings, Style, Tag, encode};
use proptest::prelude::*;
use serde_json::{Value, json, value::RawValue};

/// Every command of the protocol.
const COMMANDS: [&str; 11] = [
    "conversation:join",
    "conversation:leave",
    "message:delivered",
    "message:read",
    "message:send",
    "messages:sync",
    "room:join",
    "room:leave",
    "room:message",
    "typing:start",
    "typing:stop",
];

fn peer() -> Peer {
    let (dialect, framing) = (Dialect::Lingochat, Framing::Socketio);
    Peer::new(Settings { dialect, framing, style: Style::default(), max_depth: 32, salt: 1 })
}

fn said(peer: &mut Peer) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(frame) = peer.poll_frame() {
        all.extend(frame.texts().into_iter().map(str::to_owned));
    }
    all
}

/// Plays one event whose arguments are given as JSON texts.
fn read(name: &str, args: &[&str]) -> (Tag, Result<Request, Reject>) {
    let args: Vec<_> = args.iter().map(|a| RawValue::from_string((*a).to_owned()).unwrap()).collect();
    let args: Vec<&RawValue> = args.iter().map(|a| &**a).collect();
    let mut peer = peer();
    peer.receive_event(name, &args, Some(0), fixtures::NOW);
    peer.poll_request().expect("every event has a result")
}

fn number(name: &str, arg: &str) -> Option<Option<u32>> {
    read(name, &[arg]).1.ok().map(|request| request.number)
}

#[test]
fn a_handshake_is_refused_in_the_words_the_application_knows() {
    let code = |code| Reject::new(code, "No.");
    for (reject, message) in [
        (code(RejectCode::Unauthenticated), "Authentication token required"),
        (code(RejectCode::InvalidToken), "Invalid or expired token"),
        (code(RejectCode::InvalidToken).field("aud"), "Invalid or expired token"),
        (code(RejectCode::InvalidToken).field("sub"), "Invalid token: missing user identification"),
        (code(RejectCode::TokenExpired), "Token expired"),
        (code(RejectCode::Unavailable), "Service temporarily unavailable"),
        (code(RejectCode::TooManyConnections), "No."),
        (code(RejectCode::Internal), "No."),
    ] {
        let mut peer = peer();
        assert!(!peer.refuse("s", &reject), "the transport stays open for another CONNECT");
        assert_eq!(said(&mut peer), [format!(r#"44{{"message":"{message}"}}"#)]);
    }
}

#[test]
fn a_number_is_what_javascript_writes_for_an_integer() {
    for (arg, expected) in [
        ("42", Some(Some(42))),
        ("0", Some(Some(0))),
        ("2147483647", Some(Some(2_147_483_647))),
        ("\"2147483647\"", Some(Some(2_147_483_647))),
        ("\"\\u0034\\u0032\"", Some(Some(42))),
        ("\"00\"", Some(None)),
        ("\"4e1\"", Some(None)),
        ("\"+42\"", None),
        ("\"-42\"", Some(None)),
        ("\"42.0\"", Some(None)),
        ("2147483648", None),
        ("-0", None),
        ("1.0", None),
        ("1e1", None),
        ("99999999999999999999999999", None),
        ("false", None),
    ] {
        assert_eq!(number("conversation:join", arg), expected, "{arg}");
    }
}

#[test]
fn a_message_is_read_back_by_every_id_it_was_shown_under() {
    let id = fixtures::message_id();
    let seconds = fixtures::NOW.seconds32();
    for shown in [
        id.to_integer().to_string(),
        json!(id.to_integer().to_string()).to_string(),
        json!(id.to_hex24(seconds)).to_string(),
        json!(id.to_uuid(seconds)).to_string(),
        json!(id.to_opaque(seconds)).to_string(),
    ] {
        let Command::Receipt(Receipt { target, .. }) = read("message:read", &[&shown]).1.unwrap().command
        else {
            panic!("{shown}")
        };
        assert_eq!(target, ReceiptTarget::Ids { conversation: None, ids: vec![id] }, "{shown}");
        let Command::History(history) = read("messages:sync", &["42", &shown]).1.unwrap().command else {
            panic!("{shown}")
        };
        assert_eq!(history.since, Since::Message(id), "{shown}");
    }
}

#[test]
fn a_client_syncs_from_the_time_it_was_told() {
    let Event::Message(message) = fixtures::event("lingochat_message") else { panic!() };
    let text = encode(Accent::LingochatPositional, &Style::default(), &Event::Message(message)).unwrap();
    let shown: Value = serde_json::from_str(text.texts()[0].strip_prefix("42").unwrap()).unwrap();
    let since = shown[1]["createdAt"].to_string();
    let Command::History(history) = read("messages:sync", &["42", &since]).1.unwrap().command else {
        panic!()
    };
    assert_eq!(history.since, Since::Time(Time::from_millis(1_755_633_600_000)));
}

#[test]
fn rooms_of_groups_are_joined_as_such() {
    for (name, wanted) in [("conversation:join", Role::Joined), ("room:join", Role::Group)] {
        let Command::Join { role, .. } = read(name, &["42"]).1.unwrap().command else { panic!() };
        assert_eq!(role, wanted);
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0u32..50).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("42")),
        Just(json!("2025-08-19T20:00:00.000Z")),
    ];
    let key = prop_oneof![
        Just("conversationId".to_owned()),
        Just("room_id".to_owned()),
        Just("text".to_owned()),
        Just("content".to_owned()),
        Just("clientMessageId".to_owned()),
        Just("messageId".to_owned()),
        Just("since".to_owned()),
        Just("metadata".to_owned()),
        Just("encrypted".to_owned()),
        Just("senderLanguage".to_owned()),
        Just("translatedText".to_owned()),
        "[a-z]{0,4}",
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

proptest! {
    /// A command is understood, or refused by the event and the acknowledgement; never both, never neither.
    #[test]
    fn every_event_has_one_result(
        name in prop_oneof![prop::sample::select(&COMMANDS[..]).prop_map(str::to_owned), "[a-z:]{0,9}"],
        args in prop::collection::vec(values(), 0..4),
    ) {
        let args: Vec<String> = args.iter().map(Value::to_string).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (tag, result) = read(&name, &args);
        let mut peer = peer();
        let Err(reject) = result else {
            prop_assert!(COMMANDS.contains(&&*name), "{name}");
            return Ok(());
        };
        peer.answer(&tag, &Err(reject), fixtures::NOW);
        let said = said(&mut peer);
        let error: Value = serde_json::from_str(said[0].strip_prefix("42").unwrap()).unwrap();
        let acked: Value = serde_json::from_str(said[1].strip_prefix("430").unwrap()).unwrap();
        prop_assert_eq!(said.len(), 2);
        prop_assert_eq!(&error[0], "error");
        prop_assert_eq!(&acked[0], &json!({ "success": false, "error": error[1] }));
    }
}
