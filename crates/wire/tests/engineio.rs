//! Engine.IO: golden vectors (`vectors/engineio/*.json`, expectations recorded from `engine.io-parser` 5), the
//! handshake's texts, the heartbeat, and properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use parlance_model::Time;
use parlance_wire::engineio::{
    Beat, Heartbeat, Malformed, Open, Packet, Part, Payload, Problem, Query, Transport, binary_text,
    is_session_id, message, parse, part, split,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/engineio/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let all: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(!all.is_empty());
    all
}

fn shown(part: Result<Part<'_>, Malformed>) -> Value {
    let (name, data) = match part {
        Err(Malformed) => return json!("error"),
        Ok(Part::Binary(bytes)) => ("binary", STANDARD.encode(bytes)),
        Ok(Part::Packet(packet)) => match packet {
            Packet::Open(data) => ("open", data.to_owned()),
            Packet::Ping(data) => ("ping", data.to_owned()),
            Packet::Pong(data) => ("pong", data.to_owned()),
            Packet::Message(data) => ("message", data.to_owned()),
            Packet::Close => return json!({"type": "close"}),
            Packet::Upgrade => return json!({"type": "upgrade"}),
            Packet::Noop => return json!({"type": "noop"}),
        },
    };
    json!({"type": name, "data": data})
}

#[test]
fn packets_read_as_in_the_reference() {
    for vector in vectors("packets") {
        let text = vector["text"].as_str().unwrap();
        assert_eq!(shown(part(text)), vector["expect"], "{text:?}");
        if !text.starts_with('b') {
            assert_eq!(parse(text).map(Part::Packet), part(text).ok(), "{text:?}");
        }
    }
    assert_eq!(parse("bAQID"), None, "binary is not a text packet");
}

#[test]
fn payloads_read_as_in_the_reference() {
    for vector in vectors("payloads") {
        let payload = vector["payload"].as_str().unwrap();
        let parts: Vec<Value> = split(payload).map(shown).collect();
        assert_eq!(Value::from(parts), vector["expect"], "{payload:?}");
    }
}

#[test]
fn payloads_are_written_as_in_the_reference() {
    for vector in vectors("joined") {
        let mut payload = Payload::new();
        assert!(payload.is_empty());
        for part in vector["parts"].as_array().unwrap() {
            match part.as_str() {
                Some(text) => payload.push_text(text),
                None => payload.push_binary(&STANDARD.decode(part["base64"].as_str().unwrap()).unwrap()),
            }
        }
        assert_eq!(payload.packets(), vector["parts"].as_array().unwrap().len());
        assert_eq!(payload.len(), vector["expect"].as_str().unwrap().len());
        assert_eq!(payload.into_string(), vector["expect"].as_str().unwrap(), "{}", vector["name"]);
    }
}

