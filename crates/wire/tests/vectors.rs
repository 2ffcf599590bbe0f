//! Golden vectors: every file of `vectors/<dialect>/*.json` holds one vector or an array of them; each is
//! played against the public interface. A vector is added without touching this file.
//!
//! - `{"name","direction":"in","dialect","frame":{…}|"text":"…","expect":{"request":"<Debug>"}|{"replies":[…]}}`
//! - `{"name","direction":"out","accent","event":"<fixture>","seq"?,"expect":[…]}`
//! - `{"name","direction":"answer","dialect","frame"|"text","result":"<fixture>","expect":[…]}`
//!
//! Inward and answering vectors may say `"before":[frames]` (played first, output dropped), `"user":"<id>"`
//! (who is authenticated), `"accent"` (spoken afterwards) and `"deprecated":true|false`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixtures;

use std::path::Path;

use parlance_model::UserId;
use parlance_wire::{Accent, Dialect, Encoded, Peer, Settings, encode};
use serde_json::Value;

#[test]
fn sechat_vectors() {
    play_all("sechat");
}

#[test]
fn socialhub_vectors() {
    play_all("socialhub");
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
    peer.receive(&inbound(vector), fixtures::NOW);
    let expect = &vector["expect"];
    let request = peer.poll_request();
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
    let encoded = encode(accent(string(vector, "accent")), &event);
    let got = encoded.map(|e| texts(&e.seal(seq))).unwrap_or_default();
    same("frames", &vector["expect"], &Value::Array(got))
}

fn answer(vector: &Value, dialect: &str) -> Result<(), String> {
    let mut peer = peer(vector, dialect);
    peer.receive(&inbound(vector), fixtures::NOW);
    let Some((tag, _)) = peer.poll_request() else {
        return Err(format!("no request; replies {}", drained(&mut peer)));
    };
    peer.answer(&tag, &fixtures::result(string(vector, "result")), fixtures::NOW);
    same("answer", &vector["expect"], &drained(&mut peer))?;
    spoken(vector, &peer)
}

fn peer(vector: &Value, folder: &str) -> Peer {
    let name = vector.get("dialect").and_then(Value::as_str).unwrap_or(folder);
    let dialect = Dialect::parse(name).expect("a dialect's name");
    let mut peer = Peer::new(Settings { dialect, max_depth: 32, salt: 1 });
    if let Some(user) = vector.get("user").and_then(Value::as_str) {
        peer.set_user(UserId::parse(user).unwrap());
    }
    for frame in vector.get("before").and_then(Value::as_array).into_iter().flatten() {
        peer.receive(&frame.to_string(), fixtures::NOW);
        while peer.poll_request().is_some() || peer.poll_frame().is_some() {}
    }
    peer
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

fn texts(encoded: &Encoded) -> Vec<Value> {
    encoded.texts().into_iter().map(|text| serde_json::from_str(text).expect(text)).collect()
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
    [Accent::SechatV2, Accent::SechatV1, Accent::Socialhub]
        .into_iter()
        .find(|a| format!("{a:?}") == name)
        .unwrap_or_else(|| panic!("no accent {name}"))
}

fn string<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("{key} missing in {vector}"))
}

fn same(what: &str, expected: &Value, got: &Value) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("{what}: expected\n  {expected}\ngot\n  {got}")) }
}
