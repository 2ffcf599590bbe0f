//! The cross-node feed: one task that takes this node's inbox, checks each log entry against its topic's
//! position, fills gaps from the log, and hands events to the hub in order.
//!
//! What has to wait for the backplane waits by itself: the loop goes on with every other topic (see [`job`]).
//! Owns: open topics and their positions. Must not know: sessions, sockets, dialects.

mod announce;
mod check;
mod crowd;
mod deliver;
mod job;
mod known;
mod opening;
mod presence;
mod receipts;
mod repair;
mod room;
mod track;
mod typing;
mod writing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parlance_backplane::{Delivery, Fault, Inbox, Publication, Signal, UserPresence};
use parlance_hub::Notice;
use parlance_model::{Time, Topic};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::brake;
use crate::node::Node;
use crate::trace::Mark;
use announce::Announcer;
use check::{Checks, Look};
use crowd::Crowd;
use deliver::{Ready, To};
use job::{Job, Readers, Todo};
use known::{Known, Question};
use opening::{Opened, Waiting};
use track::Track;
use typing::TypingTable;
use writing::write_out;

/// Publications taken at once.
const BATCH: usize = 256;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between two looks for topics nobody listens to.
const IDLE_TICKS: u64 = 50;
/// A table with room for no more open topics than this is not made smaller.
const SMALL: usize = 1024;
/// After a loss connections are present in their rooms again by then.
const SURE: Duration = Duration::from_secs(5);
/// Waiting requests to open topics.
const REQUESTS: usize = 1024;
/// Things to do that wait for one topic's earlier ones; when it is more the log is read instead.
const QUEUE: usize = 1024;

struct Open {
    topics: Vec<Topic>,
    /// Told when all of them are heard, and where they stand is still to be found out. Dropped where that cannot be
    /// told apart.
    heard: Option<oneshot::Sender<()>>,
    done: oneshot::Sender<Vec<(Topic, Fault)>>,
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
        let failed = self.open_each(topics).await?;
        failed.into_iter().next().map_or(Ok(()), |(_, fault)| Err(fault))
    }

    /// The same, each for itself: those that could not be opened, and why.
    ///
    /// # Errors
    /// When the feed has stopped.
    pub async fn open_each(&self, topics: Vec<Topic>) -> Result<Vec<(Topic, Fault)>, Fault> {
        let stopped = || Fault::Unavailable("the feed has stopped".to_owned());
        let (done, opened) = oneshot::channel();
        self.requests.send(Open { topics, heard: None, done }).await.map_err(|_| stopped())?;
        opened.await.map_err(|_| stopped())
    }

    /// As [`Self::open`], of one topic; `heard` is told as soon as this node hears it.
    ///
    /// # Errors
    /// The backplane's fault.
    pub async fn open_telling(&self, topic: Topic, heard: oneshot::Sender<()>) -> Result<(), Fault> {
        let stopped = || Fault::Unavailable("the feed has stopped".to_owned());
        let (done, opened) = oneshot::channel();
        let open = Open { topics: vec![topic], heard: Some(heard), done };
        self.requests.send(open).await.map_err(|_| stopped())?;
        let failed = opened.await.map_err(|_| stopped())?;
        failed.into_iter().next().map_or(Ok(()), |(_, fault)| Err(fault))
    }

    /// Begins to open topics that will probably be wanted in a moment. Those nobody comes to are closed again.
    pub async fn prepare(&self, topics: Vec<Topic>) {
        if !topics.is_empty() {
            let (done, _nobody_waits) = oneshot::channel();
            // With the feed stopped, whoever wants them is told so.
            let _stopped = self.requests.send(Open { topics, heard: None, done }).await;
        }
    }
}

/// An open topic.
#[derive(Default)]
struct Slot {
    /// Where it stands; away while something is done for it, not there yet while it is being opened.
    /// Boxed: the table of open topics has room for many more than there are.
    track: Option<Box<Track>>,
    /// What is to be done next.
    todo: VecDeque<Todo>,
    /// Who waits for it to be open.
    waiting: Vec<u64>,
    opening: bool,
    /// Nobody listened at the last look.
    idle: bool,
    /// When it is compared with its log.
    look: Look,
}

impl Slot {
    fn push(&mut self, todo: Todo) {
        if self.todo.len() < QUEUE {
            self.todo.push_back(todo);
        } else {
            // The log has the entries, and says so of the cursors; the engine knows who is present.
            self.todo.clear();
            self.todo.extend([Todo::Overrun, Todo::Cursors, Todo::Rooms { sure: false }]);
        }
    }
}

/// What something that was waited for came to.
enum Outcome {
    /// A topic's work is done.
    Worked(Topic, Box<Track>),
    Opened(Opened),
    Checked(check::Answers),
    Stamped(check::Stamps),
    /// Presence was asked for.
    Looked(Question, Result<Vec<UserPresence>, Fault>),
    /// Subscriptions were ended.
    Closed,
    /// The other nodes know that this one is late.
    Told,
}

