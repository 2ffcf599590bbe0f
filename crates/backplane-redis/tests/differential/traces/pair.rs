//! The two engines of a trace, side by side: each step on both, then the comparison.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parlance_backplane::embedded::{self, Embedded};
use parlance_backplane::{Backplane, Clock, Delivery, Inbox, Publication, Range, Signal};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{LogKey, NodeId, Time, Topic};
use parlance_redis_rig::Server;

use super::command::{Command, Place, Step};
use super::generate::Trace;
use super::invoke::{Kept, Moment, Side};
use super::normal::Normal;

const NODES: usize = 2;
/// Publications are compared after so many steps.
const TOGETHER: usize = 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// Both engines.
pub struct Pair {
    clock: Arc<AtomicU64>,
    embedded: Embedded,
    redis: Vec<Redis>,
    left: Side,
    right: Side,
    inboxes: [Vec<Inbox>; 2],
    markers: u64,
    unsettled: usize,
}

fn side(nodes: Vec<Backplane>) -> (Side, Vec<Inbox>) {
    let inboxes = nodes.iter().map(|node| node.bus.inbox().unwrap()).collect();
    (Side { nodes, normal: Normal::default(), stamps: Vec::new() }, inboxes)
}

impl Pair {
    /// Fresh and empty ones.
    pub async fn start(server: &Server, trace: &Trace) -> Self {
        static PAIRS: AtomicU64 = AtomicU64::new(0);
        let time = Arc::new(AtomicU64::new(trace.start));
        let shown = time.clone();
        let clock: Clock = Arc::new(move || Time(shown.load(Ordering::SeqCst)));
        let options = embedded::Options {
            path: None,
            retention_entries: trace.retention_entries,
            retention: trace.retention,
            dedupe_window: trace.dedupe_window,
            ..embedded::Options::default()
        };
        let embedded = Embedded::open(options, clock.clone()).unwrap();
        let name = |index: usize| NodeId::parse(&format!("node-{index}")).unwrap();
        let (left, left_inboxes) = side((0..NODES).map(|index| embedded.attach(name(index))).collect());
        let prefix = format!("d{}:", PAIRS.fetch_add(1, Ordering::SeqCst));
        let mut redis = Vec::new();
        for _ in 0..NODES {
            let options = Options {
                prefix: prefix.clone(),
                retention_entries: trace.retention_entries,
                retention: trace.retention,
                dedupe_window: trace.dedupe_window,
                tell_time: true,
                patience: PATIENCE,
                ..Options::new(&server.url(), clock.clone())
            };
            redis.push(Redis::connect(options).await.unwrap());
        }
        let (right, right_inboxes) = side(redis.iter().map(Redis::backplane).collect());
        for node in left.nodes.iter().chain(&right.nodes) {
            node.bus.subscribe(&[Topic::Nodes]).await.unwrap();
        }
        let inboxes = [left_inboxes, right_inboxes];
        Self { clock: time, embedded, redis, left, right, inboxes, markers: 0, unsettled: 0 }
    }

    pub async fn close(self) {
        self.embedded.close().await;
        for redis in &self.redis {
            redis.close().await;
        }
    }

    /// One step on both; a difference as text.
    pub async fn step(&mut self, step: &Step) -> Result<(), String> {
        if let Command::Pass(by) = &step.command {
            self.clock.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
            return Ok(());
        }
        // What is on the way when a subscription ends may or may not arrive.
        if matches!(step.command, Command::Unsubscribe(_)) {
            self.settle().await?;
        }
        let kept = self.kept(&step.command).await;
        let moment = Moment { now: Time(self.clock.load(Ordering::SeqCst)), kept: &kept };
        let (left, right) = tokio::join!(
            self.left.invoke(step.node, &step.command, &moment),
            self.right.invoke(step.node, &step.command, &moment),
        );
        if left != right {
            return Err(format!("embedded: {left}\nredis:    {right}"));
        }
        if matches!(step.command, Command::Unsubscribe(_)) {
            self.unsubscribed(step.node).await?;
        }
        self.unsettled += 1;
        if self.unsettled >= TOGETHER { self.settle().await } else { Ok(()) }
    }

    /// What is published soon after a subscription ended may still arrive, unless a later subscription is confirmed.
    async fn unsubscribed(&mut self, node: usize) -> Result<(), String> {
        self.markers += 1;
        let fresh = [Topic::App(format!("feed:marker-{}", self.markers).into())];
        for side in [&self.left, &self.right] {
            side.nodes[node].bus.subscribe(&fresh).await.map_err(|fault| fault.to_string())?;
        }
        Ok(())
    }

