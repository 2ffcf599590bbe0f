//! What reading one frame of a client costs, up to the request that the gateway carries out: every dialect's message and
//! receipt, in its framing. `framing/in/…` is the share of Engine.IO and Socket.IO in it.
#![allow(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot run says so")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use parlance_model::{Time, UserId};
use parlance_wire::Dialect::{Chatgenius, Famly, Lingochat, Sechat, Socialhub};
use parlance_wire::Framing::{Raw, Socketio};
use parlance_wire::{Dialect, Framing, Peer, Settings, Style, engineio, socketio};

const NOW: Time = Time(1_755_633_600_000);
const MAX_DEPTH: usize = 32;
const ATTACHMENTS: usize = 10;
/// Stands for `BODY` in the frames: about two hundred bytes, as people write them.
const BODY: &str = "See you at eight in front of the cinema, bring the tickets please. If it rains we meet inside, \
                    at the counter on the left; Zo\u{eb} and the others come directly from work, a bit late.";

/// A dialect's frame as its clients send it, in one framing.
struct Sample {
    name: &'static str,
    dialect: Dialect,
    framing: Framing,
    text: &'static str,
}

const fn sample(name: &'static str, dialect: Dialect, framing: Framing, text: &'static str) -> Sample {
    Sample { name, dialect, framing, text }
}

const SENDS: [Sample; 6] = [
    sample(
        "sechat-raw",
        Sechat,
        Raw,
        r#"{"type":"message:send","messageId":"msg_1234567890-abc123","conversationId":"chat_1234567890-abc123","fromUserId":"alice","toUserIds":["bob"],"body":"BODY","timestamp":"2025-08-19T20:00:00.000Z","metadata":{"encrypted":true,"version":"1.0"}}"#,
    ),
    sample(
        "sechat-socketio",
        Sechat,
        Socketio,
        r#"427["message:send",{"type":"message:send","messageId":"msg_1234567890-abc123","conversationId":"chat_1234567890-abc123","fromUserId":"alice","toUserIds":["bob"],"body":"BODY","timestamp":"2025-08-19T20:00:00.000Z","metadata":{"encrypted":true,"version":"1.0"}}]"#,
    ),
    sample(
        "socialhub-raw",
        Socialhub,
        Raw,
        r#"{"id":"msg_1234567890_abcdef","type":"message","payload":{"conversation_id":"conv_456","content":"BODY"},"timestamp":"2024-03-01T12:00:00Z","ack_id":"ack_123"}"#,
    ),
    sample(
        "famly-socketio",
        Famly,
        Socketio,
        r#"427["message:send",{"chatId":"507f1f77bcf86cd799439011","body":"BODY","clientId":"4b0f9a3e-5d1c-4b7e-8d2a-0c9e6f1a2b3c"}]"#,
    ),
    sample(
        "lingochat-socketio",
        Lingochat,
        Socketio,
        r#"427["message:send",42,{"text":"BODY","clientMessageId":"7f1c3f0e-8f0a-4f0e-9d57-0d4f3a3b2c1d","senderLanguage":"en"}]"#,
    ),
    sample(
        "chatgenius-socketio",
        Chatgenius,
        Socketio,
        r#"427["message:send",{"content":"BODY","channelId":"channel-123","tempId":"temp-123"}]"#,
    ),
];

const RECEIPTS: [Sample; 6] = [
    sample(
        "sechat-raw",
        Sechat,
        Raw,
        r#"{"type":"receipt:delivered","messageId":"msg_68a4d7c04000000000000007","fromUserId":"alice","toUserId":"bob","timestamp":"2025-08-19T20:00:00.000Z"}"#,
    ),
    sample(
        "sechat-socketio",
        Sechat,
        Socketio,
        r#"42["receipt:delivered",{"type":"receipt:delivered","messageId":"msg_68a4d7c04000000000000007","fromUserId":"alice","toUserId":"bob","timestamp":"2025-08-19T20:00:00.000Z"}]"#,
    ),
    sample(
        "socialhub-raw",
        Socialhub,
        Raw,
        r#"{"id":"msg_1234567890_abcdef","type":"read_receipt","payload":{"conversation_id":"conv_456","message_ids":[4503599627370503],"read_at":"2024-03-01T12:05:00Z"},"timestamp":"2024-03-01T12:00:00Z"}"#,
    ),
    sample(
        "famly-socketio",
        Famly,
        Socketio,
        r#"427["receipt:read",{"chatId":"507f1f77bcf86cd799439011","messageId":"68a4d7c04000000000000007"}]"#,
    ),
    sample("lingochat-socketio", Lingochat, Socketio, r#"427["message:read",176160775]"#),
    sample(
        "chatgenius-socketio",
        Chatgenius,
        Socketio,
        r#"427["message:read",{"messageId":"msg_68a4d7c04000000000000007"}]"#,
    ),
];

fn peer(sample: &Sample) -> Peer {
    let (dialect, framing) = (sample.dialect, sample.framing);
    let style = Style::default();
    let mut peer = Peer::new(Settings { dialect, framing, style, max_depth: MAX_DEPTH, salt: 1 });
    peer.set_user(UserId::parse("alice").expect("an id"));
    peer
}

/// The text of an Engine.IO message as a complete Socket.IO packet.
fn packet(decoder: &mut socketio::Decoder, text: &str) -> socketio::Packet {
    let Some(engineio::Packet::Message(data)) = engineio::parse(text) else { panic!("no message: {text}") };
    decoder.text(data).ok().flatten().expect("a whole packet")
}

fn decode(criterion: &mut Criterion) {
    for (kind, samples) in [("send", &SENDS), ("receipt", &RECEIPTS)] {
        let mut group = criterion.benchmark_group(format!("decode/{kind}"));
        for sample in samples {
            let (mut peer, mut decoder) = (peer(sample), socketio::Decoder::new(ATTACHMENTS, MAX_DEPTH));
            let text = sample.text.replace("BODY", BODY);
            let mut read = || {
                if sample.framing == Raw {
                    peer.receive(black_box(&text), NOW);
                } else {
                    let packet = packet(&mut decoder, black_box(&text));
                    let data = packet.data.as_deref().expect("data");
                    let (name, arguments) = socketio::event(data).expect("an event");
                    peer.receive_event(&name, &arguments, packet.id, NOW);
                }
                peer.poll_request().expect("a request").1
            };
            assert!(read().is_ok(), "refused: {text}");
            group.bench_function(sample.name, |bencher| bencher.iter(&mut read));
        }
        group.finish();
    }
}

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing/in");
    let text = SENDS[3].text.replace("BODY", BODY);
    let mut decoder = socketio::Decoder::new(ATTACHMENTS, MAX_DEPTH);
    group.bench_function("socketio-packet", |bencher| {
        bencher.iter(|| packet(&mut decoder, black_box(&text)));
    });
    let body = format!("{text}\u{1e}{text}");
    group.bench_function("polling-body-of-2", |bencher| {
        bencher.iter(|| engineio::split(black_box(&body)).filter(Result::is_ok).count());
    });
    group.finish();
}

criterion_group!(benches, decode, framing);
criterion_main!(benches);
