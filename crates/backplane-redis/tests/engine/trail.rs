//! A trail that nobody consumes does not grow without end, and what goes of it is counted.

use std::time::Duration;

use parlance_backplane::trail::{Kinds, Turn};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::ConversationId;
use parlance_redis_rig::Server;

use crate::support::chat::{clock, create, say};

/// As the functions have it.
const MOST: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_because_too_many_wait_is_counted() {
    let server = Server::standalone().await.unwrap();
    let options = Options { trail: Kinds::ALL, ..Options::new(&server.url(), clock()) };
    let redis = Redis::connect(options).await.unwrap();
    let node = redis.backplane();
    let id = ConversationId::parse("c").unwrap();
    create(&node, &id).await;
    say(&node, &id, "first").await.unwrap();
    let part = node.trail.waiting().await.unwrap()[0];
    let turn = Turn { group: "archive", part, hold: Duration::from_secs(10) };
    node.trail.take(&turn, 1).await.unwrap();
    let keys = server.command(&["KEYS", "*tr:*"]).await.unwrap();
    let stream = keys.lines().next().unwrap();
    let fill = "for _ = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'k', 'x', 'w', 'x') end";
    server.command(&["EVAL", fill, "1", stream, &MOST.to_string()]).await.unwrap();
    let length = async || server.command(&["XLEN", stream]).await.unwrap().trim().parse::<u64>().unwrap();
    let before = length().await;
    assert_eq!(node.trail.backlog("archive").await.unwrap().dropped, 0);
    // Whole blocks of the stream go at once: not with each message.
    for n in 0..200 {
        say(&node, &id, &n.to_string()).await.unwrap();
    }
    let (after, backlog) = (length().await, node.trail.backlog("archive").await.unwrap());
    assert!(after < MOST + 200 && backlog.dropped > 0, "{after} {backlog:?}");
    assert_eq!(after + backlog.dropped, before + 200);
    redis.close().await;
}