    /// What each log that a command names holds.
    async fn kept(&self, command: &Command) -> Kept {
        let mut all = Kept::default();
        let whole = |id| LogKey::Conversation(id);
        let logs: Vec<LogKey> = match command {
            Command::React { conversation, .. } => vec![whole(conversation.clone())],
            Command::Range(log, _) => vec![log.clone()],
            Command::FindId(super::command::Named::Of(id), _)
            | Command::Standing(id, ..)
            | Command::Advance(id, ..) => vec![whole(id.clone())],
            Command::Assign(pointers) => pointers.iter().map(|(_, log, _)| log.clone()).collect(),
            Command::Pointers { user, .. } => {
                let marks = self.left.nodes[0].sequences.marks(user).await.unwrap();
                marks.into_iter().map(|(log, _)| log).collect()
            }
            _ => Vec::new(),
        };
        for log in logs {
            let page = self.left.nodes[0].log.range(&log, Range::After { seq: u64::MAX, limit: 0 }).await;
            let page = page.unwrap();
            all.logs.insert(log, page.first..=page.head);
        }
        all
    }

    /// Waits for all publications, and compares them.
    pub async fn settle(&mut self) -> Result<(), String> {
        self.unsettled = 0;
        self.markers += 1;
        let signal = Signal::Disconnect { reason: format!("marker {}", self.markers), reconnect: false };
        let marker = Delivery::Published(Topic::Nodes, Publication::Signal(signal.clone()));
        for side in [&self.left, &self.right] {
            side.nodes[0]
                .bus
                .signal(&Topic::Nodes, signal.clone())
                .await
                .map_err(|fault| fault.to_string())?;
        }
        for node in 0..NODES {
            let left = heard(&mut self.inboxes[0][node], &marker, &mut self.left.normal).await?;
            let right = heard(&mut self.inboxes[1][node], &marker, &mut self.right.normal).await?;
            if left != right {
                let lines = |of: &Heard| format!("{of:#?}");
                return Err(format!(
                    "publications on node {node}\nembedded: {}\nredis:    {}",
                    lines(&left),
                    lines(&right)
                ));
            }
        }
        Ok(())
    }
}

/// Publications in order, by what has an order: the topic, and within it what is not of the same partition.
type Heard = BTreeMap<(String, String), Vec<String>>;

async fn heard(inbox: &mut Inbox, marker: &Delivery, normal: &mut Normal) -> Result<Heard, String> {
    let mut all: BTreeMap<(Topic, String), Vec<Publication>> = BTreeMap::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, inbox.recv()).await;
        let delivery = next.map_err(|_| "the marker does not come")?.ok_or("the inbox ended")?;
        if delivery == *marker {
            break;
        }
        let Delivery::Published(topic, publication) = delivery else {
            return Err("an inbox said that something was lost".to_owned());
        };
        let class = match (&topic, &publication) {
            (Topic::PresenceAll, Publication::Presence(changed)) => changed.user.to_string(),
            (_, Publication::Typing(_)) => "typing".to_owned(),
            _ => String::new(),
        };
        all.entry((topic, class)).or_default().push(publication);
    }
    let mut told = Heard::new();
    for ((topic, class), list) in all {
        let log = LogKey::of_topic(&topic);
        let list = list.into_iter().map(|one| normal.publication(log.as_ref(), one)).collect();
        told.insert((format!("{topic:?}"), class), sorted(list));
    }
    Ok(told)
}

/// Those who are taken out of a room in one step go in any order.
fn sorted(mut list: Vec<Publication>) -> Vec<String> {
    let is_end =
        |one: &Publication| matches!(one, Publication::Room(room) if !room.present && !room.explicit);
    let same_step = |one: &Publication, other: &Publication| match (one, other) {
        (Publication::Room(left), Publication::Room(right)) => {
            is_end(one) && is_end(other) && left.at == right.at
        }
        _ => false,
    };
    for run in list.chunk_by_mut(same_step) {
        run.sort_by_key(|one| format!("{one:?}"));
    }
    list.iter().map(|one| format!("{one:?}")).collect()
}

impl Place {
    /// The sequence in a log with this head.
    pub fn within(self, head: u64) -> u64 {
        match self {
            Self::At(seq) => seq,
            Self::Back(back) => head.saturating_sub(back),
            Self::Beyond(more) => head + more,
        }
    }
}
