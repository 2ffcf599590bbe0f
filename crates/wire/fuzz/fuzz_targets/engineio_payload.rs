//! Whatever a client posts as a polling payload or asks in a query: it is read to the first malformed packet,
//! and what was read reads the same once written again.
//! Run with `cargo fuzz run engineio_payload` in `crates/wire`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_wire::engineio::{Part, Payload, Query, is_session_id, split};

fuzz_target!(|text: &str| {
    let query = Query::parse(text);
    let _ = (query.known_transport(), query.sid.as_deref().is_some_and(is_session_id));
    let read: Vec<_> = split(text).collect();
    assert!(read.iter().rev().skip(1).all(Result::is_ok));
    let parts: Vec<Part<'_>> = read.into_iter().flatten().collect();
    if parts.is_empty() {
        return;
    }
    let mut payload = Payload::new();
    for part in &parts {
        match part {
            Part::Packet(packet) => payload.push(*packet),
            Part::Binary(bytes) => payload.push_binary(bytes),
        }
    }
    let again = payload.into_string();
    assert!(split(&again).eq(parts.into_iter().map(Ok)));
});
