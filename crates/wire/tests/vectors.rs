//! Golden vectors: every file of `vectors/<dialect>/*.json` holds one vector or an array of them; each is
//! played against the public interface. A vector is added without touching this file.
//!
//! - `{"name","direction":"in","dialect","frame":{…}|"text":"…","expect":{"request":"<Debug>"}|{"replies":[…]}}`
//! - `{"name","direction":"out","accent","event":"<fixture>","seq"?,"expect":[…]}`
//! - `{"name","direction":"answer","dialect","frame"|"text","result":"<fixture>","expect":[…]}`
//!
//! - Socket.IO: instead of `frame`, `"call":["<event>",…arguments]` and `"packet":<ack id>`; output packets are
//!   `["42",[…]]`. `out` may say `"namespace"`, `"strip":true`, `"offsets":true` (last offset 9-9). `answer` may
//!   say `"unasked":true`: the answer stands under no request (a greeting, an expired token).
//!
//! Inward and answering vectors may say `"before":[frames]` (played first, output dropped), `"user":"<id>"`
//! (who is authenticated), `"accent"` (spoken afterwards) and `"deprecated":true|false`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixtures;

use std::path::Path;

use parlance_model::UserId;
use parlance_wire::{Accent, Dialect, Encoded, Framing, Offset, Peer, Settings, Style, Tag, encode};
use serde_json::Value;

#[test]
fn sechat_vectors() {
    play_all("sechat");
}

#[test]
fn socialhub_vectors() {
    play_all("socialhub");
}

#[test]
fn famly_vectors() {
    play_all("famly");
}

#[test]
fn lingochat_vectors() {
    play_all("lingochat");
}

#[test]
fn chatgenius_vectors() {
    play_all("chatgenius");
}

fn play_all(dialect: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(dialect);
    let mut names = std::collections::BTreeSet::new();
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let vectors = match file {
            Value::Array(all) => all,
            one => vec![one],
        };
        for vector in vectors {
            let name = string(&vector, "name");
            assert!(names.insert(name.to_owned()), "{name} occurs twice");
            let played = match string(&vector, "direction") {
                "in" => inward(&vector, dialect),
                "out" => outward(&vector),
                "answer" => answer(&vector, dialect),
                other => panic!("{name}: direction {other}"),
            };
            if let Err(why) = played {
                failures.push(format!("{}: {name}\n{why}", path.file_name().unwrap().display()));
            }
        }
    }
    assert!(!names.is_empty(), "no vectors for {dialect}");
    assert!(failures.is_empty(), "{} failed\n\n{}", failures.len(), failures.join("\n\n"));
}

fn inward(vector: &Value, dialect: &str) -> Result<(), String> {
    let mut peer = peer(vector, dialect);
    receive(&mut peer, vector);
    let expect = &vector["expect"];
    let request = match peer.poll_request() {
        Some((tag, Ok(request))) => Some((tag, request)),
        Some((tag, Err(reject))) => {
            peer.answer(&tag, &Err(reject), fixtures::NOW);
            None
        }
        None => None,
    };
    same("replies", &expect.get("replies").cloned().unwrap_or(Value::Array(vec![])), &drained(&mut peer))?;
    let got = request.as_ref().map(|(_, request)| format!("{request:?}"));
    let wanted = expect.get("request").and_then(Value::as_str).map(str::to_owned);
    if got != wanted {
        return Err(format!("request: expected\n  {wanted:?}\ngot\n  {got:?}"));
    }
    if let (Some(wanted), Some((tag, _))) = (vector.get("deprecated"), &request) {
        same("deprecated", wanted, &Value::Bool(tag.deprecated()))?;
    }
    spoken(vector, &peer)
}

fn outward(vector: &Value) -> Result<(), String> {
    let event = fixtures::event(string(vector, "event"));
    let seq = vector.get("seq").and_then(Value::as_u64).unwrap_or(7);
    let style = Style {
        namespace: vector.get("namespace").and_then(Value::as_str).map(Into::into),
        strip: vector.get("strip").is_some_and(|v| v == true),
        offsets: vector.get("offsets").is_some_and(|v| v == true),
    };
    let encoded = encode(accent(string(vector, "accent")), &style, &event);
    let last = Offset { number: 9, seq: 9 };
    let got = encoded.map(|e| texts(&e.seal(seq).seal_offset(last))).unwrap_or_default();
    same("frames", &vector["expect"], &Value::Array(got))
}

