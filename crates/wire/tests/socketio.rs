//! Socket.IO: golden vectors and properties.
//!
//! `vectors/socketio/decode.json` holds `{"name","frames":[text|{"base64"}],"expect":[packet|"error"]}`, recorded
//! from `socket.io-parser` 4.2; where this side means to differ, `why` says so and `reference` keeps what the
//! reference does; `client` is what a client's decoder makes of it. `encode.json` holds calls and the text the
//! reference's encoder writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use parlance_wire::engineio;
use parlance_wire::socketio::{
    Decoder, Kind, MAIN, Malformed, Packet, ack, arguments, binary_ack, binary_event, connect, connect_error,
    disconnect, event, event_text,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/socketio/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let all: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(!all.is_empty());
    all
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Connect => "connect",
        Kind::Disconnect => "disconnect",
        Kind::Event => "event",
        Kind::Ack => "ack",
        Kind::ConnectError => "connect_error",
        Kind::BinaryEvent => "binary_event",
        Kind::BinaryAck => "binary_ack",
    }
}

/// JSON in one form, if it can be read into a tree at all.
fn canonical(text: &str) -> String {
    serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
}

fn feed(decoder: &mut Decoder, frame: &Value) -> Result<Option<Packet>, Malformed> {
    match frame.as_str() {
        Some(text) => decoder.text(text),
        None => decoder.binary(STANDARD.decode(frame["base64"].as_str().unwrap()).unwrap().into()),
    }
}

/// Plays frames until the first error.
fn play(mut decoder: Decoder, frames: &Value) -> Vec<Result<Packet, Malformed>> {
    let mut out = Vec::new();
    for frame in frames.as_array().unwrap() {
        match feed(&mut decoder, frame) {
            Ok(Some(packet)) => out.push(Ok(packet)),
            Ok(None) => assert!(decoder.is_waiting()),
            Err(error) => {
                out.push(Err(error));
                break;
            }
        }
    }
    out
}

fn check(name: &str, got: &[Result<Packet, Malformed>], expect: &Value) {
    let expect = expect.as_array().unwrap();
    assert_eq!(got.len(), expect.len(), "{name}: {got:?}");
    for (got, expect) in got.iter().zip(expect) {
        let Ok(packet) = got else {
            assert_eq!(*expect, json!("error"), "{name}: {got:?}");
            continue;
        };
        assert_eq!(json!(kind(packet.kind)), expect["kind"], "{name}");
        assert_eq!(json!(packet.namespace), expect["namespace"], "{name}");
        assert_eq!(json!(packet.id), expect["id"], "{name}");
        let data = packet.data.as_deref().map(|data| canonical(data.get()));
        assert_eq!(data, expect["data"].as_str().map(canonical), "{name}");
        let attachments: Vec<String> = packet.attachments.iter().map(|b| STANDARD.encode(b)).collect();
        let expected = expect.get("attachments").cloned().unwrap_or(json!([]));
        assert_eq!(json!(attachments), expected, "{name}");
        if packet.kind.is_event() && packet.data.is_some() {
            let (called, args) = event(packet.data.as_deref().unwrap()).unwrap();
            if let Some(expected) = expect.get("event") {
                assert_eq!(json!(called), *expected, "{name}");
                let args: Vec<&str> = args.iter().map(|arg| arg.get()).collect();
                let args: Vec<String> = args.into_iter().map(canonical).collect();
                assert_eq!(json!(args), expect["args"], "{name}");
            }
        }
    }
}

#[test]
fn packets_read_as_in_the_reference() {
    for vector in vectors("decode") {
        let name = vector["name"].as_str().unwrap();
        check(name, &play(Decoder::new(10, 32), &vector["frames"]), &vector["expect"]);
        let client = vector.get("client").unwrap_or(&vector["expect"]);
        check(name, &play(Decoder::of_client(10, 32), &vector["frames"]), client);
    }
}

