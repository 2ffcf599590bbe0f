//! Commands to a primary that Sentinels name, while it dies and while it steps down.

use std::time::{Duration, Instant};

use crate::support::chat::{clock, conversation_in, create, say};
use parlance_backplane::Backplane;
use parlance_backplane_redis::{Options, Redis};
use parlance_model::ConversationId;
use parlance_redis_rig::Sentinels;

/// Appends again and again until it works; how often it did not, and how long each attempt took at most.
async fn insist(node: &Backplane, id: &ConversationId, client_id: &str) -> (u64, u64, Duration) {
    let (begun, mut refused, mut longest) = (Instant::now(), 0, Duration::ZERO);
    loop {
        let started = Instant::now();
        let answer = say(node, id, client_id).await;
        longest = longest.max(started.elapsed());
        match answer {
            Ok(stored) => return (stored.seq, refused, longest),
            Err(_) => refused += 1,
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it never comes back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_of_a_dead_primary_is_found() {
    let mut sentinels = Sentinels::start().await.unwrap();
    let redis = Redis::connect(Options::new(&sentinels.url(), clock())).await.unwrap();
    let node = redis.backplane();
    let id = conversation_in(0..16384);
    create(&node, &id).await;
    let old = sentinels.kill_primary().await.unwrap();
    let killed = Instant::now();
    let (seq, refused, longest) = insist(&node, &id, "m").await;
    println!("back after {:?}, {refused} refused, longest {longest:?}", killed.elapsed());
    assert_eq!(seq, 2, "what was said before is there");
    assert!(refused > 0 && longest < Duration::from_secs(3), "{refused} {longest:?}");
    assert_ne!(sentinels.wait_failover(old).await.unwrap(), old);
    // The dead one comes back as a replica: nobody is misled.
    sentinels.server_mut(old).restart().await.unwrap();
    sentinels.wait_ok().await.unwrap();
    for n in 0..100 {
        say(&node, &id, &format!("n{n}")).await.unwrap();
    }
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_hand_is_followed() {
    let sentinels = Sentinels::start().await.unwrap();
    let redis = Redis::connect(Options::new(&sentinels.url(), clock())).await.unwrap();
    let node = redis.backplane();
    let id = conversation_in(0..16384);
    create(&node, &id).await;
    let heir = sentinels.failover().await.unwrap();
    let (seq, refused, longest) = insist(&node, &id, "m").await;
    println!("{refused} refused, longest {longest:?}");
    assert_eq!(seq, 2);
    assert_eq!(sentinels.server(heir).info("replication", "role").await.unwrap(), "master");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sentinel_is_enough_and_none_is_a_clear_error() {
    let mut sentinels = Sentinels::start().await.unwrap();
    for sentinel in sentinels.sentinels().iter_mut().skip(1) {
        sentinel.kill9().unwrap();
    }
    let redis = Redis::connect(Options::new(&sentinels.url(), clock())).await.unwrap();
    redis.ping().await.unwrap();
    sentinels.sentinels()[0].kill9().unwrap();
    let impatient =
        |url: &str| Options { start_patience: Duration::from_secs(1), ..Options::new(url, clock()) };
    let refused = Redis::connect(impatient(&sentinels.url())).await.err().unwrap().to_string();
    assert!(
        refused.contains("no Sentinel names the primary of mymaster") && !refused.contains('\n'),
        "{refused}"
    );
    // Who runs already goes on with the last word.
    redis.ping().await.unwrap();
    let unknown = sentinels.url().replace("mymaster", "other");
    assert!(Redis::connect(impatient(&unknown)).await.is_err());
    redis.close().await;
}