pub(crate) struct Feed {
    node: Arc<Node>,
    open: FxHashMap<Topic, Slot>,
    typing: TypingTable,
    announcer: Announcer,
    crowd: Crowd,
    known: Known,
    /// When rooms are looked into once more after a loss.
    rooms_at: Option<Time>,
    under_way: FuturesUnordered<BoxFuture<'static, Outcome>>,
    readers: Arc<Readers>,
    waiting: Waiting,
    checks: Checks,
    /// Subscriptions without an open topic.
    stray: Vec<Topic>,
    /// Subscriptions are being ended: none is begun meanwhile.
    closing: bool,
}

/// Runs the feed until the node halts.
pub async fn run(node: Arc<Node>, mut inbox: Inbox, mut requests: FeedRequests) {
    let mut feed = Feed::new(node.clone());
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
                feed.tick(ticks);
            }
            Some(outcome) = feed.under_way.next() => feed.finish(outcome),
            Some(open) = requests.0.recv(), if !feed.closing => feed.open(open),
            taken = inbox.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    tracing::error!("the backplane closed this node's inbox");
                    node.halt.cancelled().await;
                    break;
                }
                node.metrics.feed.inbox.set(i64::try_from(inbox.len()).unwrap_or(i64::MAX));
                feed.take(&mut batch);
            }
        }
        write_out(&node);
    }
}

/// Work that writes what it has delivered whenever it comes to wait.
fn written(node: Arc<Node>, mut work: BoxFuture<'static, Outcome>) -> BoxFuture<'static, Outcome> {
    let poll = move |cx: &mut Context<'_>| {
        let polled = work.poll_unpin(cx);
        write_out(&node);
        polled
    };
    std::future::poll_fn(poll).boxed()
}

