//! What is acknowledged at `redis-wait` is there exactly once after slots moved, and after a failover.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::chat::{clock, conversation_in, create, say};
use parlance_backplane::{AckLevel, Backplane, Range};
use parlance_backplane_redis::{Options, Redis, Replicas};
use parlance_model::{ConversationId, LogKey, Record};
use parlance_redis_rig::{Cluster, Sentinels};

/// As a client: what was not acknowledged is sent again, under the same id. Ids in the order of their acknowledgement.
async fn talk(node: Backplane, id: ConversationId, stop: Arc<AtomicBool>) -> (Vec<String>, u32) {
    let (mut acked, mut refused) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) || acked.len() < 100 {
        let client_id = format!("m{}", acked.len());
        match say(&node, &id, &client_id).await {
            Ok(_) => acked.push(client_id),
            Err(_) => refused += 1,
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (acked, refused)
}

/// How often each client id is in the log, and whether in the order they were sent.
async fn kept(node: &Backplane, id: &ConversationId) -> (BTreeMap<String, u32>, Vec<String>) {
    let (log, mut seq) = (LogKey::Conversation(id.clone()), 0);
    let (mut counts, mut order) = (BTreeMap::new(), Vec::new());
    loop {
        let page = node.log.range(&log, Range::After { seq, limit: 500 }).await.unwrap();
        let Some(last) = page.entries.last() else { return (counts, order) };
        seq = last.seq;
        for entry in &page.entries {
            if let Record::Message(message) = &entry.record {
                let client_id = message.client_id.as_deref().unwrap().to_owned();
                *counts.entry(client_id.clone()).or_default() += 1;
                order.push(client_id);
            }
        }
    }
}

async fn disturbed(url: &str, ids: Vec<ConversationId>, disturbance: impl Future<Output = ()>) {
    let options = Options {
        ack_level: AckLevel::RedisWait,
        replicas: Replicas { count: 1, within: Duration::from_millis(500) },
        retention_entries: 100_000,
        ..Options::new(url, clock())
    };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    let stop = Arc::new(AtomicBool::new(false));
    for id in &ids {
        create(&node, id).await;
    }
    let talking = ids.iter().map(|id| talk(node.clone(), id.clone(), stop.clone()));
    let ((), talks) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            disturbance.await;
            stop.store(true, Ordering::Relaxed);
        },
        futures_util::future::join_all(talking)
    );
    for (id, (acked, refused)) in ids.iter().zip(talks) {
        println!("{id}: {} acknowledged, {refused} refused", acked.len());
        let (counts, order) = kept(&node, id).await;
        for client_id in &acked {
            assert_eq!(counts.get(client_id), Some(&1), "{client_id} of {id}");
        }
        assert!(
            counts.len() <= acked.len() + 1 && order.len() == counts.len(),
            "{} {}",
            order.len(),
            acked.len()
        );
        assert_eq!(order[..acked.len()], acked[..], "in the order they were sent");
    }
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_lose_and_double_nothing() {
    let cluster = Cluster::with(2, 1).await.unwrap();
    let ids: Vec<ConversationId> = (0..4).map(|n| conversation_in(n * 64..n * 64 + 64)).collect();
    disturbed(&cluster.url(), ids, async {
        for (from, to) in [(0, 1), (1, 0)] {
            cluster.migrate(0..256, from, to).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_of_sentinel_loses_and_doubles_nothing() {
    let mut sentinels = Sentinels::start().await.unwrap();
    let ids = vec![conversation_in(0..8192), conversation_in(8192..16384)];
    disturbed(&sentinels.url(), ids, async {
        let old = sentinels.kill_primary().await.unwrap();
        sentinels.wait_failover(old).await.unwrap();
        sentinels.server_mut(old).restart().await.unwrap();
        sentinels.wait_ok().await.unwrap();
    })
    .await;
}
