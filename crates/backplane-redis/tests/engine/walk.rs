//! Going through all conversations while slots are on their way, and while a primary is away.

use std::collections::BTreeSet;

use crate::support::chat::{clock, conversation_in, create};
use parlance_backplane::{Backplane, Fault};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::ConversationId;
use parlance_redis_rig::Cluster;

async fn page(node: &Backplane, from: Option<&str>, met: &mut BTreeSet<ConversationId>) -> Option<String> {
    let page = node.conversations.listed(from, 10).await.unwrap();
    met.extend(page.ids);
    page.next
}

/// Walks on to the end.
async fn rest(node: &Backplane, mut from: Option<String>, met: &mut BTreeSet<ConversationId>) {
    while from.is_some() {
        from = page(node, from.as_deref(), met).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_while_it_is_walked_over_is_met() {
    let cluster = Cluster::with(2, 0).await.unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    let node = redis.backplane();
    // Partitions lie 64 slots apart.
    let ids: Vec<ConversationId> = (0..128).map(|n| conversation_in(n * 128..n * 128 + 64)).collect();
    for id in &ids {
        create(&node, id).await;
    }
    let all: BTreeSet<ConversationId> = ids.iter().cloned().collect();
    // Whichever of them is asked first: as soon as it was, much of the other one comes to it.
    let mut met = BTreeSet::new();
    let mut from = page(&node, None, &mut met).await;
    let first = from.clone().unwrap_or_default().split(' ').nth(2).map(str::to_owned);
    while from.as_deref().is_some_and(|from| from.split(' ').nth(2) == first.as_deref()) {
        from = page(&node, from.as_deref(), &mut met).await;
    }
    let before = met.clone();
    let asked = (0..2).find(|index| first == Some(format!("127.0.0.1:{}", cluster.server(*index).port())));
    let asked = asked.unwrap();
    let other = 1 - asked;
    let slots = if other == 0 { 0..4_000 } else { 12_000..16_000 };
    let used = || slots.clone().filter(|slot| slot % 64 == 32);
    // All but one are there; and one is halfway.
    let halfway = used().next_back().unwrap();
    cluster.migrate(used().filter(|slot| *slot != halfway), other, asked).await.unwrap();
    let name = async |index: usize| cluster.server(index).command(&["CLUSTER", "MYID"]).await.unwrap();
    let (to, slot) = (name(asked).await, halfway.to_string());
    let (source, target) = (cluster.server(other), cluster.server(asked));
    target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &name(other).await]).await.unwrap();
    source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]).await.unwrap();
    let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await.unwrap();
    let port = target.port().to_string();
    let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    command.extend(keys.lines());
    source.operator().await.unwrap().command(&command).await.unwrap();
    rest(&node, from, &mut met).await;
    assert!(before.len() < all.len(), "there was something left");
    assert_eq!(met, all);
    // And while nothing of that goes on or back.
    let mut again = BTreeSet::new();
    let from = page(&node, None, &mut again).await;
    rest(&node, from, &mut again).await;
    assert_eq!(again, all);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_says_whether_a_slot_moves_there_are_two_rounds() {
    let cluster = Cluster::with(2, 0).await.unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    let node = redis.backplane();
    create(&node, &conversation_in(0..64)).await;
    let rounds = async || {
        let (mut met, mut rounds) = (BTreeSet::new(), BTreeSet::from(["0".to_owned()]));
        let mut from = page(&node, None, &mut met).await;
        while let Some(at) = from {
            rounds.extend(at.split(' ').next().map(str::to_owned));
            from = page(&node, Some(&at), &mut met).await;
        }
        (met.len(), rounds.len())
    };
    assert_eq!(rounds().await, (1, 1));
    for index in 0..2 {
        cluster.server(index).command(&["ACL", "SETUSER", "default", "-cluster|nodes"]).await.unwrap();
    }
    assert_eq!(rounds().await, (1, 2));
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_for_all_while_a_primary_is_away() {
    let mut cluster = Cluster::with(2, 0).await.unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    let node = redis.backplane();
    for n in 0..40 {
        create(&node, &conversation_in(n * 400..n * 400 + 64)).await;
    }
    cluster.kill_primary(9_000).await.unwrap();
    let mut from = None;
    let fault = loop {
        match node.conversations.listed(from.as_deref(), 10).await {
            Ok(page) => from = Some(page.next.expect("that is not all")),
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, Fault::Unavailable(_)), "{fault}");
    redis.close().await;
}
