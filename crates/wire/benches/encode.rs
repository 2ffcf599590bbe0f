//! What one event costs to encode, once for everybody who hears it in the same accent, framed for the WebSocket: a message
//! and a receipt and typing in every accent that has a word for it, a message of two lengths, and each recipient's own end.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark that cannot run says so"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parlance_model::{Event, MessageEvent};
use parlance_wire::{Accent, Class, Encoded, Framing, Style};

#[path = "../tests/fixtures/mod.rs"]
mod fixtures;

fn style(accent: Accent) -> Style {
    Style { offsets: accent.framing() == Framing::Socketio, ..Style::default() }
}

/// `SechatIoV2` as `sechat-io-v2`.
fn name(accent: Accent) -> String {
    let mut name = String::new();
    for letter in format!("{accent:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn message(body: &str) -> Event {
    let mut event: MessageEvent = fixtures::message_event();
    event.message.body = body.into();
    Event::Message(event)
}

fn encode(criterion: &mut Criterion) {
    let events = [
        ("message", message(&"See you at eight, bring the tickets! ".repeat(5))),
        ("receipt", fixtures::event("receipt_read")),
        ("typing", fixtures::event("typing_on")),
    ];
    for (kind, event) in events {
        let mut group = criterion.benchmark_group(format!("encode/{kind}"));
        for accent in Accent::ALL {
            let style = style(accent);
            if parlance_wire::encode(accent, &style, &event).is_none() {
                continue;
            }
            group.bench_function(name(accent), |bencher| {
                bencher.iter(|| parlance_wire::encode(accent, &style, black_box(&event)));
            });
        }
        group.finish();
    }
}

/// A text that has to be escaped here and there.
fn lengths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode/message-of-bytes");
    for bytes in [20, 200, 2_000, 20_000] {
        let event = message(&"It is \"open\", come!\n".repeat(bytes / 20));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(bytes.to_string(), |bencher| {
            let style = Style::default();
            bencher.iter(|| parlance_wire::encode(Accent::SechatV2, &style, black_box(&event)));
        });
    }
    group.finish();
}

/// What a recipient's own end costs on top, and framing by itself.
fn ends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode/own-end");
    let open = parlance_wire::encode(Accent::Socialhub, &Style::default(), &message("See you at eight!"));
    let open = open.expect("a message");
    assert!(open.is_open(), "SocialHub's messages end with the recipient's integer");
    group.bench_function("socialhub-integer", |bencher| bencher.iter(|| open.seal(black_box(4_711))));
    group.finish();
    let mut group = criterion.benchmark_group("framing/out");
    let text = "x".repeat(300);
    group.bench_function("websocket-300-bytes", |bencher| {
        bencher.iter(|| Encoded::framed(&[black_box(&text)], Class::Kept));
    });
    group.finish();
}

criterion_group!(benches, encode, lengths, ends);
criterion_main!(benches);
