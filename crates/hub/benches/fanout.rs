//! What one event costs in a room: encoding once per accent, and handing it to each listener's outbox. Every figure is for
//! the whole room; `elements` are its listeners. Taking it out of the outboxes, the sessions' part, is not counted.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run says so")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use parlance_hub::{Announce, Entry, Fanout, Hub, Limits, Listener, Outbox, Voice};
use parlance_model::{
    Author, ConversationId, Event, Message, MessageEvent, MessageId, Role, Time, Topic, TypingEvent, UserId,
};
use parlance_wire::{Accent, Framing, Style};
use rustc_hash::FxHashMap;

const NOW: Time = Time(1_755_633_600_000);
const LISTENERS: u64 = 1000;
/// One of each dialect.
const FIVE: [Accent; 5] =
    [Accent::SechatV2, Accent::LingochatPositional, Accent::Famly, Accent::Chatgenius, Accent::SechatIoV2];

fn conversation() -> ConversationId {
    ConversationId::parse("c1").expect("an id")
}

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("an id")
}

fn message(seq: u64) -> Event {
    Event::Message(MessageEvent {
        conversation: conversation(),
        number: 1 << 30,
        id: MessageId::new(1 << 30, 7).expect("in range"),
        seq,
        at: NOW,
        message: Message {
            author: Author::bare(user("author")),
            client_id: Some("0a5f0a2e-2f4f-4d2b-9a51-0f2f5c1f9a11".into()),
            body: "See you at eight in front of the cinema, bring the tickets please.".repeat(3).into(),
            metadata: None,
            extra: None,
            trace: None,
        },
        queued: false,
    })
}

fn typing() -> Event {
    let author = Author::bare(user("author"));
    Event::Typing(TypingEvent { conversation: conversation(), number: 1 << 30, author, on: true, at: NOW })
}

/// A room, everybody in it live.
struct Full {
    hub: Hub,
    topic: Topic,
    listeners: Vec<Arc<Listener>>,
    integers: FxHashMap<UserId, u64>,
    seq: u64,
}

impl Full {
    /// So many listeners who speak these accents in turn.
    fn of(listeners: u64, accents: &[Accent]) -> Self {
        let (hub, topic) = (Hub::new(), Topic::Conversation(conversation()));
        let listeners: Vec<_> = (0..listeners)
            .zip(accents.iter().cycle())
            .map(|(number, accent)| listener(number, *accent))
            .collect();
        for listener in &listeners {
            hub.enter(&topic, listener, Role::Joined);
            hub.go_live_now(&topic, listener.number);
        }
        let integers = hub.sequenced_users(&topic).into_iter().map(|user| (user, 4_711)).collect();
        Self { hub, topic, listeners, integers, seq: 0 }
    }

    fn next(&mut self) -> Fanout {
        self.seq += 1;
        let event = message(self.seq);
        let entry =
            Entry { topic: &self.topic, seq: self.seq, event: Some(&event), integers: &self.integers };
        self.hub.deliver_entry(black_box(&entry), |_, _| true)
    }

    /// The time of so many deliveries to the whole room.
    fn time(&mut self, times: u64, mut deliver: impl FnMut(&mut Self) -> Fanout) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..times {
            let started = Instant::now();
            let fanout = deliver(self);
            spent += started.elapsed();
            assert_eq!(fanout.delivered(), self.listeners.len(), "not everybody was told");
            for listener in &self.listeners {
                listener.outbox.take(&mut VecDeque::new(), &mut Vec::new(), usize::MAX);
            }
        }
        spent
    }
}

fn listener(number: u64, accent: Accent) -> Arc<Listener> {
    let outbox = Arc::new(Outbox::new(Limits { bytes: 1 << 20, pieces: 1024 }));
    let style = Style { offsets: accent.framing() == Framing::Socketio, ..Style::default() };
    let voice = Voice { accent, style, announce: Announce::default() };
    Arc::new(Listener::new(number, user(&format!("u{number}")), voice, outbox))
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut room: Full) {
    group.throughput(Throughput::Elements(room.listeners.len() as u64));
    group.bench_function(name, |bencher| bencher.iter_custom(|times| room.time(times, Full::next)));
}

/// A message, to listeners of one accent and of several. SocialHub's ends with an integer of each recipient's own.
fn accents(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout/message-to-1000");
    let alone = [
        ("sechat-v2", Accent::SechatV2),
        ("sechat-io-v2", Accent::SechatIoV2),
        ("socialhub", Accent::Socialhub),
        ("famly", Accent::Famly),
        ("lingochat", Accent::LingochatPositional),
        ("chatgenius", Accent::Chatgenius),
    ];
    for (name, accent) in alone {
        bench(&mut group, name, Full::of(LISTENERS, &[accent]));
    }
    bench(&mut group, "five-accents", Full::of(LISTENERS, &FIVE));
    let half = [Accent::SechatV2, Accent::Socialhub];
    bench(&mut group, "half-of-them-socialhub", Full::of(LISTENERS, &half));
    group.finish();
}

/// How it grows with the room.
fn sizes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout/message-to-room-of");
    for listeners in [1, 10, 100, 1_000, 10_000] {
        bench(&mut group, &listeners.to_string(), Full::of(listeners, &[Accent::SechatV2]));
    }
    group.finish();
}

/// What is in no log.
fn passing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout/typing-to-1000");
    for (name, accents) in [("sechat-v2", &FIVE[..1]), ("five-accents", &FIVE[..])] {
        let (mut room, event) = (Full::of(LISTENERS, accents), typing());
        group.throughput(Throughput::Elements(LISTENERS));
        group.bench_function(name, |bencher| {
            let deliver = |room: &mut Full| room.hub.deliver(&room.topic, black_box(&event), |_| true);
            bencher.iter_custom(|times| room.time(times, deliver));
        });
    }
    group.finish();
}

criterion_group!(benches, accents, sizes, passing);
criterion_main!(benches);
