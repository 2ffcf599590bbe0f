//! Subscriptions while Redis changes below them: nothing acknowledged goes unheard, is heard twice or out of order, and
//! nothing falls silent without a word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bus_support::{Trial, create, options, topic};
use parlance_backplane::{AckLevel, Delivery, Publication, Signal};
use parlance_backplane_redis::Redis;
use parlance_redis_rig::{Cluster, Faults, Kind, Proxy, Sentinels, Server, Setup};

async fn while_for(total: Duration, every: Duration, mut act: impl AsyncFnMut(u32)) {
    let started = Instant::now();
    let mut n = 0;
    while started.elapsed() < total {
        act(n).await;
        n += 1;
        tokio::time::sleep(every).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_follow_slots_that_move() {
    let mut cluster = Cluster::with(2, 0).await.unwrap();
    // Met by command: it has no functions.
    let empty = cluster.add_empty_primary().await.unwrap();
    let outcome = Trial::at(&cluster.url())
        .run(async {
            // Only these slots have keys and channels; moving all others as well takes a minute.
            let used = |range: std::ops::Range<u16>| range.map(|partition| partition * 64 + 32);
            cluster.migrate(used(0..64), 0, 1).await.unwrap();
            cluster.migrate(used(64..128), 0, empty).await.unwrap();
            cluster.migrate(used(128..160), 1, 0).await.unwrap();
        })
        .await;
    assert!(outcome.lost > 0, "something was missed at times, and said to be: {outcome:?}");
    assert!(
        outcome.silence < Duration::from_secs(2) && outcome.unlearned + outcome.stale == 0,
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_go_to_the_primary_that_sentinels_name_next() {
    let mut servers = Sentinels::start().await.unwrap();
    let mut trial = Trial::at(&servers.url());
    trial.options.ack_level = AckLevel::RedisWait;
    let outcome = trial
        .run(async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let old = servers.kill_primary().await.unwrap();
            servers.wait_failover(old).await.unwrap();
            servers.server_mut(old).restart().await.unwrap();
            servers.wait_ok().await.unwrap();
        })
        .await;
    assert!(outcome.lost > 0 && outcome.stale == 0, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_go_to_replicas_that_take_over() {
    let mut cluster = Cluster::start().await.unwrap();
    let mut trial = Trial::at(&cluster.url());
    trial.options.ack_level = AckLevel::RedisWait;
    let outcome = trial
        .run(async {
            let before = cluster.primary_of_slot(0).await.unwrap();
            cluster.failover(before).await.unwrap();
            cluster.wait_ok().await.unwrap();
            let old = cluster.kill_primary(16383).await.unwrap();
            cluster.wait_failover(16383, old).await.unwrap();
            cluster.server_mut(old).restart().await.unwrap();
            cluster.wait_ok().await.unwrap();
        })
        .await;
    assert!(outcome.lost > 0 && outcome.stale == 0, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_only_asleep_confuses_nobody() {
    let cluster = Cluster::start().await.unwrap();
    let mut trial = Trial::at(&cluster.url());
    trial.options.ack_level = AckLevel::RedisWait;
    let outcome = trial
        .run(async {
            let old = cluster.primary_of_slot(0).await.unwrap();
            cluster.server(old).pause().unwrap();
            cluster.wait_failover(0, old).await.unwrap();
            cluster.server(old).resume().unwrap();
            cluster.wait_ok().await.unwrap();
        })
        .await;
    // What it still publishes when it wakes is late; whoever listens tells by the sequence.
    assert!(outcome.lost > 0, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_channels_stand_again_soon() {
    const MANY: usize = 20_000;
    let cluster = Cluster::with(3, 0).await.unwrap();
    let redis = Redis::connect(options(&cluster.url())).await.unwrap();
    let node = redis.backplane();
    let topics: Vec<_> = (0..MANY).map(topic).collect();
    let started = Instant::now();
    for some in topics.chunks(1000) {
        node.bus.subscribe(some).await.unwrap();
    }
    let subscribed = started.elapsed();
    let mut inbox = node.bus.inbox().unwrap();
    let started = Instant::now();
    for server in cluster.servers() {
        assert_eq!(server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap(), "1");
    }
    let standing = async || {
        let mut standing = 0;
        for server in cluster.servers() {
            standing += server.command(&["PUBSUB", "SHARDCHANNELS"]).await.unwrap().lines().count();
        }
        standing
    };
    while standing().await < MANY {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", standing().await);
    }
    println!("{MANY} channels in {subscribed:?}, again in {:?}", started.elapsed());
    for some in topics.iter().step_by(97) {
        node.bus.signal(some, Signal::Maintenance).await.unwrap();
    }
    let (mut lost, mut heard) = (0, 0);
    while heard < topics.iter().step_by(97).count() {
        match tokio::time::timeout(Duration::from_secs(10), inbox.recv()).await.unwrap().unwrap() {
            Delivery::Lost => lost += 1,
            Delivery::Published(..) => heard += 1,
        }
    }
    assert!(lost >= 2, "{lost}");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_come_back_with_all_their_channels() {
    let cluster = Cluster::with(3, 0).await.unwrap();
    let mut killed = 0;
    let outcome = Trial::at(&cluster.url())
        .run(while_for(Duration::from_secs(4), Duration::from_millis(150), async |n| {
            let server = cluster.server(n as usize % 3);
            let count = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
            killed += count.parse::<u32>().unwrap();
        }))
        .await;
    assert!(killed > 10, "{killed}");
    assert!(outcome.lost > 0 && outcome.unlearned + outcome.stale == 0, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_falls_behind_is_dropped_and_catches_up() {
    let setup = Setup::new(Kind::Plain).set("client-output-buffer-limit", "pubsub 256kb 0 0");
    let server = Server::start(setup).await.unwrap();
    let proxy = Arc::new(Proxy::start(server.port(), 1).await.unwrap());
    let mut trial = Trial::at(&server.url());
    trial.heard_at.url = proxy.url();
    (trial.padding, trial.appends) = (20_000, 1000);
    let dropped = async || server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await.unwrap().is_empty();
    let outcome = trial
        .run(async {
            for _ in 0..2 {
                let started = Instant::now();
                proxy.set(Faults { freeze: true, ..Faults::default() });
                while !dropped().await {
                    assert!(started.elapsed() < Duration::from_secs(30), "the server drops it");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                proxy.heal();
                while dropped().await {
                    assert!(started.elapsed() < Duration::from_secs(30), "it comes back");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
        .await;
    assert!(outcome.lost > 0 && outcome.repaired > 0, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_primary_silences_only_its_own_channels() {
    let mut cluster = Cluster::with(2, 0).await.unwrap();
    let redis = Redis::connect(options(&cluster.url())).await.unwrap();
    let node = redis.backplane();
    let mut living = Vec::new();
    for n in 0..20 {
        create(&node, n).await;
        node.bus.subscribe(&[topic(n)]).await.unwrap();
    }
    cluster.server_mut(0).kill9().unwrap();
    for n in 0..20 {
        if node.bus.signal(&topic(n), Signal::Maintenance).await.is_ok() {
            living.push(n);
        }
    }
    assert!(living.len() > 3 && living.len() < 17, "some on each: {living:?}");
    let mut inbox = node.bus.inbox().unwrap();
    let (mut worst, mut lost) = (Duration::ZERO, 0);
    while_for(Duration::from_secs(3), Duration::from_millis(10), async |n| {
        while let Ok(delivery) = inbox.try_recv() {
            lost += usize::from(delivery == Delivery::Lost);
        }
        let (n, started) = (living[n as usize % living.len()], Instant::now());
        node.bus.signal(&topic(n), Signal::Maintenance).await.unwrap();
        loop {
            match tokio::time::timeout(Duration::from_secs(5), inbox.recv()).await.unwrap().unwrap() {
                Delivery::Lost => lost += 1,
                Delivery::Published(heard, Publication::Signal(_)) if heard == topic(n) => break,
                Delivery::Published(..) => {}
            }
        }
        worst = worst.max(started.elapsed());
    })
    .await;
    println!("{} of 20 live on, worst {worst:?}, lost {lost}", living.len());
    assert!(worst < Duration::from_millis(500), "{worst:?}");
    assert_eq!(lost, 1, "said once, and not with every attempt");
    // New subscriptions at the living one stand at once.
    let mut fresh = 20;
    while node.bus.signal(&topic(fresh), Signal::Maintenance).await.is_err() {
        fresh += 1;
    }
    let started = Instant::now();
    node.bus.subscribe(&[topic(fresh)]).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(500));
    cluster.server_mut(0).restart().await.unwrap();
    cluster.wait_ok().await.unwrap();
    let Delivery::Lost = tokio::time::timeout(Duration::from_secs(10), inbox.recv()).await.unwrap().unwrap()
    else {
        panic!("what stands again is said to");
    };
    redis.close().await;
}
