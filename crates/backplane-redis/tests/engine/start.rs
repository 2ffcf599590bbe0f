//! A node starts while a part of Redis is away, and makes good for what it could not do there then.

use std::time::{Duration, Instant};

use crate::support::chat::{clock, conversation_in, create, say, slot_of};
use parlance_backplane::{AckLevel, Backplane};
use parlance_backplane_redis::{Options, Redis, Replicas};
use parlance_model::ConversationId;
use parlance_redis_rig::{Cluster, Kind, Sentinels, Server, Setup};

const LOAD: usize = 150;

/// Appends until it works.
async fn insist(node: &Backplane, id: &ConversationId, client_id: &str) -> u64 {
    let begun = Instant::now();
    loop {
        match say(node, id, client_id).await {
            Ok(stored) => return stored.seq,
            Err(fault) => assert!(begun.elapsed() < Duration::from_secs(20), "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn has_functions(server: &Server) {
    let begun = Instant::now();
    while server.command(&["FUNCTION", "LIST"]).await.unwrap_or_default().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody gave it the functions");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until the append-only file has everything: while the disk is busy a server holds it back for up to two seconds.
async fn written(server: &Server) {
    let begun = Instant::now();
    for name in ["aof_pending_bio_fsync", "aof_buffer_length"] {
        while server.info("persistence", name).await.unwrap() != "0" {
            assert!(begun.elapsed() < Duration::from_secs(10), "{name}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Each shard in turn is away: one of them has what the nodes must agree about.
async fn starts_without(replicas: usize, options: impl Fn(&Cluster) -> Options) {
    // Its replica is not to take over meanwhile.
    let setup = Setup::new(Kind::Cluster).set("cluster-node-timeout", "60000");
    let mut cluster = Cluster::build(setup, 2, replicas).await.unwrap();
    let shards = [0..8192, 8192..16384].map(conversation_in);
    {
        let redis = Redis::connect(options(&cluster)).await.unwrap();
        for id in &shards {
            create(&redis.backplane(), id).await;
        }
        redis.close().await;
    }
    for (index, (dead, alive)) in [(&shards[0], &shards[1]), (&shards[1], &shards[0])].into_iter().enumerate()
    {
        let gone = cluster.primary_of_slot(slot_of(dead)).await.unwrap();
        cluster.server(gone).command(&["FUNCTION", "FLUSH"]).await.unwrap();
        written(cluster.server(gone)).await;
        cluster.server_mut(gone).kill9().unwrap();
        let begun = Instant::now();
        let redis = Redis::connect(options(&cluster)).await.unwrap();
        println!("started after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let node = redis.backplane();
        let client_id = format!("m{index}");
        // The author's index lies in either shard, and the message in both cases is one of the shard that is there.
        say(&node, dead, &client_id).await.unwrap_err();
        let alone = Instant::now();
        while say(&node, alive, &client_id).await.is_err() && alone.elapsed() < Duration::from_secs(1) {}
        cluster.server_mut(gone).restart().await.unwrap();
        has_functions(cluster.server(gone)).await;
        cluster.wait_ok().await.unwrap();
        assert_eq!(insist(&node, dead, &client_id).await, insist(&node, alive, &client_id).await);
        redis.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_without_one_shard_and_makes_good_for_it_later() {
    starts_without(0, |cluster| Options::new(&cluster.url(), clock())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_where_replicas_are_waited_for() {
    let replicas = Replicas { count: 1, within: Duration::from_secs(1) };
    let level = AckLevel::RedisWait;
    starts_without(1, |cluster| Options {
        ack_level: level,
        replicas,
        ..Options::new(&cluster.url(), clock())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_without_a_shard_that_hangs() {
    let setup = Setup::new(Kind::Cluster).set("cluster-node-timeout", "60000");
    let cluster = Cluster::build(setup, 2, 0).await.unwrap();
    let [hung, alive] = [0..8192, 8192..16384].map(conversation_in);
    let gone = cluster.primary_of_slot(slot_of(&hung)).await.unwrap();
    cluster.server(gone).pause().unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    cluster.server(gone).resume().unwrap();
    has_functions(cluster.server(gone)).await;
    let node = redis.backplane();
    for id in [&hung, &alive] {
        create(&node, id).await;
        assert_eq!(insist(&node, id, "m").await, 2);
    }
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_in_the_middle_of_a_failover_waits_for_the_successor() {
    let mut sentinels = Sentinels::start().await.unwrap();
    let old = sentinels.kill_primary().await.unwrap();
    let begun = Instant::now();
    let redis = Redis::connect(Options::new(&sentinels.url(), clock())).await.unwrap();
    println!("started after {:?}", begun.elapsed());
    let (node, id) = (redis.backplane(), conversation_in(0..16384));
    create(&node, &id).await;
    assert_eq!(insist(&node, &id, "m").await, 2);
    assert_ne!(sentinels.wait_failover(old).await.unwrap(), old);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_waits_for_a_redis_that_loads_what_it_had() {
    let setup = Setup::new(Kind::Plain)
        .set("key-load-delay", "20000")
        .set("loading-process-events-interval-bytes", "1024");
    let mut server = Server::start(setup).await.unwrap();
    let value = "x".repeat(2000);
    for n in 0..LOAD {
        server.command(&["SET", &format!("k{n}"), &value]).await.unwrap();
    }
    // What is loaded quickly is replayed; the delay is for what is read from a base.
    server.command(&["BGREWRITEAOF"]).await.unwrap();
    while server.info("persistence", "aof_rewrite_in_progress").await.unwrap() != "0"
        || server.info("persistence", "aof_rewrite_scheduled").await.unwrap() != "0"
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.restart().await.unwrap();
    assert_eq!(server.info("persistence", "loading").await.unwrap(), "1");
    let redis = Redis::connect(Options::new(&server.url(), clock())).await.unwrap();
    assert_eq!(server.info("persistence", "loading").await.unwrap(), "0");
    let (node, id) = (redis.backplane(), conversation_in(0..16384));
    create(&node, &id).await;
    assert_eq!(insist(&node, &id, "m").await, 2);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_waits_for_a_redis_that_is_started_a_moment_later() {
    let mut server = Server::standalone().await.unwrap();
    server.kill9().unwrap();
    let options = Options::new(&server.url(), clock());
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.restart().await.unwrap();
    };
    let (redis, ()) = tokio::join!(Redis::connect(options), later);
    redis.unwrap().ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nobody_answers_in_time_that_is_said_in_one_line() {
    let mut cluster = Cluster::with(2, 0).await.unwrap();
    let url = cluster.url();
    for index in 0..2 {
        cluster.server_mut(index).kill9().unwrap();
    }
    let start_patience = Duration::from_secs(1);
    let begun = Instant::now();
    let refused =
        Redis::connect(Options { start_patience, ..Options::new(&url, clock()) }).await.err().unwrap();
    let took = begun.elapsed();
    let line = refused.to_string();
    assert!(line.contains("no node of the Redis Cluster answers") && !line.contains('\n'), "{line}");
    assert!(took > Duration::from_millis(700) && took < Duration::from_secs(4), "{took:?}");
}