fn answer(vector: &Value, dialect: &str) -> Result<(), String> {
    let mut peer = peer(vector, dialect);
    let tag = if vector.get("unasked").is_some_and(|v| v == true) {
        Tag::default()
    } else {
        receive(&mut peer, vector);
        match peer.poll_request() {
            Some((tag, Ok(_))) => tag,
            other => return Err(format!("no request: {other:?}")),
        }
    };
    peer.answer(&tag, &fixtures::result(string(vector, "result")), fixtures::NOW);
    same("answer", &vector["expect"], &drained(&mut peer))?;
    spoken(vector, &peer)
}

fn peer(vector: &Value, folder: &str) -> Peer {
    let name = vector.get("dialect").and_then(Value::as_str).unwrap_or(folder);
    let dialect = Dialect::parse(name).expect("a dialect's name");
    let framing = match vector.get("framing").and_then(Value::as_str) {
        Some(name) => Framing::parse(name).expect("a framing's name"),
        None if dialect.speaks(Framing::Raw) => Framing::Raw,
        None => Framing::Socketio,
    };
    let style = Style::default();
    let mut peer = Peer::new(Settings { dialect, framing, style, max_depth: 32, salt: 1 });
    if let Some(user) = vector.get("user").and_then(Value::as_str) {
        peer.set_user(UserId::parse(user).unwrap());
    }
    for frame in vector.get("before").and_then(Value::as_array).into_iter().flatten() {
        match frame.as_array() {
            Some(call) => receive_call(&mut peer, call, None),
            None => peer.receive(&frame.to_string(), fixtures::NOW),
        }
        while peer.poll_request().is_some() || peer.poll_frame().is_some() {}
    }
    peer
}

/// Plays the vector's frame, or its Socket.IO event (`"call":[name,…arguments]`, `"packet":ack id`).
fn receive(peer: &mut Peer, vector: &Value) {
    match vector.get("call").and_then(Value::as_array) {
        Some(call) => receive_call(peer, call, vector.get("packet").and_then(Value::as_u64)),
        None => peer.receive(&inbound(vector), fixtures::NOW),
    }
}

fn receive_call(peer: &mut Peer, call: &[Value], packet: Option<u64>) {
    let args: Vec<_> = call[1..].iter().map(|v| serde_json::value::to_raw_value(v).unwrap()).collect();
    let args: Vec<&serde_json::value::RawValue> = args.iter().map(|a| &**a).collect();
    peer.receive_event(call[0].as_str().unwrap(), &args, packet, fixtures::NOW);
}

fn inbound(vector: &Value) -> String {
    match vector.get("text").and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => vector.get("frame").expect("frame or text").to_string(),
    }
}

fn drained(peer: &mut Peer) -> Value {
    let mut all = Vec::new();
    while let Some(encoded) = peer.poll_frame() {
        all.extend(texts(&encoded));
    }
    Value::Array(all)
}

/// A Socket.IO packet is shown as `[prefix, data]`: `["42",["message:new",{…}]]`.
fn texts(encoded: &Encoded) -> Vec<Value> {
    let one = |text: &str| match text.find(['{', '[']) {
        Some(0) => serde_json::from_str(text).expect(text),
        Some(at) => serde_json::json!([&text[..at], serde_json::from_str::<Value>(&text[at..]).expect(text)]),
        None => Value::from(text),
    };
    encoded.texts().into_iter().map(one).collect()
}

fn spoken(vector: &Value, peer: &Peer) -> Result<(), String> {
    match vector.get("accent").and_then(Value::as_str) {
        Some(name) if accent(name) != peer.accent() => {
            Err(format!("accent: expected {name}, got {:?}", peer.accent()))
        }
        _ => Ok(()),
    }
}

fn accent(name: &str) -> Accent {
    Accent::ALL.into_iter().find(|a| format!("{a:?}") == name).unwrap_or_else(|| panic!("no accent {name}"))
}

fn string<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("{key} missing in {vector}"))
}

fn same(what: &str, expected: &Value, got: &Value) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("{what}: expected\n  {expected}\ngot\n  {got}")) }
}
