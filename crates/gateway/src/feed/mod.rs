//! The cross-node feed: one task that takes this node's inbox, checks each log entry against its topic's
//! position, fills gaps from the log, and hands events to the hub in order.
//!
//! Owns: open topics and their positions. Must not know: sessions, sockets, dialects.

mod announce;
mod deliver;
mod presence;
mod receipts;
mod track;
mod typing;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_backplane::{Delivery, Fault, Inbox, Publication, Range};
use parlance_model::{ConversationId, LogKey, Topic, delivery::Marks};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::node::Node;
use announce::Announcer;
use track::Track;
use typing::TypingTable;

/// Publications taken at once: their integers are assigned in one call.
const BATCH: usize = 256;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between two looks for topics nobody listens to.
const IDLE_TICKS: u64 = 50;
/// Waiting requests to open topics.
const REQUESTS: usize = 1024;

struct Open {
    topics: Vec<Topic>,
    done: oneshot::Sender<Result<(), Fault>>,
}

/// Opens topics; cheap to clone.
#[derive(Clone)]
pub struct FeedHandle {
    requests: mpsc::Sender<Open>,
}

/// The feed's end of its requests.
pub struct FeedRequests(mpsc::Receiver<Open>);

/// A handle and the end the feed task takes.
pub fn channel() -> (FeedHandle, FeedRequests) {
    let (requests, receiver) = mpsc::channel(REQUESTS);
    (FeedHandle { requests }, FeedRequests(receiver))
}

impl FeedHandle {
    /// Makes sure that this node hears these topics and knows where they stand. Enter the hub's rooms
    /// first: a topic nobody is in may be closed again.
    ///
    /// # Errors
    /// The backplane's fault.
    pub async fn open(&self, topics: Vec<Topic>) -> Result<(), Fault> {
        let stopped = || Fault::Unavailable("the feed has stopped".to_owned());
        let (done, opened) = oneshot::channel();
        self.requests.send(Open { topics, done }).await.map_err(|_| stopped())?;
        opened.await.map_err(|_| stopped())?
    }
}

pub(crate) struct Feed {
    node: Arc<Node>,
    open: FxHashMap<Topic, Track>,
    typing: TypingTable,
    announcer: Announcer,
}

/// Runs the feed until the node halts.
pub async fn run(node: Arc<Node>, mut inbox: Inbox, mut requests: FeedRequests) {
    let mut feed = Feed {
        node: node.clone(),
        open: FxHashMap::default(),
        typing: TypingTable::default(),
        announcer: Announcer::default(),
    };
    let mut batch = Vec::with_capacity(BATCH);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0u64;
    loop {
        node.feed_pulse.store(node.clock.now().millis(), Ordering::Relaxed);
        tokio::select! {
            biased;
            () = node.halt.cancelled() => break,
            // Deadlines before everything: a busy inbox must not hold them up.
            _ = tick.tick() => {
                ticks += 1;
                feed.tick(ticks).await;
            }
            Some(open) = requests.0.recv() => {
                let result = feed.open(&open.topics).await;
                // A session that went away no longer waits for the answer.
                let _ = open.done.send(result);
            }
            taken = inbox.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    tracing::error!("the backplane closed this node's inbox");
                    node.halt.cancelled().await;
                    break;
                }
                feed.take(&mut batch).await;
            }
        }
    }
}

impl Feed {
    async fn open(&mut self, topics: &[Topic]) -> Result<(), Fault> {
        let fresh: Vec<Topic> = topics.iter().filter(|t| !self.open.contains_key(*t)).cloned().collect();
        if !fresh.is_empty() {
            // Subscribe first, read the log second: whatever is appended in between is published to us.
            self.node.backplane.bus.subscribe(&fresh).await?;
            for topic in &fresh {
                let track = self.start(topic).await?;
                self.node.hub.set_last(topic, track.seq);
                self.node.hub.set_number(topic, track.number);
                self.open.insert(topic.clone(), track);
            }
        }
        for topic in topics {
            if let Some(track) = self.open.get_mut(topic) {
                track.idle = false;
            }
        }
        Ok(())
    }

    /// Where a topic stands now.
    async fn start(&self, topic: &Topic) -> Result<Track, Fault> {
        let Some(key) = LogKey::of_topic(topic) else { return Ok(Track::new(None, 0)) };
        let backplane = &self.node.backplane;
        let mut track = Track::new(Some(key.clone()), 0);
        if let LogKey::Conversation(id) = &key {
            track.number = backplane.conversations.get(id).await?.map_or(0, |c| c.number());
            let (version, cursors) = backplane.cursors.cursors(id).await?;
            track.cursor_version = version;
            for c in cursors {
                track.marks.insert(c.user, Marks { delivered: c.delivered, read: c.read });
            }
        }
        let newest = backplane.log.range(&key, Range::Before { seq: u64::MAX, limit: 1 }).await?;
        track.epoch = newest.epoch;
        match newest.entries.last() {
            Some(entry) => track.advance(entry),
            None => track.seq = newest.head,
        }
        Ok(track)
    }

