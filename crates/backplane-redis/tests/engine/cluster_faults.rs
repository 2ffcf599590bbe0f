//! Commands on a cluster whose primaries die, are replaced, and exchange slots.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::chat::{clock, conversation_in, create, say, slot_of};
use parlance_backplane::Backplane;
use parlance_backplane_redis::{Options, Redis};
use parlance_model::ConversationId;
use parlance_redis_rig::Cluster;
use tokio_util::task::TaskTracker;

/// Appends until it is told to stop; says how many there were, how many were refused, and how long the longest took.
async fn keep_talking(node: Backplane, id: ConversationId, stop: Arc<AtomicBool>) -> (u64, u64, Duration) {
    let (mut said, mut refused, mut longest) = (0, 0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let client_id = format!("{id}-{}", said + refused);
        match say(&node, &id, &client_id).await {
            Ok(_) => said += 1,
            Err(_) => refused += 1,
        }
        longest = longest.max(started.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (said, refused, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_shard_fails_fast_and_comes_back_and_the_others_do_not_notice() {
    let mut cluster = Cluster::start().await.unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    let node = redis.backplane();
    let [dead, first, second] = [0..5000, 6000..10000, 12000..16384].map(conversation_in);
    for id in [&dead, &first, &second] {
        create(&node, id).await;
    }
    let (stop, tasks) = (Arc::new(AtomicBool::new(false)), TaskTracker::new());
    let healthy = [first, second].map(|id| tasks.spawn(keep_talking(node.clone(), id, stop.clone())));
    let before = say(&node, &dead, "before").await.unwrap();
    let killed = Instant::now();
    let old = cluster.kill_primary(slot_of(&dead)).await.unwrap();
    let (mut refused, mut longest, mut longest_later) = (0, Duration::ZERO, Duration::ZERO);
    let after = loop {
        let started = Instant::now();
        let answer = say(&node, &dead, "after").await;
        let took = started.elapsed();
        longest = longest.max(took);
        // The first second is for waiting; whoever comes then is told at once.
        if killed.elapsed() - took > Duration::from_millis(1500) && answer.is_err() {
            longest_later = longest_later.max(took);
        }
        match answer {
            Ok(stored) => break stored,
            Err(_) => refused += 1,
        }
        assert!(killed.elapsed() < Duration::from_secs(30), "it never comes back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let back = killed.elapsed();
    assert_eq!(after.seq, before.seq + 1);
    cluster.wait_failover(slot_of(&dead), old).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    println!(
        "dead shard: back after {back:?}, {refused} refused, longest {longest:?}, later {longest_later:?}"
    );
    assert!(refused > 3 && longest < Duration::from_secs(2), "{refused} {longest:?}");
    assert!(longest_later < Duration::from_millis(300), "{longest_later:?}");
    for healthy in healthy {
        let (said, refused, longest) = healthy.await.unwrap();
        println!("healthy shard: {said} said, {refused} refused, longest {longest:?}");
        assert!(
            said > 100 && refused == 0 && longest < Duration::from_secs(1),
            "{said} {refused} {longest:?}"
        );
    }
    redis.ping().await.unwrap();
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_take_their_commands_along() {
    let cluster = Cluster::with(2, 0).await.unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    let node = redis.backplane();
    // Partitions lie 64 slots apart.
    let ids: Vec<ConversationId> = (0..8).map(|n| conversation_in(n * 64..n * 64 + 64)).collect();
    let (stop, tasks) = (Arc::new(AtomicBool::new(false)), TaskTracker::new());
    let mut talking = Vec::new();
    for id in &ids {
        create(&node, id).await;
        talking.push(tasks.spawn(keep_talking(node.clone(), id.clone(), stop.clone())));
    }
    for (from, to) in [(0, 1), (1, 0)] {
        cluster.migrate(0..512, from, to).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for (talk, id) in talking.into_iter().zip(&ids) {
        let (said, refused, longest) = talk.await.unwrap();
        println!("{id}: {said} said, {refused} refused, longest {longest:?}");
        assert!(said > 10 && refused == 0, "{said} {refused} {longest:?}");
        assert_eq!(say(&node, id, "last").await.unwrap().seq, said + 2, "creating it was the first entry");
    }
    // While a slot is on its way its commands are, too.
    let mut asked = 0;
    for server in cluster.servers() {
        asked += server.calls_of("asking").await.unwrap();
    }
    assert!(asked > 0, "no command came between");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_hangs_holds_up_nobody_else() {
    let cluster = Cluster::start().await.unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    let node = redis.backplane();
    let [hung, healthy] = [0..5000, 6000..10000].map(conversation_in);
    for id in [&hung, &healthy] {
        create(&node, id).await;
    }
    let (stop, tasks) = (Arc::new(AtomicBool::new(false)), TaskTracker::new());
    let talking = tasks.spawn(keep_talking(node.clone(), healthy, stop.clone()));
    let old = cluster.primary_of_slot(slot_of(&hung)).await.unwrap();
    cluster.server(old).pause().unwrap();
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    loop {
        let started = Instant::now();
        let answer = say(&node, &hung, "m").await;
        longest = longest.max(started.elapsed());
        match answer {
            Ok(stored) => break assert_eq!(stored.seq, 2),
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(30), "it never comes back"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    println!("hung shard: back after {:?}, longest {longest:?}", begun.elapsed());
    assert!(longest < Duration::from_secs(4), "{longest:?}");
    let (said, refused, longest) = talking.await.unwrap();
    println!("healthy shard: {said} said, {refused} refused, longest {longest:?}");
    assert!(said > 100 && refused == 0 && longest < Duration::from_secs(1), "{said} {refused} {longest:?}");
    cluster.server(old).resume().unwrap();
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_without_functions_gets_them() {
    let mut cluster = Cluster::with(1, 0).await.unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    let node = redis.backplane();
    let id = conversation_in(0..64);
    create(&node, &id).await;
    let newcomer = cluster.add_empty_primary().await.unwrap();
    assert_eq!(cluster.server(newcomer).command(&["FUNCTION", "LIST"]).await.unwrap(), "");
    cluster.migrate([slot_of(&id)], 0, newcomer).await.unwrap();
    assert_eq!(say(&node, &id, "one").await.unwrap().seq, 2);
    // An operator's mistake, long after anybody greeted that server.
    cluster.server(newcomer).command(&["FUNCTION", "FLUSH"]).await.unwrap();
    assert_eq!(say(&node, &id, "two").await.unwrap().seq, 3);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_steps_down_in_good_order_costs_no_command() {
    let cluster = Cluster::with(1, 1).await.unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    let node = redis.backplane();
    let id = conversation_in(0..64);
    create(&node, &id).await;
    let (stop, tasks) = (Arc::new(AtomicBool::new(false)), TaskTracker::new());
    let talking = tasks.spawn(keep_talking(node.clone(), id.clone(), stop.clone()));
    let heir = cluster.failover(0).await.unwrap();
    cluster.wait_ok().await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let (said, refused, longest) = talking.await.unwrap();
    println!("{said} said, {refused} refused, longest {longest:?}");
    assert!(said > 10 && refused == 0, "{said} {refused} {longest:?}");
    // From now on there is one primary, and it is the heir that is asked.
    let before = cluster.server(heir).calls_of("fcall").await.unwrap();
    say(&node, &id, "last").await.unwrap();
    assert!(cluster.server(heir).calls_of("fcall").await.unwrap() > before);
    redis.close().await;
}