#[test]
fn the_open_packet_has_five_keys_in_order() {
    let open = Open {
        sid: "lv_VI97HAXpY6yYWAAAC",
        upgrades: Transport::Polling.upgrades(),
        ping_interval_ms: 25_000,
        ping_timeout_ms: 20_000,
        max_payload: 1_000_000,
    };
    assert_eq!(
        open.to_text(),
        r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
    );
    let open = Open { upgrades: Transport::WebSocket.upgrades(), ..open };
    assert!(open.to_text().contains(r#""upgrades":[],"#));
}

#[test]
fn problems_say_what_the_reference_says() {
    for (problem, status, body) in [
        (Problem::UnknownTransport, 400, r#"{"code":0,"message":"Transport unknown"}"#),
        (Problem::UnknownSid, 400, r#"{"code":1,"message":"Session ID unknown"}"#),
        (Problem::BadHandshakeMethod, 400, r#"{"code":2,"message":"Bad handshake method"}"#),
        (Problem::BadRequest, 400, r#"{"code":3,"message":"Bad request"}"#),
        (Problem::Forbidden, 403, r#"{"code":4,"message":"Forbidden"}"#),
        (Problem::UnsupportedProtocol, 400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
    ] {
        assert_eq!((problem.status(), problem.body().as_str()), (status, body));
    }
}

#[test]
fn queries_are_decoded() {
    let query = Query::parse("EIO=4&transport=polling&t=abc&sid=AAAAAAAAAA%2DAAAAAAAAA+");
    assert!(query.is_version_4());
    assert_eq!(query.known_transport(), Ok(Transport::Polling));
    assert_eq!(query.sid.as_deref(), Some("AAAAAAAAAA-AAAAAAAAA "));
    assert_eq!(Query::parse("transport=websocket").known_transport(), Ok(Transport::WebSocket));
}

#[test]
fn queries_without_a_value_or_with_two_are_refused_where_it_matters() {
    let none = Query::parse("");
    assert_eq!(none, Query::default());
    assert_eq!(none.known_transport(), Err(Problem::UnknownTransport));
    assert!(!none.is_version_4());
    let empty = Query::parse("EIO=&transport=&sid=");
    assert_eq!(empty.sid, None);
    for twice in ["EIO=4&EIO=4", "EIO=3", "EIO=04", "EIO=4 ", "eio=4"] {
        assert!(!Query::parse(twice).is_version_4(), "{twice}");
    }
    let twice = Query::parse("transport=polling&transport=polling&sid=a&sid=b");
    assert_eq!(twice.known_transport(), Err(Problem::UnknownTransport));
    assert_eq!(twice.sid.as_deref(), Some("a,b"));
    assert_eq!(Query::parse("transport=webtransport").known_transport(), Err(Problem::UnknownTransport));
}

#[test]
fn session_ids_are_long_and_safe_in_a_url() {
    let a = |n: usize| "a".repeat(n);
    assert!(is_session_id(&a(20)) && is_session_id(&a(128)) && is_session_id("lv_VI97HAXpY6yYW-AAC"));
    for wrong in [a(19), a(129), String::new(), a(20) + "/", a(20) + ".", a(20) + "é", a(20) + " "] {
        assert!(!is_session_id(&wrong), "{wrong:?}");
    }
}

const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(200);

fn at(ms: u64) -> Time {
    Time::from_millis(1_000_000 + ms)
}

#[test]
fn a_pong_in_time_rests_an_interval() {
    let mut heart = Heartbeat::new(at(0), INTERVAL, TIMEOUT);
    assert_eq!(heart.deadline(), at(300));
    assert_eq!(heart.due(at(299)), None);
    assert_eq!(heart.due(at(300)), Some(Beat::Ping));
    assert_eq!((heart.deadline(), heart.due(at(300))), (at(500), None));
    heart.pong(at(450));
    assert_eq!((heart.deadline(), heart.due(at(749))), (at(750), None));
    assert_eq!(heart.due(at(750)), Some(Beat::Ping));
}

#[test]
fn no_pong_times_out_and_stays_so() {
    let mut heart = Heartbeat::new(at(0), INTERVAL, TIMEOUT);
    assert_eq!(heart.due(at(300)), Some(Beat::Ping));
    assert_eq!(heart.due(at(499)), None);
    assert_eq!(heart.due(at(500)), Some(Beat::TimedOut));
    heart.other(at(500));
    assert_eq!(heart.due(at(900)), Some(Beat::TimedOut));
}

#[test]
fn a_pong_nobody_awaits_changes_nothing() {
    let mut heart = Heartbeat::new(at(0), INTERVAL, TIMEOUT);
    let before = heart.clone();
    heart.pong(at(299));
    heart.other(at(299));
    assert_eq!(heart, before);
    assert_eq!(heart.due(at(300)), Some(Beat::Ping));
}

#[test]
fn another_packet_puts_the_timeout_off_once() {
    let mut heart = Heartbeat::new(at(0), INTERVAL, TIMEOUT);
    assert_eq!(heart.due(at(300)), Some(Beat::Ping));
    heart.other(at(400));
    heart.other(at(550));
    assert_eq!(heart.due(at(599)), None);
    assert_eq!(heart.due(at(600)), Some(Beat::TimedOut));
    heart.pong(at(600));
    assert_eq!(heart.due(at(900)), Some(Beat::Ping));
    heart.other(at(1000));
    assert_eq!(heart.deadline(), at(1200), "the next ping may be put off again");
}

#[test]
fn a_late_timer_still_pings_first() {
    let mut heart = Heartbeat::new(at(0), INTERVAL, TIMEOUT);
    assert_eq!(heart.due(at(10_000)), Some(Beat::Ping));
    assert_eq!(heart.deadline(), at(10_200));
}

/// The fuzzer's corpus (`fuzz/fuzz_targets/engineio_payload.rs`), without a fuzzer.
#[test]
fn the_corpus_is_survived() {
    let mut files = 0;
    for entry in
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/engineio_payload")).unwrap()
    {
        let text = String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned();
        let query = Query::parse(&text);
        let _ = (query.known_transport(), query.sid.as_deref().is_some_and(is_session_id));
        let parts: Vec<Part<'_>> = split(&text).flatten().collect();
        let mut payload = Payload::new();
        for part in &parts {
            match part {
                Part::Packet(packet) => payload.push(*packet),
                Part::Binary(bytes) => payload.push_binary(bytes),
            }
        }
        if !payload.is_empty() {
            let again = payload.into_string();
            assert!(split(&again).eq(parts.into_iter().map(Ok)), "{text:?}");
        }
        files += 1;
    }
    assert!(files > 0, "the corpus is empty");
}

proptest! {
    #[test]
    fn anything_is_survived(text in ".*", parts in proptest::collection::vec("[0-9b]?[a-zA-Z0-9+/=_-]*", 0..6)) {
        for payload in [text, parts.join("\u{1e}")] {
            let read: Vec<_> = split(&payload).collect();
            let bad = read.iter().position(Result::is_err);
            prop_assert!(bad.is_none_or(|at| at + 1 == read.len()), "it goes on after a malformed packet");
            prop_assert!(read.len() <= payload.split('\u{1e}').count(), "more packets than parts");
            let _ = (Query::parse(&payload), is_session_id(&payload));
        }
    }

    #[test]
    fn what_is_joined_splits_again(
        parts in proptest::collection::vec(prop_oneof![
            "[^\u{1e}]*".prop_map(Ok),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Err),
        ], 1..8)
    ) {
        let mut payload = Payload::new();
        for part in &parts {
            match part {
                Ok(text) => payload.push(Packet::Message(text)),
                Err(bytes) => payload.push_binary(bytes),
            }
        }
        let payload = payload.into_string();
        let read: Vec<Part<'_>> = split(&payload).map(Result::unwrap).collect();
        let sent: Vec<Part<'_>> = parts.iter().map(|part| match part {
            Ok(text) => Part::Packet(Packet::Message(text)),
            Err(bytes) => Part::Binary(bytes.clone()),
        }).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn a_packet_reads_as_it_was_written(data in ".*", bytes: Vec<u8>) {
        for packet in [Packet::Open(&data), Packet::Ping(&data), Packet::Pong(&data), Packet::Message(&data),
            Packet::Close, Packet::Upgrade, Packet::Noop] {
            let text = packet.to_text();
            prop_assert_eq!(parse(&text), Some(packet));
        }
        prop_assert_eq!(message(&data), format!("4{data}"));
        let text = binary_text(&bytes);
        prop_assert_eq!(part(&text), Ok(Part::Binary(bytes)));
    }

    /// However calls fall, a ping comes no sooner than an interval after the last pong, and a session ends
    /// only a whole timeout after its ping.
    #[test]
    fn the_heartbeat_keeps_its_times(steps in proptest::collection::vec((0u8..3, 0u64..200), 1..60)) {
        let (mut now, mut rest, mut ping) = (0, 0, None);
        let mut heart = Heartbeat::new(at(0), INTERVAL, TIMEOUT);
        for (step, ms) in steps {
            now += ms;
            match step {
                0 => match heart.due(at(now)) {
                    Some(Beat::Ping) => {
                        prop_assert!(ping.is_none() && now >= rest + 300);
                        ping = Some(now);
                    }
                    Some(Beat::TimedOut) => prop_assert!(now >= ping.unwrap() + 200),
                    None => prop_assert!(at(now) < heart.deadline()),
                },
                1 => {
                    heart.pong(at(now));
                    if ping.take().is_some() {
                        rest = now;
                    }
                }
                _ => heart.other(at(now)),
            }
            if let Some(ping) = ping {
                prop_assert!(heart.deadline() <= at(ping + 400), "put off more than once");
            }
        }
    }
}
