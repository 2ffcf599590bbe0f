//! A trial: writers append to many conversations, a node of its own listens, and something goes wrong meanwhile.
//!
//! The listener believes its inbox: it reads a log when a sequence is missing and when `Lost` is said, and never just
//! to be sure. A subscription that is gone without a word is therefore heard to be. What a primary published and took
//! with it when it died it unlearns: entries are chained by the time of the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parlance_backplane::{Appended, Backplane, Change, Delivery, Inbox, MemberSet, Publication, Range};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{
    Author, ConversationId, ConversationKind, Entry, LogKey, Message, Record, Time, Topic, UserId,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

const WRITERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);

/// What a trial is made of.
#[derive(Clone)]
pub struct Trial {
    /// Where the writers find Redis.
    pub options: Options,
    /// Where the listener does.
    pub heard_at: Options,
    /// Conversations.
    pub conversations: usize,
    /// Appends at least.
    pub appends: usize,
    /// Padding of a message.
    pub padding: usize,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Acknowledged appends.
    pub acked: usize,
    /// How often `Lost` was said.
    pub lost: usize,
    /// Entries that were read from the log and not heard.
    pub repaired: usize,
    /// Entries that were heard and are not in the log: no acknowledged ones.
    pub unlearned: usize,
    /// Publications that came twice or out of order without `Lost` between.
    pub stale: usize,
    /// The longest time in which no conversation made progress at the listener.
    pub silence: Duration,
}

/// Sequence and body of what was said in one conversation.
type Said = BTreeMap<u64, String>;

/// What was heard of one conversation.
#[derive(Default)]
struct Heard {
    /// From the first one, without holes.
    entries: Vec<Entry>,
    /// The newest publication, and how often `Lost` had been said before it.
    published: (u64, usize),
}

impl Heard {
    fn position(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq)
    }

    fn fits(&self, entry: &Entry) -> bool {
        entry.seq == self.position() + 1 && self.entries.last().is_none_or(|last| last.at == entry.prev_at)
    }

    fn bodies(&self) -> Said {
        let body = |entry: &Entry| match &entry.record {
            Record::Message(message) => Some((entry.seq, message.body.to_string())),
            _ => None,
        };
        self.entries.iter().filter_map(body).collect()
    }
}

pub fn options(url: &str) -> Options {
    Options {
        retention_entries: 1_000_000,
        patience: Duration::from_secs(1),
        ..Options::new(url, Arc::new(|| Time(1_755_633_600_000)))
    }
}

pub fn conv(n: usize) -> ConversationId {
    ConversationId::parse(&format!("c{n}")).unwrap()
}

pub fn topic(n: usize) -> Topic {
    Topic::Conversation(conv(n))
}

fn user() -> UserId {
    UserId::parse("a").unwrap()
}

