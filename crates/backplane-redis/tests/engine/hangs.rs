//! A primary that hangs: after the first calls everybody is told at once, others do not notice, and it heals by itself.

use std::time::{Duration, Instant};

use crate::support::chat::{clock, conversation_in, create, say, slot_of};
use parlance_backplane::{AckLevel, Backplane};
use parlance_backplane_redis::{Options, Redis, Replicas};
use parlance_model::ConversationId;
use parlance_redis_rig::{Cluster, Kind, Setup};

/// The cluster is not to replace it: it is to come back itself.
async fn cluster(replicas: usize) -> Cluster {
    let setup = Setup::new(Kind::Cluster).set("cluster-node-timeout", "60000");
    Cluster::build(setup, 3, replicas).await.unwrap()
}

/// How long the call took, and whether it worked.
async fn timed(node: &Backplane, id: &ConversationId, client_id: &str) -> (Duration, bool) {
    let started = Instant::now();
    let answer = say(node, id, client_id).await;
    (started.elapsed(), answer.is_ok())
}

/// Pauses a primary for five seconds; the first call may take `first`.
async fn hang(cluster: &Cluster, options: Options, first: Duration) {
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    let [hung, healthy] = [0..5000, 6000..10000].map(conversation_in);
    for id in [&hung, &healthy] {
        create(&node, id).await;
    }
    let paused = cluster.primary_of_slot(slot_of(&hung)).await.unwrap();
    cluster.server(paused).pause().unwrap();
    let begun = Instant::now();
    let (took, worked) = timed(&node, &hung, "first").await;
    assert!(!worked && took < first, "{took:?}");
    let (mut refused, mut longest, mut others) = (0, Duration::ZERO, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(5) {
        let client_id = format!("m{refused}");
        let ((took, worked), (other, fine)) =
            tokio::join!(timed(&node, &hung, "next"), timed(&node, &healthy, &client_id));
        assert!(!worked && fine, "{worked} {fine}");
        (refused, longest, others) = (refused + 1, longest.max(took), others.max(other));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{refused} refused in {longest:?} at most; elsewhere {others:?} at most");
    assert!(refused > 20 && longest < Duration::from_millis(100), "{refused} {longest:?}");
    assert!(others < Duration::from_millis(500), "{others:?}");
    cluster.server(paused).resume().unwrap();
    let resumed = Instant::now();
    while !timed(&node, &hung, "after").await.1 {
        assert!(resumed.elapsed() < Duration::from_secs(2), "it does not heal");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("back {:?} after it went on", resumed.elapsed());
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_primary_fails_fast_after_the_first_calls_and_heals() {
    let cluster = cluster(0).await;
    hang(&cluster, Options::new(&cluster.url(), clock()), Duration::from_millis(2500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_where_replicas_are_waited_for() {
    let cluster = cluster(1).await;
    let replicas = Replicas { count: 1, within: Duration::from_millis(500) };
    let options =
        Options { ack_level: AckLevel::RedisWait, replicas, ..Options::new(&cluster.url(), clock()) };
    hang(&cluster, options, Duration::from_millis(3000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_already_is_answered_within_the_time_of_one_call() {
    let cluster = cluster(0).await;
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    let node = redis.backplane();
    let hung = conversation_in(0..5000);
    create(&node, &hung).await;
    let paused = cluster.primary_of_slot(slot_of(&hung)).await.unwrap();
    cluster.server(paused).pause().unwrap();
    let started = Instant::now();
    let ids: Vec<String> = (0..200).map(|n| format!("m{n}")).collect();
    let all = futures_util::future::join_all(ids.iter().map(|id| say(&node, &hung, id))).await;
    assert!(all.iter().all(Result::is_err) && started.elapsed() < Duration::from_secs(3), "{all:?}");
    let started = Instant::now();
    assert!(redis.ping().await.is_err() && started.elapsed() < Duration::from_millis(100));
    cluster.server(paused).resume().unwrap();
    redis.close().await;
}
