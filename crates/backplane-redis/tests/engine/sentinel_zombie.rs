//! A primary that is killed, under Sentinels or in a cluster, and started again at once: it holds itself for the
//! primary that it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::chat::{clock, conversation_in, create, say, slot_of};
use crate::support::witness::Witness;
use parlance_backplane::{Backplane, Fenced, Range, Seen, Stored};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{ConversationId, LogKey, Record};
use parlance_redis_rig::{Cluster, Kind, Sentinels, Setup};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Between two attempts to say something.
const PAUSE: Duration = Duration::from_millis(2);
/// How long after its successor's promotion a primary may still be used: nodes look every quarter of a second who is
/// being replaced, and what was sent before is answered.
const STRAY: Duration = Duration::from_millis(500);

/// Something that was acknowledged.
struct Ack {
    stored: Stored,
    client_id: String,
    when: Instant,
}

/// Appends until it is told to stop.
async fn keep_talking(node: Backplane, name: usize, id: ConversationId, stop: Arc<AtomicBool>) -> Vec<Ack> {
    let mut acked = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let client_id = format!("{name}-{n}");
        if let Ok(stored) = say(&node, &id, &client_id).await {
            acked.push(Ack { stored, client_id, when: Instant::now() });
        }
        tokio::time::sleep(PAUSE).await;
    }
    acked
}

/// Several nodes that talk in one conversation.
struct Talk {
    id: ConversationId,
    nodes: Vec<Backplane>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Ack>>>,
}

impl Talk {
    async fn begin(engines: &[Redis], id: ConversationId) -> Self {
        let nodes: Vec<Backplane> = engines.iter().map(Redis::backplane).collect();
        create(&nodes[0], &id).await;
        let (stop, tracker) = (Arc::new(AtomicBool::new(false)), TaskTracker::new());
        let talking = |(name, node): (usize, &Backplane)| {
            tracker.spawn(keep_talking(node.clone(), name, id.clone(), stop.clone()))
        };
        let tasks = nodes.iter().enumerate().map(talking).collect();
        Self { id, nodes, stop, tasks }
    }

    /// Every node gets something across.
    async fn all_again(&self, what: &str) {
        for (name, node) in self.nodes.iter().enumerate() {
            while say(node, &self.id, &format!("{what}-{name}")).await.is_err() {}
        }
    }

    /// Everything that was acknowledged.
    async fn end(&mut self) -> Vec<Ack> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acked = Vec::new();
        for task in self.tasks.drain(..) {
            acked.extend(task.await.unwrap());
        }
        acked
    }

    /// Client ids by sequence, as the log has them.
    async fn log(&self) -> BTreeMap<u64, String> {
        let (mut log, mut seq) = (BTreeMap::new(), 0);
        loop {
            let range = Range::After { seq, limit: 1000 };
            let page = self.nodes[0].log.range(&LogKey::Conversation(self.id.clone()), range).await.unwrap();
            for entry in &page.entries {
                if let Record::Message(message) = &entry.record {
                    log.insert(entry.seq, message.client_id.as_deref().unwrap().to_owned());
                }
                seq = entry.seq;
            }
            if !page.more {
                return log;
            }
        }
    }

    /// What a node that delivered this finds when it compares.
    async fn compared(&self, ack: &Ack) -> Fenced {
        let Stored { seq, at, .. } = ack.stored;
        let seen = Seen { seq, at: Some(at), epoch: 0, number: 0, from: seq };
        self.nodes[0].fences.fence(&LogKey::Conversation(self.id.clone()), seen).await.unwrap()
    }
}

/// When the old primary is started again.
#[derive(Debug, Clone, Copy)]
enum Again {
    /// After so many milliseconds: Sentinels hold it for dead after 1000.
    After(u64),
    /// As soon as the Sentinels agree on its successor.
    Replaced,
}

fn no_sequence_twice<'a>(acked: impl IntoIterator<Item = &'a Ack>) {
    let mut all: BTreeMap<u64, &str> = BTreeMap::new();
    for ack in acked {
        if let Some(other) = all.insert(ack.stored.seq, &ack.client_id) {
            panic!("{other} and {} both have {}", ack.client_id, ack.stored.seq);
        }
    }
}

/// How often functions were called at a server.
async fn calls(sentinels: &Sentinels, server: usize) -> u64 {
    sentinels.server(server).calls_of("fcall").await.unwrap()
}

/// Who was primary before and after, and when the latter became it.
#[derive(Debug)]
struct Change {
    old: usize,
    new: usize,
    promoted: Option<Instant>,
}

