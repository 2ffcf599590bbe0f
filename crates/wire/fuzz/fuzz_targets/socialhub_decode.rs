//! Whatever a client sends as text, line by line: a socialhub peer survives it, before and after it knows its user.
//! Run with `cargo fuzz run socialhub_decode` in `crates/wire`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_model::{Answer, Time, UserId};
use parlance_wire::{Dialect, Framing, Peer, Settings, Style};

fuzz_target!(|text: &str| {
    let (dialect, framing, style) = (Dialect::Socialhub, Framing::Raw, Style::default());
    let mut peer = Peer::new(Settings { dialect, framing, style, max_depth: 32, salt: 1 });
    let now = Time::from_millis(1_755_633_600_000);
    for _ in 0..2 {
        for line in text.lines() {
            peer.receive(line, now);
        }
        while let Some((tag, read)) = peer.poll_request() {
            peer.answer(&tag, &read.map(|_| Answer::Done), now);
        }
        while let Some(frame) = peer.poll_frame() {
            assert!(!frame.texts().is_empty());
        }
        if let Ok(user) = UserId::parse("alice") {
            peer.set_user(user);
        }
    }
});
