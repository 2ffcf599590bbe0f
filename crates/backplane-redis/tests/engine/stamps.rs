//! The stamps of groups of logs: whoever compares logs only where they changed must hear of everything that happens.

use std::time::Duration;

use crate::support::chat::{clock, create, say, user};
use parlance_backplane::{Backplane, SOON};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{ConversationId, LogKey, ReceiptKind, UserId};
use parlance_redis_rig::{Cluster, Server};

async fn stamp(node: &Backplane, log: &LogKey) -> Option<u64> {
    let group = node.fences.group(log).expect("Redis has groups");
    node.fences.stamps(&[group]).await[0]
}

async fn every_change_shows(node: &Backplane) {
    let id = ConversationId::parse("c").unwrap();
    create(node, &id).await;
    let log = LogKey::Conversation(id.clone());
    let other = LogKey::User(UserId::parse("nobody").unwrap());
    let (begun, untouched) = (stamp(node, &log).await.unwrap(), stamp(node, &other).await);
    assert!(begun > 0);
    // What comes later than `SOON` after an entry.
    tokio::time::sleep(SOON).await;
    let first = say(node, &id, "1").await.unwrap();
    let said = stamp(node, &log).await.unwrap();
    assert!(said > begun, "an entry");
    say(node, &id, "2").await.unwrap();
    assert_eq!(
        stamp(node, &log).await,
        Some(said),
        "one that follows soon shows to whoever looks again after `SOON`"
    );
    node.cursors.advance(&id, &user(), ReceiptKind::Read, first.seq).await.unwrap();
    let moved = stamp(node, &log).await.unwrap();
    assert!(moved > said, "a cursor");
    tokio::time::sleep(SOON + Duration::from_millis(50)).await;
    say(node, &id, "3").await.unwrap();
    assert!(stamp(node, &log).await.unwrap() > moved, "an entry after a pause");
    assert_eq!(stamp(node, &other).await, untouched, "of another kind nothing happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_a_log_shows_in_its_groups_stamp_and_so_does_a_loss() {
    let server = Server::standalone().await.unwrap();
    let redis = Redis::connect(Options::new(&server.url(), clock())).await.unwrap();
    let node = redis.backplane();
    every_change_shows(&node).await;
    let log = LogKey::Conversation(ConversationId::parse("c").unwrap());
    let before = stamp(&node, &log).await;
    server.command(&["FLUSHALL"]).await.unwrap();
    assert_ne!(stamp(&node, &log).await, before, "everything was lost");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_where_every_partition_is_asked_for_itself() {
    let cluster = Cluster::start().await.unwrap();
    let redis = Redis::connect(Options::new(&cluster.url(), clock())).await.unwrap();
    every_change_shows(&redis.backplane()).await;
    redis.close().await;
}