/// Replication does not wait: what the old primary took until its successor was promoted may be gone, and its sequences
/// given again. But nothing else is: nobody uses the old one afterwards, and whoever delivered what is gone finds out.
/// How many messages are gone.
async fn judge(talk: &Talk, acked: &[Ack], change: &Change) -> usize {
    let log = talk.log().await;
    let is_kept = |ack: &&Ack| log.get(&ack.stored.seq) == Some(&ack.client_id);
    let (kept, lost): (Vec<&Ack>, Vec<&Ack>) = acked.iter().partition(is_kept);
    no_sequence_twice(lost.iter().copied());
    for ack in &lost {
        assert_ne!(change.old, change.new, "{}: nothing was replaced", ack.client_id);
        let late = ack.when.saturating_duration_since(change.promoted.unwrap());
        assert!(
            late < STRAY,
            "{} was taken by the old primary {late:?} after it was replaced",
            ack.client_id
        );
    }
    let last = acked.iter().map(|ack| ack.stored.seq).max().unwrap();
    if let Some(ack) = kept.last() {
        assert_eq!(talk.compared(ack).await, Fenced::There, "{} is there", ack.client_id);
    }
    if let Some(ack) = lost.last() {
        let found = talk.compared(ack).await;
        let is_fenced = matches!(found, Fenced::Begun(record) if record.seq > last);
        assert!(is_fenced, "{} is gone, and {found:?}", ack.client_id);
    }
    lost.len()
}

