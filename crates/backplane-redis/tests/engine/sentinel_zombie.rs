//! A primary that is killed, under Sentinels or in a cluster, and started again at once: it holds itself for the
//! primary that it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::chat::{clock, conversation_in, create, say, slot_of};
use parlance_backplane::Backplane;
use parlance_backplane_redis::{Options, Redis};
use parlance_model::ConversationId;
use parlance_redis_rig::{Cluster, Sentinels};
use tokio_util::task::TaskTracker;

/// Sequence and client id of everything that was acknowledged.
type Acked = Vec<(u64, String)>;

/// Appends until it is told to stop.
async fn keep_talking(node: Backplane, name: usize, id: ConversationId, stop: Arc<AtomicBool>) -> Acked {
    let mut acked = Acked::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let client_id = format!("{name}-{n}");
        if let Ok(stored) = say(&node, &id, &client_id).await {
            acked.push((stored.seq, client_id));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    acked
}

/// When the old primary is started again.
#[derive(Debug, Clone, Copy)]
enum Again {
    /// After so many milliseconds: Sentinels hold it for dead after 1000.
    After(u64),
    /// As soon as the Sentinels agree on its successor.
    Replaced,
}

fn no_sequence_twice(acked: Acked) {
    let mut all: BTreeMap<u64, String> = BTreeMap::new();
    for (seq, client_id) in acked {
        if let Some(other) = all.insert(seq, client_id.clone()) {
            panic!("{other} and {client_id} both have {seq}");
        }
    }
}

/// How often functions were called at a server.
async fn calls(sentinels: &Sentinels, server: usize) -> u64 {
    sentinels.server(server).calls_of("fcall").await.unwrap()
}

/// One round: what is acknowledged by three nodes has a sequence of its own, and all end at the same primary.
async fn round(sentinels: &mut Sentinels, engines: &[Redis], again: Again, number: usize) {
    let id = ConversationId::parse(&format!("{}-{number}", conversation_in(0..16384))).unwrap();
    let nodes: Vec<Backplane> = engines.iter().map(Redis::backplane).collect();
    create(&nodes[0], &id).await;
    let (stop, tasks) = (Arc::new(AtomicBool::new(false)), TaskTracker::new());
    let talking: Vec<_> = (0..)
        .zip(&nodes)
        .map(|(name, node)| tasks.spawn(keep_talking(node.clone(), name, id.clone(), stop.clone())))
        .collect();
    say(&nodes[1], &id, "before").await.unwrap();
    let old = sentinels.kill_primary().await.unwrap();
    match again {
        Again::After(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Again::Replaced => drop(sentinels.wait_failover(old).await.unwrap()),
    }
    sentinels.server_mut(old).restart().await.unwrap();
    sentinels.wait_ok().await.unwrap();
    let primary = sentinels.primary().await.unwrap();
    // All talk again, and to the same server.
    for (name, node) in nodes.iter().enumerate() {
        while say(node, &id, &format!("after-{name}")).await.is_err() {}
    }
    stop.store(true, Ordering::Relaxed);
    let mut acked = Acked::new();
    for talk in talking {
        acked.extend(talk.await.unwrap());
    }
    let count = acked.len();
    no_sequence_twice(acked);
    let before = calls(sentinels, primary).await;
    for (name, node) in nodes.iter().enumerate() {
        say(node, &id, &format!("last-{name}")).await.unwrap();
    }
    let asked = calls(sentinels, primary).await - before;
    println!("{again:?}: {count} acknowledged, primary {old} then {primary}");
    assert!(asked >= 3 && count > 0, "{again:?}: {asked} {count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_replaced_and_comes_back_is_used_by_nobody() {
    let mut sentinels = Sentinels::start().await.unwrap();
    let mut engines = Vec::new();
    for _ in 0..3 {
        engines.push(Redis::connect(Options::new(&sentinels.url(), clock())).await.unwrap());
    }
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
    for (number, again) in rounds.into_iter().enumerate() {
        round(&mut sentinels, &engines, again, number).await;
    }
    for redis in engines {
        redis.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_replaced_though_it_is_well_takes_few_writes_with_it() {
    let sentinels = Sentinels::start().await.unwrap();
    let mut engines = Vec::new();
    for _ in 0..2 {
        engines.push(Redis::connect(Options::new(&sentinels.url(), clock())).await.unwrap());
    }
    let nodes: Vec<Backplane> = engines.iter().map(Redis::backplane).collect();
    let id = conversation_in(0..16384);
    create(&nodes[0], &id).await;
    let (stop, tasks) = (Arc::new(AtomicBool::new(false)), TaskTracker::new());
    let talking: Vec<_> = (0..)
        .zip(&nodes)
        .map(|(name, node)| tasks.spawn(keep_talking(node.clone(), name, id.clone(), stop.clone())))
        .collect();
    let heir = sentinels.failover().await.unwrap();
    sentinels.wait_ok().await.unwrap();
    while say(&nodes[0], &id, "after").await.is_err() {}
    stop.store(true, Ordering::Relaxed);
    let (mut acked, mut lost) = (0, 0);
    for talk in talking {
        for (seq, client_id) in talk.await.unwrap() {
            acked += 1;
            // A resend of what is there is recognised.
            lost += u64::from(say(&nodes[0], &id, &client_id).await.unwrap().seq != seq);
        }
    }
    println!("heir {heir}: {acked} acknowledged, {lost} of them lost");
    // What was said in about a third of a second: nobody waits for the old primary to be told.
    assert!(lost < 250, "{lost} of {acked}");
    for redis in engines {
        redis.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_primary_of_a_cluster_takes_nothing_when_it_comes_back() {
    let mut cluster = Cluster::start().await.unwrap();
    let mut engines = Vec::new();
    for _ in 0..3 {
        engines.push(Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap());
    }
    let nodes: Vec<Backplane> = engines.iter().map(Redis::backplane).collect();
    let id = conversation_in(0..5000);
    create(&nodes[0], &id).await;
    let (stop, tasks) = (Arc::new(AtomicBool::new(false)), TaskTracker::new());
    let talking: Vec<_> = (0..)
        .zip(&nodes)
        .map(|(name, node)| tasks.spawn(keep_talking(node.clone(), name, id.clone(), stop.clone())))
        .collect();
    for _ in 0..2 {
        let old = cluster.kill_primary(slot_of(&id)).await.unwrap();
        cluster.wait_failover(slot_of(&id), old).await.unwrap();
        cluster.server_mut(old).restart().await.unwrap();
        while cluster.server(old).info("replication", "role").await.unwrap() == "master" {
            let answer = cluster.server(old).command(&["SET", "b", "v"]).await;
            // The slot of that key is 3300.
            assert!(answer.is_err(), "it serves before it knows of its successor");
        }
        cluster.wait_ok().await.unwrap();
        for (name, node) in nodes.iter().enumerate() {
            while say(node, &id, &format!("after-{old}-{name}")).await.is_err() {}
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut acked = Acked::new();
    for talk in talking {
        acked.extend(talk.await.unwrap());
    }
    println!("{} acknowledged", acked.len());
    no_sequence_twice(acked);
    for redis in engines {
        redis.close().await;
    }
}
