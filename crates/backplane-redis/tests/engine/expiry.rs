//! What goes by itself when nobody touches it any more, and what stays: entries and pointers go, where logs and
//! integers stand does not, and nobody takes the one for a loss.

use std::time::{Duration, Instant};

use crate::support::chat::{clock, create, say};
use parlance_backplane::{Backplane, Fenced, Place, Range, Seen, Stored};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{Author, ConversationId, LogKey, ReceiptKind, UserId};
use parlance_redis_rig::Server;

const RETENTION: Duration = Duration::from_millis(1500);

fn user() -> UserId {
    UserId::parse("a").unwrap()
}

async fn node(server: &Server, prefix: &str) -> (Redis, Backplane) {
    let prefix = prefix.to_owned();
    let options = Options { retention: RETENTION, prefix, ..Options::new(&server.url(), clock()) };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    (redis, node)
}

/// The keys of a kind.
async fn keys(server: &Server, prefix: &str, kind: &str) -> Vec<String> {
    let all = server.command(&["KEYS", &format!("{prefix}{kind}:*")]).await.unwrap();
    all.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

async fn until_gone(server: &Server, prefix: &str, kind: &str) {
    let begun = Instant::now();
    while !keys(server, prefix, kind).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{kind} stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stay(server: &Server, prefix: &str, kinds: &[&str]) {
    for kind in kinds {
        let found = keys(server, prefix, kind).await;
        assert!(!found.is_empty(), "{kind} is gone");
        for key in found {
            assert_eq!(server.command(&["TTL", &key]).await.unwrap(), "-1", "{key}");
        }
    }
}

async fn fence(node: &Backplane, log: &LogKey, last: &Stored) -> Fenced {
    let Ok(Place::Log(head)) = node.fences.heads(std::slice::from_ref(log)).await.remove(0) else {
        panic!("the log is gone")
    };
    let seen = Seen { seq: last.seq, at: Some(last.at), epoch: head.epoch, number: 0, from: last.seq };
    node.fences.fence(log, seen).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_an_idle_log_go_and_it_goes_on_where_it_stood() {
    let server = Server::standalone().await.unwrap();
    let (redis, node) = node(&server, "e:").await;
    let id = ConversationId::parse("c").unwrap();
    let log = LogKey::Conversation(id.clone());
    create(&node, &id).await;
    let first = say(&node, &id, "m1").await.unwrap();
    let last = say(&node, &id, "m2").await.unwrap();
    node.cursors.advance(&id, &user(), ReceiptKind::Read, last.seq).await.unwrap();
    let to = last.seq;
    node.log.react(&id, Author::bare(user()), to, "+".into(), true).await.unwrap();
    let end = to + 1;
    assert_eq!(keys(&server, "e:", "x").await.len(), 1);
    for kind in ["s", "x", "y"] {
        until_gone(&server, "e:", kind).await;
    }
    stay(&server, "e:", &["l", "m", "r", "uc"]).await;
    // Read: nothing is there, and it says from where on something can be.
    let page = node.log.range(&log, Range::After { seq: first.seq, limit: 10 }).await.unwrap();
    assert_eq!((page.entries.len(), page.first, page.head), (0, end + 1, end));
    let page = node.log.range(&log, Range::Before { seq: end, limit: 10 }).await.unwrap();
    assert!(page.entries.is_empty());
    // Compared: nothing was lost, whichever entry a node saw last.
    for seen in [&first, &last] {
        assert_eq!(fence(&node, &log, seen).await, Fenced::There);
    }
    // The client id is remembered longer than its entry, and what comes goes on behind.
    assert_eq!(say(&node, &id, "m2").await.unwrap().seq, last.seq);
    assert_eq!(say(&node, &id, "m3").await.unwrap().seq, end + 1);
    let page = node.log.range(&log, Range::After { seq: 0, limit: 10 }).await.unwrap();
    assert_eq!((page.entries.len(), page.first), (1, end + 1));
    assert_eq!(fence(&node, &log, &first).await, Fenced::There);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_go_before_their_time_are_a_loss() {
    let server = Server::standalone().await.unwrap();
    let options = Options { prefix: "f:".to_owned(), ..Options::new(&server.url(), clock()) };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    let id = ConversationId::parse("c").unwrap();
    create(&node, &id).await;
    let first = say(&node, &id, "m1").await.unwrap();
    say(&node, &id, "m2").await.unwrap();
    for key in keys(&server, "f:", "s").await {
        server.command(&["DEL", &key]).await.unwrap();
    }
    let told = fence(&node, &LogKey::Conversation(id), &first).await;
    assert!(matches!(told, Fenced::Begun(_)), "{told:?}");
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_used_keeps_what_is_young() {
    let server = Server::standalone().await.unwrap();
    let (redis, node) = node(&server, "g:").await;
    let id = ConversationId::parse("c").unwrap();
    create(&node, &id).await;
    let begun = Instant::now();
    let mut last = 0;
    while begun.elapsed() < RETENTION * 3 {
        last = say(&node, &id, &format!("{:?}", begun.elapsed())).await.unwrap().seq;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let page = node.log.range(&LogKey::Conversation(id), Range::After { seq: 0, limit: 1000 }).await.unwrap();
    let kept = page.entries.len() as u64;
    assert!(kept > 1 && kept < last, "{kept} of {last}");
    assert_eq!(page.entries.last().map(|entry| entry.seq), Some(last));
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pointers_of_an_idle_user_go_and_the_integers_go_on() {
    let server = Server::standalone().await.unwrap();
    let (redis, node) = node(&server, "h:").await;
    let log = LogKey::Conversation(ConversationId::parse("c").unwrap());
    let pointer = |seq: u64| (user(), log.clone(), seq);
    assert_eq!(node.sequences.assign(&[pointer(1), pointer(2)]).await.unwrap(), [1, 2]);
    until_gone(&server, "h:", "sq").await;
    stay(&server, "h:", &["sm"]).await;
    assert_eq!(node.sequences.marks(&user()).await.unwrap(), [(log.clone(), 2)]);
    assert_eq!(node.sequences.assign(&[pointer(3)]).await.unwrap(), [3]);
    assert_eq!(node.sequences.pointers(&user(), 0, 10).await.unwrap(), [(3, log.clone(), 3)]);
    redis.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_ten_thousand_pointers_at_most() {
    let server = Server::standalone().await.unwrap();
    let options = Options { prefix: "i:".to_owned(), ..Options::new(&server.url(), clock()) };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    let log = LogKey::Conversation(ConversationId::parse("c").unwrap());
    for thousand in 0..11 {
        let some: Vec<_> = (1..=1000).map(|n| (user(), log.clone(), thousand * 1000 + n)).collect();
        node.sequences.assign(&some).await.unwrap();
    }
    let all = node.sequences.pointers(&user(), 0, 20_000).await.unwrap();
    assert!((9_900..=10_000).contains(&all.len()), "{}", all.len());
    assert_eq!((all[0].0, all[all.len() - 1].0), (11_001 - all.len() as u64, 11_000));
    redis.close().await;
}