/// Creates a conversation, however often it takes.
pub async fn create(node: &Backplane, n: usize) {
    let started = Instant::now();
    loop {
        let change = Change {
            id: conv(n),
            create: true,
            only_create: false,
            kind: ConversationKind::Group,
            title: None,
            members: MemberSet::Exactly(vec![user()]),
            number: None,
            by: None,
        };
        match node.conversations.change(change).await {
            Ok(made) => return drop(made.unwrap()),
            Err(fault) => assert!(started.elapsed() < PATIENCE, "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Says it until it is acknowledged, as a client does.
pub async fn deliver(node: &Backplane, n: usize, body: &str) -> u64 {
    let started = Instant::now();
    let client_id = body.split(' ').next().map(Into::into);
    loop {
        let (author, client_id) = (Author::bare(user()), client_id.clone());
        let message =
            Message { author, client_id, body: body.into(), metadata: None, extra: None, trace: None };
        match node.log.append(&conv(n), message).await {
            Ok(Appended::New(stored) | Appended::Duplicate(stored)) => return stored.seq,
            Ok(other) => panic!("{other:?}"),
            Err(fault) => assert!(started.elapsed() < PATIENCE, "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Listener {
    node: Backplane,
    inbox: Inbox,
    heard: Vec<Heard>,
    /// Whose log has to be read.
    behind: BTreeSet<usize>,
    outcome: Outcome,
    progress: Instant,
}

impl Listener {
    fn take(&mut self, n: usize, entry: Entry) {
        self.heard[n].entries.push(entry);
        let now = Instant::now();
        self.outcome.silence = self.outcome.silence.max(now - self.progress);
        self.progress = now;
    }

    fn hear(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Lost => {
                self.outcome.lost += 1;
                self.behind.extend(0..self.heard.len());
            }
            Delivery::Published(Topic::Conversation(id), Publication::Entry(entry)) => {
                let n: usize = id.as_str()[1..].parse().unwrap();
                let now = (entry.seq, self.outcome.lost);
                let before = std::mem::replace(&mut self.heard[n].published, now);
                self.outcome.stale += usize::from(now.0 <= before.0 && now.1 <= before.1);
                if self.heard[n].fits(&entry) {
                    self.take(n, entry);
                } else {
                    self.behind.insert(n);
                }
            }
            Delivery::Published(..) => {}
        }
    }

    async fn read(&mut self) {
        for n in std::mem::take(&mut self.behind) {
            // Once more what was heard last: it may not be what is in the log.
            let position = self.heard[n].position();
            let range = Range::After { seq: position.saturating_sub(1), limit: 1000 };
            let page = self.node.log.range(&LogKey::Conversation(conv(n)), range).await;
            let Ok(page) = page else {
                self.behind.insert(n);
                continue;
            };
            let last = self.heard[n].entries.last();
            if last.is_some_and(|last| page.entries.first().is_none_or(|first| first.at != last.at)) {
                self.heard[n].entries.pop();
                self.outcome.unlearned += 1;
                self.behind.insert(n);
                continue;
            }
            for entry in page.entries.into_iter().filter(|entry| entry.seq > position) {
                assert!(self.heard[n].fits(&entry), "the log has no holes");
                self.take(n, entry);
                self.outcome.repaired += 1;
            }
            if page.more {
                self.behind.insert(n);
            }
        }
    }

    /// Until it has heard everything up to `until`, once that is known.
    async fn run(mut self, mut until: watch::Receiver<Option<Vec<u64>>>) -> (Vec<Said>, Outcome) {
        self.progress = Instant::now();
        loop {
            let target = until.borrow_and_update().clone();
            if let Some(target) = target {
                let short = |(heard, target): &(&Heard, &u64)| heard.position() < **target;
                let behind = self.heard.iter().zip(&target).filter(short).count();
                if behind == 0 && self.behind.is_empty() {
                    return (self.heard.iter().map(Heard::bodies).collect(), self.outcome);
                }
                assert!(self.progress.elapsed() < PATIENCE, "{behind} conversations fell silent");
            }
            let wait = if self.behind.is_empty() { PATIENCE } else { Duration::from_millis(20) };
            tokio::select! {
                delivery = tokio::time::timeout(wait, self.inbox.recv()) => {
                    if let Ok(delivery) = delivery {
                        self.hear(delivery.expect("the engine runs"));
                        while let Ok(delivery) = self.inbox.try_recv() {
                            self.hear(delivery);
                        }
                    }
                    self.read().await;
                }
                _ = until.changed() => {}
            }
        }
    }
}

impl Trial {
    /// Of 40 conversations and some thousand short messages.
    pub fn at(url: &str) -> Self {
        let options = options(url);
        Self { heard_at: options.clone(), options, conversations: 40, appends: 4000, padding: 0 }
    }

    async fn listener(&self, node: Backplane) -> Listener {
        for n in 0..self.conversations {
            create(&node, n).await;
        }
        let topics: Vec<Topic> = (0..self.conversations).map(topic).collect();
        node.bus.subscribe(&topics).await.unwrap();
        let inbox = node.bus.inbox().unwrap();
        Listener {
            node,
            inbox,
            heard: (0..self.conversations).map(|_| Heard::default()).collect(),
            behind: (0..self.conversations).collect(),
            outcome: Outcome::default(),
            progress: Instant::now(),
        }
    }

    /// Runs it, lets `fault` happen, and checks that everything acknowledged was heard once, in order.
    pub async fn run(&self, fault: impl Future<Output = ()>) -> Outcome {
        let writing = Redis::connect(self.options.clone()).await.unwrap();
        let listening = Redis::connect(self.heard_at.clone()).await.unwrap();
        let listener = self.listener(listening.backplane()).await;
        let (target, until) = watch::channel(None);
        let mut heard = JoinSet::new();
        heard.spawn(listener.run(until));
        let done = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (node, done, trial) = (writing.backplane(), done.clone(), self.clone());
            writers.spawn(async move { trial.write(&node, writer, &done).await });
        }
        fault.await;
        done.store(true, Ordering::SeqCst);
        let mut said: BTreeMap<usize, Said> = BTreeMap::new();
        let mut acked = 0;
        for (n, seq, body) in writers.join_all().await.into_iter().flatten() {
            acked += 1;
            assert_eq!(said.entry(n).or_default().insert(seq, body), None, "two acknowledged at one place");
        }
        let last = |n| said.get(&n).and_then(|said| said.keys().next_back()).copied().unwrap_or(0);
        target.send_replace(Some((0..self.conversations).map(last).collect()));
        let (heard, outcome) = heard.join_next().await.unwrap().unwrap();
        for (n, said) in said {
            for (seq, body) in said {
                assert_eq!(heard[n].get(&seq), Some(&body), "conversation {n}, sequence {seq}");
            }
        }
        for engine in [writing, listening] {
            engine.close().await;
        }
        let outcome = Outcome { acked, ..outcome };
        println!("{} acknowledged, {outcome:?}", outcome.acked);
        outcome
    }

    async fn write(&self, node: &Backplane, writer: usize, done: &AtomicBool) -> Vec<(usize, u64, String)> {
        let mut all = Vec::new();
        let padding = "x".repeat(self.padding);
        while !done.load(Ordering::SeqCst) || all.len() < self.appends / WRITERS {
            let n = (writer + all.len() * 7) % self.conversations;
            let body = format!("{writer}-{} {padding}", all.len());
            all.push((n, deliver(node, n, &body).await, body));
        }
        all
    }
}