    async fn take(&mut self, batch: &mut Vec<Delivery>) {
        let mut ready = Vec::with_capacity(batch.len());
        for delivery in batch.drain(..) {
            match delivery {
                Delivery::Published(topic, publication) => {
                    self.sort_in(topic, publication, &mut ready).await;
                }
                Delivery::Lost => {
                    tracing::warn!(
                        "publications were lost on the way: comparing every open topic with its log"
                    );
                    self.node.metrics.feed_gaps.inc();
                    self.recover(&mut ready).await;
                }
            }
        }
        self.deliver(ready).await;
    }

    /// Anything may have been missed: every open log is read on, the switches are looked at again.
    async fn recover(&mut self, ready: &mut Vec<deliver::Ready>) {
        let logs: Vec<Topic> =
            self.open.iter().filter(|(_, t)| t.key.is_some()).map(|(topic, _)| topic.clone()).collect();
        for topic in logs {
            self.repair(&topic, ready).await;
        }
        self.check_heads(ready).await;
        self.node.orders.look();
        self.node.carry_leases();
    }

    async fn sort_in(&mut self, topic: Topic, publication: Publication, ready: &mut Vec<deliver::Ready>) {
        match publication {
            Publication::Entry(entry) => self.judge(&topic, entry, ready).await,
            Publication::Cursor(change) => self.cursor_moved(&topic, change, ready).await,
            Publication::Typing(change) => self.heard_typing(&topic, change, ready),
            Publication::Presence(change) => self.heard_presence(&topic, &change, ready),
            Publication::Room(change) => self.heard_room(&topic, change, ready),
            Publication::Signal(signal) => self.heard_signal(&topic, signal, ready).await,
        }
    }

    async fn tick(&mut self, ticks: u64) {
        let mut ready = Vec::new();
        self.typing_due(&mut ready);
        self.announcements_due(&mut ready);
        let every = self.node.config.load().timings.head_check();
        let head_ticks = (every.as_millis() / TICK.as_millis()).max(1);
        if u128::from(ticks).is_multiple_of(head_ticks) {
            self.check_heads(&mut ready).await;
        }
        if ticks.is_multiple_of(IDLE_TICKS) {
            self.close_idle().await;
        }
        if !ready.is_empty() {
            self.deliver(ready).await;
        }
    }

    /// Compares the open conversations with their heads: the last publication may have been lost silently.
    async fn check_heads(&mut self, ready: &mut Vec<deliver::Ready>) {
        let ids: Vec<ConversationId> = self
            .open
            .keys()
            .filter_map(|t| if let Topic::Conversation(id) = t { Some(id.clone()) } else { None })
            .collect();
        if ids.is_empty() {
            return;
        }
        let logs: Vec<LogKey> = ids.iter().cloned().map(LogKey::Conversation).collect();
        let heads = self.node.backplane.fences.heads(&logs).await;
        for (id, head) in ids.into_iter().zip(heads) {
            let head = match head {
                Ok(place) => place.log(),
                Err(fault) => {
                    tracing::warn!(%fault, "head check");
                    continue;
                }
            };
            let topic = Topic::Conversation(id);
            let Some(track) = self.open.get(&topic) else { continue };
            let Some(head) = head else {
                // Deleted, and the word of it was missed. An open topic that never existed has no listeners.
                self.node.evict_all(&topic);
                continue;
            };
            let (behind, cursors_behind) = (
                head.seq > track.seq || head.epoch != track.epoch,
                head.cursor_version > track.cursor_version,
            );
            if behind {
                self.repair(&topic, ready).await;
            }
            if cursors_behind {
                self.reread_cursors(&topic, ready).await;
            }
        }
    }

    /// Closes topics nobody listened to at two looks in a row.
    async fn close_idle(&mut self) {
        let mut closing = Vec::new();
        for (topic, track) in &mut self.open {
            let empty = *topic != Topic::Nodes && self.node.hub.listeners(topic).is_empty();
            if empty && track.idle {
                closing.push(topic.clone());
            }
            track.idle = empty;
        }
        closing.retain(|topic| self.node.hub.close_if_empty(topic));
        if closing.is_empty() {
            return;
        }
        for topic in &closing {
            self.open.remove(topic);
        }
        if let Err(fault) = self.node.backplane.bus.unsubscribe(&closing).await {
            tracing::warn!(%fault, "unsubscribe");
        }
    }
}
