//! What one event costs in a room: encoding once per accent, and handing it to each listener. Run with
//! `cargo bench -p parlance-hub`; prints figures for people, as ratios within one run.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parlance_hub::{Announce, Entry, Hub, Limits, Listener, Outbox, Voice};
use parlance_model::{
    Author, ConversationId, Event, Message, MessageEvent, MessageId, Role, Time, Topic, UserId,
};
use parlance_wire::{Accent, Style, encode};
use rustc_hash::FxHashMap;

const LISTENERS: u64 = 1000;
const EVENTS: u64 = 200;

fn message(seq: u64) -> Event {
    Event::Message(MessageEvent {
        conversation: ConversationId::parse("c1").expect("an id"),
        number: 1 << 30,
        id: MessageId::new(1 << 30, u32::try_from(seq).expect("few")).expect("in range"),
        seq,
        at: Time(1_755_633_600_000),
        message: Message {
            author: Author::bare(UserId::parse("author").expect("an id")),
            client_id: Some("0a5f0a2e-2f4f-4d2b-9a51-0f2f5c1f9a11".into()),
            body: "See you at eight in front of the cinema, bring the tickets please.".into(),
            metadata: None,
            extra: None,
        },
        queued: false,
    })
}

fn style(accent: Accent) -> Style {
    Style { offsets: accent.framing() == parlance_wire::Framing::Socketio, ..Style::default() }
}

fn listeners(accent: Accent) -> Vec<Arc<Listener>> {
    let one = |number: u64| {
        let outbox = Arc::new(Outbox::new(Limits { bytes: usize::MAX / 2, pieces: usize::MAX / 2 }));
        let voice = Voice { accent, style: style(accent), announce: Announce::default() };
        let user = UserId::parse(&format!("u{number}")).expect("an id");
        Arc::new(Listener::new(number, user, voice, outbox))
    };
    (0..LISTENERS).map(one).collect()
}

/// The time of one encoding.
fn encoding(accent: Accent) -> Duration {
    let (event, style) = (message(1), style(accent));
    let started = Instant::now();
    for _ in 0..LISTENERS {
        black_box(encode(accent, &style, black_box(&event)));
    }
    started.elapsed() / u32::try_from(LISTENERS).expect("few")
}

/// The time of handing one event to one listener of a room, encoding included.
fn delivery(accent: Accent) -> Duration {
    let (hub, topic) = (Hub::new(), Topic::Conversation(ConversationId::parse("c1").expect("an id")));
    let room = listeners(accent);
    for listener in &room {
        hub.enter(&topic, listener, Role::Joined);
        hub.go_live_now(&topic, listener.number);
    }
    let integers: FxHashMap<UserId, u64> = room.iter().map(|l| (l.user.clone(), 7)).collect();
    let mut spent = Duration::ZERO;
    for seq in 1..=EVENTS {
        let event = message(seq);
        let started = Instant::now();
        hub.deliver_entry(&Entry { topic: &topic, seq, event: Some(&event), integers: &integers }, |_| true);
        spent += started.elapsed();
        for listener in &room {
            listener.outbox.take(&mut VecDeque::new(), &mut Vec::new(), usize::MAX);
        }
    }
    spent / u32::try_from(LISTENERS * EVENTS).expect("few")
}

fn main() {
    println!("{:<22} {:>12} {:>14} {:>8}", "accent", "encode ns", "per delivery ns", "share");
    for accent in Accent::ALL {
        let (once, each) = (encoding(accent), delivery(accent));
        let share = once.as_nanos() as f64 / LISTENERS as f64 / each.as_nanos().max(1) as f64;
        println!(
            "{:<22} {:>12} {:>14} {:>7.1}%",
            format!("{accent:?}"),
            once.as_nanos(),
            each.as_nanos(),
            share * 100.0
        );
    }
}
