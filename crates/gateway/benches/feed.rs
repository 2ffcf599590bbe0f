//! What a node takes for a hundred messages that come over the bus, up to the outbox of one listener: in order; with one
//! missing, which is read from the log; and all of them read from the log after a loss.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run says so")]

#[path = "../../backplane/benches/appending/mod.rs"]
#[allow(dead_code, reason = "what measures appends is of no use here")]
mod appending;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use appending::{conversation, create, message, user};
use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parking_lot::Mutex;
use parlance_backplane::embedded::{Embedded, Options};
use parlance_backplane::{Backplane, Bus, Delivery, Fault, Inbox, Publication, Signal};
use parlance_gateway::clock::Clock;
use parlance_gateway::config::Config;
use parlance_gateway::node::Node;
use parlance_hub::{Announce, Limits, Listener, Outbox, Voice};
use parlance_model::{NodeId, Role, Time, Topic};
use parlance_wire::{Accent, Style};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Messages of one round.
const ROUND: usize = 100;

/// What becomes of a round's publications.
#[derive(Clone, Copy)]
enum Way {
    InOrder,
    /// The one before the last is missing.
    OneMissing,
    /// There is only word that some were lost.
    Lost,
}

/// The engine's bus, but for what comes out of it: the benchmark says when.
struct Held {
    inner: Arc<dyn Bus>,
    inbox: Mutex<Option<Inbox>>,
}

#[async_trait]
impl Bus for Held {
    async fn subscribe(&self, topics: &[Topic]) -> Result<(), Fault> {
        self.inner.subscribe(topics).await
    }

    async fn unsubscribe(&self, topics: &[Topic]) -> Result<(), Fault> {
        self.inner.unsubscribe(topics).await
    }

    async fn signal(&self, topic: &Topic, signal: Signal) -> Result<(), Fault> {
        self.inner.signal(topic, signal).await
    }

    fn inbox(&self) -> Option<Inbox> {
        self.inbox.lock().take()
    }
}

/// A node with one listener in one room.
struct Scene {
    engine: Backplane,
    published: Inbox,
    told: mpsc::Sender<Delivery>,
    node: Arc<Node>,
    listener: Arc<Listener>,
    next: u64,
}

impl Scene {
    async fn set() -> Self {
        let now = || Time(1_755_633_600_000);
        let options = Options { retention_entries: 10_000, ..Options::default() };
        let embedded = Embedded::open(options, Arc::new(now)).expect("an engine");
        let name = NodeId::parse("n1").expect("a name");
        let engine = embedded.attach(name.clone());
        let published = engine.bus.inbox().expect("the first");
        let (told, inbox) = mpsc::channel(4 * ROUND);
        let bus = Arc::new(Held { inner: engine.bus.clone(), inbox: Mutex::new(Some(inbox)) });
        let mut config = Config { ack_level: "memory".to_owned(), ..Config::default() };
        config.auth.secrets = vec!["a-secret-of-a-benchmark-of-32-bytes-or-more".to_owned()];
        let held = Backplane { bus, ..engine.clone() };
        let node = parlance_gateway::begin(config, held, name, Clock::from_fn(now)).await.expect("a node");
        create(&engine, 0).await;
        let outbox = Arc::new(Outbox::new(Limits { bytes: 1 << 24, pieces: 1 << 16 }));
        let voice =
            Voice { accent: Accent::SechatV2, style: Style::default(), announce: Announce::default() };
        let listener = Arc::new(Listener::new(1 << 40, user("bob"), voice, outbox));
        let topic = Topic::Conversation(conversation(0));
        node.hub.enter(&topic, &listener, Role::Joined);
        node.feed.open(vec![topic.clone()]).await.expect("open");
        node.hub.go_live_now(&topic, listener.number);
        Self { engine, published, told, node, listener, next: 1 }
    }

    /// Appends a round and takes what the engine publishes of it.
    async fn publish(&mut self) -> Vec<Delivery> {
        let mut all = Vec::with_capacity(ROUND);
        for _ in 0..ROUND {
            let appended = self.engine.log.append(&conversation(0), message(self.next)).await;
            appended.expect("the engine answers");
            self.next += 1;
        }
        while all.len() < ROUND {
            let delivery = self.published.recv().await.expect("the engine publishes");
            if matches!(delivery, Delivery::Published(_, Publication::Entry(_))) {
                all.push(delivery);
            }
        }
        all
    }

    /// The time of one round.
    async fn round(&mut self, way: Way) -> Duration {
        let mut all = self.publish().await;
        match way {
            Way::InOrder => {}
            Way::OneMissing => drop(all.remove(ROUND - 2)),
            Way::Lost => all = vec![Delivery::Lost],
        }
        let began = Instant::now();
        for delivery in all {
            self.told.send(delivery).await.expect("the feed runs");
        }
        while self.listener.outbox.len() < ROUND {
            self.listener.outbox.ready().await;
        }
        let took = began.elapsed();
        self.listener.outbox.take(&mut VecDeque::new(), &mut Vec::new(), usize::MAX);
        took
    }
}

fn feed(criterion: &mut Criterion) {
    // One thread: what is measured is work, and not who wakes whom.
    let runtime: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut scene = runtime.block_on(Scene::set());
    let mut group = criterion.benchmark_group("feed/messages-100");
    group.sample_size(20).throughput(Throughput::Elements(ROUND as u64));
    for (name, way) in
        [("in-order", Way::InOrder), ("one-missing", Way::OneMissing), ("all-from-the-log", Way::Lost)]
    {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    spent += runtime.block_on(scene.round(way));
                }
                spent
            });
        });
    }
    group.finish();
    scene.node.halt.cancel();
}

criterion_group!(benches, feed);
criterion_main!(benches);
