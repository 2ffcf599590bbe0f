//! How many appends per second an ack level gives, on a primary and a replica of its own: one line per number of
//! tasks that append one message after the other.
//!
//! `cargo run --release -p parlance-backplane-redis --example appends -- redis-wait`

use std::sync::Arc;
use std::time::{Duration, Instant};

use parlance_backplane::{AckLevel, Backplane, Change, MemberSet};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{Author, ConversationId, ConversationKind, Message, Time, UserId};
use parlance_redis_rig::{Kind, Server, Setup};

const SPAN: Duration = Duration::from_secs(4);

fn level() -> AckLevel {
    match std::env::args().nth(1).as_deref() {
        Some("redis") => AckLevel::Redis,
        Some("redis-fsync") => AckLevel::RedisFsync,
        _ => AckLevel::RedisWait,
    }
}

async fn append_for(node: Backplane, task: usize) -> anyhow::Result<Vec<Duration>> {
    let conversation = ConversationId::parse(&format!("c{task}"))?;
    let author = UserId::parse("a")?;
    let change = Change {
        id: conversation.clone(),
        create: true,
        only_create: false,
        kind: ConversationKind::Group,
        title: None,
        members: MemberSet::Exactly(vec![author.clone()]),
        number: None,
        by: None,
    };
    drop(node.conversations.change(change).await?);
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed() < SPAN {
        let message = Message {
            author: Author::bare(author.clone()),
            client_id: None,
            body: "x".repeat(200).into(),
            metadata: None,
            extra: None,
            trace: None,
        };
        let begun = Instant::now();
        node.log.append(&conversation, message).await?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let level = level();
    let fsync = if level == AckLevel::RedisFsync { "always" } else { "everysec" };
    let primary = Server::start(Setup::new(Kind::Plain).set("appendfsync", fsync)).await?;
    let of = format!("127.0.0.1 {}", primary.port());
    let _replica = Server::start(Setup::new(Kind::Plain).set("replicaof", &of)).await?;
    while !primary.command(&["INFO", "replication"]).await?.contains("state=online") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let clock = Arc::new(|| Time(0));
    let redis = Redis::connect(Options { ack_level: level, ..Options::new(&primary.url(), clock) }).await?;
    for tasks in [1, 16, 64, 256] {
        let all = (0..tasks).map(|task| append_for(redis.backplane(), task));
        let mut took = futures_util::future::try_join_all(all).await?.concat();
        took.sort();
        let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
        let rate = took.len() as f64 / SPAN.as_secs_f64();
        println!("{} {tasks:>4} tasks {rate:>8.0}/s p50 {:?} p99 {:?}", level.as_str(), at(50), at(99));
    }
    redis.close().await;
    Ok(())
}
