//! What is acknowledged at `redis-wait` is on the replicas; what cannot promise that does not start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::conversation::{append, change, conv, create, later, messages, resend, user};
use parlance_backplane::{AckLevel, Appended, Backplane, MemberSet, Reacted};
use parlance_backplane_redis::{Options, Redis, Replicas};
use parlance_model::{Author, LogKey, Record};
use parlance_redis_rig::{Cluster, Faults, Kind, Proxy, Server, Setup};

/// A primary and its replica, connected through a proxy.
struct Pair {
    primary: Server,
    replica: Server,
    between: Proxy,
}

async fn until(what: &str, mut asked: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !asked().await {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Pair {
    async fn start() -> Self {
        let primary = Server::standalone().await.unwrap();
        let between = Proxy::start(primary.port(), 1).await.unwrap();
        let of = format!("127.0.0.1 {}", between.port());
        let replica = Server::start(Setup::new(Kind::Plain).set("replicaof", &of)).await.unwrap();
        let pair = Self { primary, replica, between };
        pair.connected().await;
        pair
    }

    async fn connected(&self) {
        until("the replica", async || {
            let told = self.primary.command(&["INFO", "replication"]).await.unwrap_or_default();
            told.contains("state=online")
        })
        .await;
    }

    fn options(&self) -> Options {
        waiting(&self.primary.url())
    }
}

fn waiting(url: &str) -> Options {
    Options {
        ack_level: AckLevel::RedisWait,
        replicas: Replicas { count: 1, within: Duration::from_secs(2) },
        ..Options::new(url, later())
    }
}

async fn refusal(options: Options) -> String {
    let fault = Redis::connect(options).await.err().expect("it must not start");
    let line = fault.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_replica_holds_acknowledgements_back_and_a_resend_is_acknowledged_once() {
    let pair = Pair::start().await;
    let mut options = pair.options();
    options.replicas.within = Duration::from_millis(300);
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    assert_eq!(node.ack_level, AckLevel::RedisWait);
    until("the conversation", async || node.conversations.change(change()).await.is_ok()).await;
    resend(&node, "before").await;
    pair.replica.pause().unwrap();
    for _ in 0..2 {
        // Also what was found to be there already is not acknowledged before the replica has it.
        let fault = append(&node, "held").await.unwrap_err().to_string();
        assert!(fault.contains("0 of 1 replicas"), "{fault}");
    }
    let react = node.log.react(&conv(), Author::bare(user("a")), 2, "+".into(), true).await;
    let news = LogKey::App("news".into());
    let post = node.log.post(&news, Record::NotificationRead { id: None }, None);
    let mut members = change();
    members.members = MemberSet::Delta { add: vec![user("b")], remove: vec![] };
    assert!(react.is_err() && post.await.is_err() && node.conversations.change(members).await.is_err());
    pair.replica.resume().unwrap();
    assert!(resend(&node, "held").await, "it was there, and now it is kept");
    assert_eq!(messages(&node).await, ["before", "held"]);
    let react = node.log.react(&conv(), Author::bare(user("a")), 2, "+".into(), true).await;
    assert!(matches!(react, Ok(Reacted::Same(Some(_)))), "{react:?}");
    redis.close().await;
}

/// Several clients that send one message after the other until one fails; what was acknowledged to them.
async fn storm(node: &Backplane, clients: usize) -> Vec<String> {
    let tasks = (0..clients).map(|client| {
        let node = node.clone();
        async move {
            let mut acked = Vec::new();
            for turn in 0.. {
                let id = format!("{client}-{turn}");
                match append(&node, &id).await {
                    Ok(Appended::New(_) | Appended::Duplicate(_)) => acked.push(id),
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => break,
                }
            }
            acked
        }
    });
    futures_util::future::join_all(tasks).await.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_the_primary() {
    let mut pair = Pair::start().await;
    let options = Options { retention_entries: 1_000_000, ..pair.options() };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    let plain = Options { retention_entries: 1_000_000, ..Options::new(&pair.primary.url(), later()) };
    let plain = Redis::connect(plain).await.unwrap();
    let sending = tokio::join!(storm(&node, 12), async {
        until("several hundred messages", async || messages(&node).await.len() > 600).await;
        // What comes now reaches the primary and never the replica.
        pair.between.set(Faults { blackhole: true, ..Faults::default() });
        append(&plain.backplane(), "at another level").await.unwrap();
        pair.primary.kill9().unwrap();
    });
    plain.close().await;
    let (acked, ()) = sending;
    redis.close().await;
    pair.replica.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let survivor = Options { retention_entries: 1_000_000, ..Options::new(&pair.replica.url(), later()) };
    let survivor = Redis::connect(survivor).await.unwrap();
    let kept = messages(&survivor.backplane()).await;
    let lost: Vec<&String> = acked.iter().filter(|id| !kept.contains(id)).collect();
    assert!(acked.len() > 500 && lost.is_empty(), "{} acknowledged, lost: {lost:?}", acked.len());
    assert!(!kept.contains(&"at another level".to_owned()), "the primary was lost indeed");
    // Each client's messages in its order.
    for client in 0..12 {
        let own = format!("{client}-");
        let turns = kept.iter().filter_map(|id| id.strip_prefix(&own)?.parse::<usize>().ok());
        assert!(turns.is_sorted(), "{client}");
    }
    survivor.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_caller_sends_at_once_keeps_its_order() {
    let pair = Pair::start().await;
    let redis = Redis::connect(pair.options()).await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    let ids: Vec<String> = (0..500).map(|turn| turn.to_string()).collect();
    let sent = futures_util::future::join_all(ids.iter().map(|id| append(&node, id))).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(messages(&node).await, ids);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_functions_and_cut_connections_are_healed_under_way() {
    let pair = Pair::start().await;
    let redis = Redis::connect(pair.options()).await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    append(&node, "a").await.unwrap();
    pair.primary.command(&["FUNCTION", "FLUSH"]).await.unwrap();
    append(&node, "b").await.unwrap();
    pair.primary.command(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
    resend(&node, "c").await;
    assert_eq!(messages(&node).await, ["a", "b", "c"]);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_wait_for_replicas_too() {
    let pair = Pair::start().await;
    let rules = ["ACL", "SETUSER", "gateway", "on", ">secret", "~*", "&*", "+@all", "-function", "-fcall"];
    pair.primary.command(&rules).await.unwrap();
    let redis = Redis::connect(waiting(&format!("redis://gateway:secret@127.0.0.1:{}", pair.primary.port())));
    let redis = redis.await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    pair.primary.command(&["SCRIPT", "FLUSH"]).await.unwrap();
    append(&node, "a").await.unwrap();
    assert_eq!(pair.primary.calls_of("fcall").await.unwrap(), 0);
    assert!(pair.primary.calls_of("wait").await.unwrap() > 0);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_primary_of_a_cluster_waits_for_its_own_replica() {
    let cluster = Arc::new(Cluster::start().await.unwrap());
    let redis = Redis::connect(waiting(&cluster.url())).await.unwrap();
    let node = redis.backplane();
    create(&node).await;
    let before = waits(&cluster).await;
    let logs: Vec<LogKey> = (0..60).map(|n| LogKey::App(format!("news-{n}").into())).collect();
    for log in &logs {
        node.log.post(log, Record::NotificationRead { id: None }, None).await.unwrap();
    }
    let after = waits(&cluster).await;
    assert_eq!(before.len(), 3);
    assert!(before.iter().zip(&after).all(|(before, after)| before < after), "{before:?} {after:?}");
    redis.close().await;
}

async fn waits(cluster: &Cluster) -> Vec<u64> {
    let mut all = Vec::new();
    for index in cluster.primaries().await.unwrap() {
        all.push(cluster.server(index).calls_of("wait").await.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_level_that_cannot_be_kept_does_not_start() {
    let lonely = Server::standalone().await.unwrap();
    let line = refusal(waiting(&lonely.url())).await;
    assert!(line.contains("wants 1 connected replica(s), and it has 0"), "{line}");
    let pair = Pair::start().await;
    let mut options = pair.options();
    options.replicas.count = 2;
    let line = refusal(options).await;
    assert!(line.contains("wants 2 connected replica(s), and it has 1"), "{line}");
    let synced = |url: &str| Options { ack_level: AckLevel::RedisFsync, ..Options::new(url, later()) };
    let line = refusal(synced(&lonely.url())).await;
    assert!(line.contains("appendfsync always, and it is everysec"), "{line}");
    lonely.command(&["CONFIG", "SET", "appendfsync", "always"]).await.unwrap();
    let redis = Redis::connect(synced(&lonely.url())).await.unwrap();
    create(&redis.backplane()).await;
    append(&redis.backplane(), "m").await.unwrap();
    assert!(redis.backplane().survives.contains("power loss"));
    redis.close().await;
}