#[test]
fn a_packet_is_written_as_it_was_read() {
    let mut seen = 0;
    for vector in vectors("decode") {
        for packet in play(Decoder::new(10, 32), &vector["frames"]).into_iter().flatten() {
            let mut frames = vec![json!(packet.to_text())];
            frames.extend(packet.attachments.iter().map(|b| json!({"base64": STANDARD.encode(b)})));
            let again = play(Decoder::new(10, 32), &json!(frames));
            assert_eq!(format!("{again:?}"), format!("{:?}", [Ok::<_, Malformed>(packet)]));
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn packets_are_written_as_in_the_reference() {
    for vector in vectors("encode") {
        let text = |key: &str| vector.get(key).and_then(Value::as_str);
        let must = |key: &str| text(key).unwrap();
        let namespace = text("namespace").unwrap_or(MAIN);
        let id = vector.get("id").and_then(Value::as_u64);
        let count = vector.get("attachments").and_then(Value::as_u64).unwrap_or_default() as usize;
        let args: Vec<&str> = vector
            .get("args")
            .map(|args| args.as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect())
            .unwrap_or_default();
        let written = match must("call") {
            "connect" => connect(namespace, must("sid"), text("pid")),
            "connect_error" => connect_error(namespace, must("message"), text("data")),
            "disconnect" => disconnect(namespace),
            "event" => event_text(namespace, id, must("event"), &args, text("offset")),
            "ack" => ack(namespace, id.unwrap(), &args),
            "binary_event" => binary_event(namespace, id, must("data"), count),
            "binary_ack" => binary_ack(namespace, id.unwrap(), must("data"), count),
            other => panic!("no such call: {other}"),
        };
        assert_eq!(written, must("expect"), "{}", must("name"));
    }
}

#[test]
fn json_nests_only_so_deep() {
    let nested = |depth: usize| format!("2[\"a\",{}{}]", "[".repeat(depth), "]".repeat(depth));
    assert!(Decoder::new(10, 4).text(&nested(3)).is_ok());
    assert_eq!(Decoder::new(10, 4).text(&nested(4)).unwrap_err().reason(), "JSON is nested too deeply");
    let wide = "2[\"a\",[],[],{},[],\"[[[[[[[\"]";
    assert!(Decoder::new(10, 2).text(wide).unwrap().is_some(), "brackets beside each other do not nest");
    let mine = format!("2{}", "[".repeat(1_000_000));
    assert!(Decoder::new(10, 32).text(&mine).is_err());
}

#[test]
fn attachments_may_be_forbidden() {
    assert!(Decoder::new(0, 32).text("51-[\"a\"]").is_err());
    assert!(Decoder::new(2, 32).text("52-[\"a\"]").unwrap().is_none());
    assert_eq!(Decoder::new(2, 32).text("53-[\"a\"]").unwrap_err().reason(), "too many attachments");
}

#[test]
fn names_and_arguments_are_looked_up() {
    let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    let data = raw(r#"["na\u006de", {"a": [1, 2]}, "x"]"#);
    let (name, args) = event(&data).unwrap();
    assert_eq!(name, "name");
    assert_eq!(args.iter().map(|a| a.get()).collect::<Vec<_>>(), [r#"{"a": [1, 2]}"#, r#""x""#]);
    for wrong in ["{}", "[]", "[null]", "\"a\"", "[\"connect\"]"] {
        assert!(event(&raw(wrong)).is_err(), "{wrong}");
    }
    assert_eq!(arguments(&raw("[]")).unwrap().len(), 0);
    assert!(arguments(&raw("{}")).is_err());
}

/// JSON as clients send it.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z_]{0,12}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn namespace() -> impl Strategy<Value = String> {
    prop_oneof![Just(MAIN.to_owned()), "/[^,]{0,12}"]
}

fn frame() -> impl Strategy<Value = Result<String, Vec<u8>>> {
    prop_oneof![
        ".*".prop_map(Ok),
        "[0-6]([0-9]{0,2}-)?(/[a-z]*,)?[0-9]{0,3}(\\[\"[a-z]{0,4}\"(,[0-9{}\\[\\]\"a-z:]*)?\\]|\\{\\})?"
            .prop_map(Ok),
        "[56][1-3]-\\[\"a\",\\{\"_placeholder\":true,\"num\":[0-3]\\}\\]".prop_map(Ok),
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(Err),
    ]
}

/// The fuzzer's corpus (`fuzz/fuzz_targets/socketio_decode.rs`), without a fuzzer.
#[test]
fn the_corpus_is_survived() {
    let mut files = 0;
    for entry in
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/socketio_decode")).unwrap()
    {
        let text = String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned();
        let mut decoder = Decoder::new(10, 32);
        for part in engineio::split(&text).flatten() {
            let result = match part {
                engineio::Part::Packet(engineio::Packet::Message(text)) => decoder.text(text),
                engineio::Part::Packet(_) => continue,
                engineio::Part::Binary(bytes) => decoder.binary(bytes.into()),
            };
            let Ok(packet) = result else { break };
            let Some(packet) = packet else { continue };
            if let Some(data) = &packet.data {
                assert!(!packet.kind.is_event() || event(data).is_ok(), "{text:?}");
                assert!(!packet.kind.is_ack() || arguments(data).is_ok(), "{text:?}");
            }
        }
        files += 1;
    }
    assert!(files > 0, "the corpus is empty");
}

proptest! {
    /// Whatever comes, in whatever order: no panic, attachments only of binary packets and as many as were
    /// announced, and every event has a readable name.
    #[test]
    fn the_decoder_keeps_its_state(frames in proptest::collection::vec(frame(), 0..24)) {
        let mut decoder = Decoder::new(3, 8);
        for frame in frames {
            let waiting = decoder.is_waiting();
            let text = frame.is_ok();
            let result = match frame {
                Ok(text) => decoder.text(&text),
                Err(bytes) => decoder.binary(Bytes::from(bytes)),
            };
            match result {
                Err(_) => prop_assert!(!decoder.is_waiting(), "an error forgets what was pending"),
                Ok(None) => prop_assert!(decoder.is_waiting()),
                Ok(Some(packet)) => {
                    prop_assert!(waiting != text && !decoder.is_waiting());
                    prop_assert_eq!(packet.kind.is_binary(), waiting);
                    prop_assert!(packet.attachments.is_empty() != waiting && packet.attachments.len() <= 3);
                    if let (true, Some(data)) = (packet.kind.is_event(), &packet.data) {
                        prop_assert!(event(data).is_ok());
                    }
                    if let (true, Some(data)) = (packet.kind.is_ack(), &packet.data) {
                        prop_assert!(arguments(data).is_ok());
                    }
                }
            }
        }
    }

    #[test]
    fn events_read_as_they_were_written(
        namespace in namespace(), id: Option<u64>, name in ".*", args in proptest::collection::vec(tree(), 0..4),
        offset in proptest::option::of("[0-9]{1,6}-[0-9]{1,6}"),
    ) {
        let args: Vec<String> = args.iter().map(Value::to_string).collect();
        let text = event_text(&namespace, id, &name, &args, offset.as_deref());
        let packet = Decoder::new(10, 32).text(&text).unwrap().unwrap();
        prop_assert_eq!((packet.kind, &packet.namespace, packet.id), (Kind::Event, &namespace, id));
        let (read, all) = event(packet.data.as_deref().unwrap()).unwrap();
        prop_assert_eq!(read, name);
        let mut sent = args;
        sent.extend(offset.map(|offset| format!("\"{offset}\"")));
        prop_assert_eq!(all.iter().map(|arg| arg.get()).collect::<Vec<_>>(), sent);
    }

    #[test]
    fn acks_read_as_they_were_written(
        namespace in namespace(), id: u64, args in proptest::collection::vec(tree(), 0..4),
    ) {
        let args: Vec<String> = args.iter().map(Value::to_string).collect();
        let packet = Decoder::new(10, 32).text(&ack(&namespace, id, &args)).unwrap().unwrap();
        prop_assert_eq!((packet.kind, &packet.namespace, packet.id), (Kind::Ack, &namespace, Some(id)));
        let all = arguments(packet.data.as_deref().unwrap()).unwrap();
        prop_assert_eq!(all.iter().map(|arg| arg.get()).collect::<Vec<_>>(), args);
    }

    #[test]
    fn consent_and_refusal_read_as_they_were_written(namespace in namespace(), a in ".*", b in ".*") {
        let mut client = Decoder::of_client(10, 32);
        let packet = client.text(&connect(&namespace, &a, Some(&b))).unwrap().unwrap();
        prop_assert_eq!((packet.kind, &packet.namespace), (Kind::Connect, &namespace));
        let data: Value = serde_json::from_str(packet.data.unwrap().get()).unwrap();
        prop_assert_eq!(data, json!({"sid": a, "pid": b}));
        let packet = client.text(&connect_error(&namespace, &a, Some("[1]"))).unwrap().unwrap();
        prop_assert_eq!(packet.kind, Kind::ConnectError);
        let data: Value = serde_json::from_str(packet.data.unwrap().get()).unwrap();
        prop_assert_eq!(data, json!({"message": a, "data": [1]}));
        let packet = client.text(&disconnect(&namespace)).unwrap().unwrap();
        prop_assert_eq!((packet.kind, &packet.namespace), (Kind::Disconnect, &namespace));
    }
}