impl Feed {
    fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            open: FxHashMap::default(),
            typing: TypingTable::default(),
            announcer: Announcer::default(),
            crowd: Crowd::default(),
            known: Known::default(),
            rooms_at: None,
            under_way: FuturesUnordered::new(),
            readers: Arc::default(),
            waiting: Waiting::default(),
            checks: Checks::default(),
            stray: Vec::new(),
            closing: false,
        }
    }

    fn count(&self, batch: &[Delivery]) {
        let metrics = &self.node.metrics.feed;
        metrics.publications.inc_by(batch.len() as u64);
        let oldest = batch.iter().find_map(|delivery| match delivery {
            Delivery::Published(_, Publication::Entry(entry)) => Some(entry.at),
            _ => None,
        });
        if let Some(at) = oldest {
            metrics.lag.observe(self.node.since(at).as_secs_f64());
        }
    }

    fn take(&mut self, batch: &mut Vec<Delivery>) {
        let mut touched = Vec::new();
        self.count(batch);
        for delivery in batch.drain(..) {
            match delivery {
                Delivery::Published(topic, publication) => self.sort_in(topic, publication, &mut touched),
                Delivery::Lost => {
                    tracing::warn!(
                        "publications were lost on the way: comparing every open topic with its log"
                    );
                    self.node.metrics.feed.bus_gaps.inc();
                    self.recover();
                }
            }
        }
        for topic in touched {
            self.work(&topic);
        }
    }

    /// Anything may have been missed: every log is compared, presence and the switches are looked at again.
    fn recover(&mut self) {
        for slot in self.open.values_mut().filter(|slot| slot.track.is_none()) {
            slot.push(Todo::Behind);
        }
        self.check(true);
        self.known.lost();
        self.ask_presence();
        self.look_into_rooms(false);
        self.rooms_at = Some(self.node.clock.now() + SURE);
        self.node.carry_leases();
        self.node.orders.look();
    }

    /// Finds out who is present where that is told.
    fn look_into_rooms(&mut self, sure: bool) {
        let hub = &self.node.hub;
        let told: Vec<Topic> = self.open.keys().filter(|topic| room::is_told(hub, topic)).cloned().collect();
        for topic in told {
            if let Some(slot) = self.open.get_mut(&topic) {
                slot.push(Todo::Rooms { sure });
            }
            self.work(&topic);
        }
    }

    fn sort_in(&mut self, topic: Topic, publication: Publication, touched: &mut Vec<Topic>) {
        let mut ready = Vec::new();
        match publication {
            Publication::Typing(change) => self.heard_typing(&topic, change, &mut ready),
            Publication::Presence(change) => self.heard_presence(&topic, &change, &mut ready),
            Publication::Signal(signal) => self.heard_signal(&topic, signal, &mut ready),
            lasting => {
                let Some(slot) = self.open.get_mut(&topic) else { return };
                self.checks.heard(&mut slot.look);
                if slot.todo.is_empty() && slot.track.is_some() {
                    touched.push(topic);
                }
                slot.push(Todo::Heard(lasting));
            }
        }
        self.tell(ready);
    }

    fn heard_signal(&mut self, topic: &Topic, signal: Signal, ready: &mut Vec<Ready>) {
        match signal {
            Signal::Typing(change) => self.heard_typing(topic, change, ready),
            Signal::Disconnect { reason, reconnect } => {
                let code = if reconnect { 1012 } else { 1008 };
                for listener in self.node.hub.listeners(topic) {
                    listener.notify(Notice::Close { code, reason: reason.clone() });
                }
            }
            Signal::Maintenance | Signal::Orders => self.node.orders.look(),
            Signal::Behind(all) => self.node.brakes.heard(all),
        }
    }

    /// Hands events that are in no log to the hub; presence that very many hear of with the next tick.
    fn tell(&mut self, ready: Vec<Ready>) {
        for item in ready {
            let Ready::Event { topic, mut event, to } = item else { continue };
            if let (Topic::PresenceAll, To::Presence { announce, user, .. }) = (&topic, &to) {
                let Some(told_now) = self.crowd.keep(&self.node.hub, *announce, user, event) else {
                    if self.crowd.is_full() {
                        self.crowd.tell(&self.node);
                    }
                    continue;
                };
                event = told_now;
            }
            deliver::tell(&self.node, &topic, &event, &to);
        }
    }

    /// Does what is to be done for a topic; what has to wait goes on beside everything else.
    fn work(&mut self, topic: &Topic) {
        let Some(slot) = self.open.get_mut(topic) else { return };
        if slot.todo.is_empty() {
            return;
        }
        let Some(track) = slot.track.take() else { return };
        let job = Job {
            node: self.node.clone(),
            topic: topic.clone(),
            track,
            todo: std::mem::take(&mut slot.todo),
            readers: self.readers.clone(),
            ready: Vec::new(),
            heard: self.node.clock.now(),
            mark: Mark::now(),
            came: None,
        };
        let mut work = job.run().map(|(topic, track)| Outcome::Worked(topic, track)).boxed();
        // Mostly there is nothing to wait for.
        match (&mut work).now_or_never() {
            Some(Outcome::Worked(topic, track)) => {
                if let Some(slot) = self.open.get_mut(&topic) {
                    slot.track = Some(track);
                }
            }
            Some(outcome) => self.finish(outcome),
            None => self.under_way.push(written(self.node.clone(), work)),
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Worked(topic, track) => {
                if let Some(slot) = self.open.get_mut(&topic) {
                    slot.track = Some(track);
                }
                self.work(&topic);
            }
            Outcome::Opened(opened) => self.opened(opened),
            Outcome::Checked(answers) => self.checked(answers),
            Outcome::Stamped(stamps) => self.stamped(stamps),
            Outcome::Looked(question, answer) => self.looked(question, answer),
            Outcome::Closed => self.closing = false,
            Outcome::Told => {}
        }
    }

    fn tick(&mut self, ticks: u64) {
        let mut ready = Vec::new();
        self.typing_due(&mut ready);
        self.announcements_due(&mut ready);
        self.tell(ready);
        self.crowd.tell(&self.node);
        self.ask_presence();
        if let Some(word) = brake::word(&self.node) {
            let node = self.node.clone();
            self.under_way.push(Box::pin(async move {
                brake::tell(&node, word).await;
                Outcome::Told
            }));
        }
        if self.rooms_at.is_some_and(|at| at <= self.node.clock.now()) {
            self.rooms_at = None;
            self.look_into_rooms(true);
        }
        let every = self.node.config.load().timings.head_check();
        let head_ticks = u64::try_from(every.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).max(1);
        if self.checks.is_due(ticks, head_ticks) {
            self.check(false);
        }
        self.node.metrics.feed.topics.set(i64::try_from(self.open.len()).unwrap_or(i64::MAX));
        if ticks.is_multiple_of(IDLE_TICKS) {
            self.close_idle();
        }
    }

    /// Closes topics nobody listened to at two looks in a row.
    fn close_idle(&mut self) {
        let mut closing = Vec::new();
        for (topic, slot) in &mut self.open {
            let empty = *topic != Topic::Nodes && !self.node.hub.has_listeners(topic);
            if empty && slot.idle && slot.track.is_some() {
                closing.push(topic.clone());
            }
            slot.idle = empty;
        }
        closing.retain(|topic| self.node.hub.close_if_empty(topic));
        for topic in &closing {
            self.open.remove(topic);
            self.known.closed(topic);
        }
        if self.open.capacity() > SMALL && self.open.len() < self.open.capacity() / 8 {
            self.open.shrink_to(self.open.len() * 2);
        }
        self.announcer.forget(|topic| !self.open.contains_key(topic));
        closing.extend(self.stray.drain(..).filter(|topic| !self.open.contains_key(topic)));
        if closing.is_empty() || self.closing {
            self.stray.append(&mut closing);
            return;
        }
        self.closing = true;
        let node = self.node.clone();
        let close = async move {
            if let Err(fault) = node.backplane.bus.unsubscribe(&closing).await {
                tracing::warn!(%fault, "unsubscribe");
            }
            Outcome::Closed
        };
        self.under_way.push(close.boxed());
    }
}