/// Until both replicas follow: one that is promoted before it does knows nothing of the conversation, as nobody promised.
async fn followed(sentinels: &Sentinels) {
    let began = Instant::now();
    loop {
        let primary = sentinels.primary().await.unwrap();
        let following = sentinels.server(primary).command(&["WAIT", "2", "100"]).await;
        if following.is_ok_and(|count| count == "2") {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nobody follows the primary");
        tokio::time::sleep(PAUSE).await;
    }
}

/// One round: what is acknowledged by three nodes is in the log, as far as that is promised, and all end at the same
/// primary.
async fn round(sentinels: &mut Sentinels, engines: &[Redis], witness: &Witness, again: Again) {
    followed(sentinels).await;
    println!("{again:?} at {} ms", witness.millis());
    let id = format!("{}-{}", conversation_in(0..16384), witness.millis());
    let mut talk = Talk::begin(engines, ConversationId::parse(&id).unwrap()).await;
    say(&talk.nodes[1], &talk.id, "before").await.unwrap();
    let old = sentinels.kill_primary().await.unwrap();
    let killed = Instant::now();
    match again {
        Again::After(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Again::Replaced => drop(sentinels.wait_failover(old).await.unwrap()),
    }
    sentinels.server_mut(old).restart().await.unwrap();
    sentinels.wait_ok().await.unwrap();
    let new = sentinels.primary().await.unwrap();
    // All talk again, and to the same server.
    talk.all_again("after").await;
    let acked = talk.end().await;
    let change = Change { old, new, promoted: witness.promoted(new, killed) };
    let lost = judge(&talk, &acked, &change).await;
    println!("{} acknowledged, {lost} of them lost, primary {old} then {new}", acked.len());
    let before = calls(sentinels, new).await;
    for (name, node) in talk.nodes.iter().enumerate() {
        say(node, &talk.id, &format!("last-{name}")).await.unwrap();
    }
    let asked = calls(sentinels, new).await - before;
    assert!(asked >= 3 && !acked.is_empty(), "{again:?}: {asked} {}", acked.len());
}

/// Redis that loses nothing by itself: what a busy disk holds up is not the question here.
async fn sentinels() -> Sentinels {
    Sentinels::build(Setup::new(Kind::Plain).set("appendfsync", "always")).await.unwrap()
}

async fn engines(url: &str, count: usize) -> Vec<Redis> {
    let mut engines = Vec::new();
    for _ in 0..count {
        let options = Options { retention_entries: 100_000, ..Options::new(url, clock()) };
        engines.push(Redis::connect(options).await.unwrap());
    }
    engines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_replaced_and_comes_back_is_used_by_nobody() {
    let mut sentinels = sentinels().await;
    let witness = Witness::of(&mut sentinels);
    let engines = engines(&sentinels.url(), 3).await;
    let rounds = [
        Again::Replaced,
        Again::After(0),
        Again::After(1000),
        Again::After(1150),
        Again::After(1300),
        Again::After(1600),
        Again::After(2000),
        Again::Replaced,
    ];
    for again in rounds {
        round(&mut sentinels, &engines, &witness, again).await;
    }
    for redis in engines {
        redis.close().await;
    }
}

/// Has the first Sentinel replace the primary though it is well; when the successor was promoted.
async fn promote_another(sentinels: &mut Sentinels, witness: &Witness, old: usize) -> Instant {
    let began = Instant::now();
    sentinels.sentinels()[0].command(&["SENTINEL", "FAILOVER", "mymaster"]).await.unwrap();
    let heirs: Vec<usize> = (0..3).filter(|server| *server != old).collect();
    loop {
        if let Some(at) = heirs.iter().find_map(|heir| witness.promoted(*heir, began)) {
            return at;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "nobody is promoted");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The one that replaces the primary falls silent when it has promoted the successor: the others take the old primary
/// for well, as does it itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_sentinel_that_replaces_the_primary_is_silent_nobody_is_used() {
    let mut sentinels = sentinels().await;
    let witness = Witness::of(&mut sentinels);
    let engines = engines(&sentinels.url(), 2).await;
    let mut talk = Talk::begin(&engines, conversation_in(0..16384)).await;
    talk.all_again("before").await;
    let old = sentinels.primary().await.unwrap();
    let promoted = promote_another(&mut sentinels, &witness, old).await;
    // Nodes see it, before it learns that it has succeeded.
    tokio::time::sleep(STRAY / 2).await;
    sentinels.sentinels()[0].pause().unwrap();
    // A question to it is given up after a second; the others undo what it did after eight.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let acked = talk.end().await;
    let role = sentinels.server(old).info("replication", "role").await.unwrap();
    assert_eq!(role, "master", "the others know already: there is nothing to see");
    let late = acked.iter().filter(|ack| ack.when > promoted + STRAY).count();
    println!("of {} {late} taken by the old primary after it was replaced", acked.len());
    assert_eq!(late, 0);
    sentinels.sentinels()[0].resume().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_replaced_though_it_is_well_takes_few_writes_with_it() {
    let sentinels = Sentinels::start().await.unwrap();
    let engines = engines(&sentinels.url(), 2).await;
    let mut talk = Talk::begin(&engines, conversation_in(0..16384)).await;
    let heir = sentinels.failover().await.unwrap();
    sentinels.wait_ok().await.unwrap();
    talk.all_again("after").await;
    let (acked, log) = (talk.end().await, talk.log().await);
    let lost = acked.iter().filter(|ack| log.get(&ack.stored.seq) != Some(&ack.client_id)).count();
    println!("heir {heir}: {} acknowledged, {lost} of them lost", acked.len());
    // What was said in about a third of a second: nobody waits for the old primary to be told.
    assert!(lost < 250, "{lost} of {}", acked.len());
    for redis in engines {
        redis.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_primary_of_a_cluster_takes_nothing_when_it_comes_back() {
    let mut cluster = Cluster::start().await.unwrap();
    let engines = engines(&cluster.url(), 3).await;
    let mut talk = Talk::begin(&engines, conversation_in(0..5000)).await;
    let (slot, mut kills) = (slot_of(&talk.id), Vec::new());
    for _ in 0..2 {
        let old = cluster.kill_primary(slot).await.unwrap();
        kills.push(Instant::now());
        cluster.wait_failover(slot, old).await.unwrap();
        cluster.server_mut(old).restart().await.unwrap();
        while cluster.server(old).info("replication", "role").await.unwrap() == "master" {
            let answer = cluster.server(old).command(&["SET", "b", "v"]).await;
            // The slot of that key is 3300.
            assert!(answer.is_err(), "it serves before it knows of its successor");
        }
        cluster.wait_ok().await.unwrap();
        talk.all_again(&format!("after-{old}")).await;
    }
    let (acked, log) = (talk.end().await, talk.log().await);
    let mut lost: Vec<&Ack> = acked.iter().collect();
    lost.retain(|ack| log.get(&ack.stored.seq) != Some(&ack.client_id));
    println!("{} acknowledged, {} of them lost", acked.len(), lost.len());
    // Replication does not wait: what was on its way to the replica dies with the primary, and nothing else does.
    let dies = |ack: &&Ack| {
        kills.iter().any(|kill| ack.when < *kill + STRAY && kill.saturating_duration_since(ack.when) < STRAY)
    };
    assert!(lost.iter().all(dies), "a server that was replaced took something");
    no_sequence_twice(lost);
    for redis in engines {
        redis.close().await;
    }
}
