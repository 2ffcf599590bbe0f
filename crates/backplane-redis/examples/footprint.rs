//! What things cost a Redis of its own: bytes per conversation, message and online user, and its time per call.
//!
//! `cargo run --release -p parlance-backplane-redis --example footprint`

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use parlance_backplane::{Backplane, Change, MemberSet, Rule, Touch};
use parlance_backplane_redis::{Options, Redis};
use parlance_model::{
    Author, ConnectionId, ConversationId, ConversationKind, Message, NodeId, ReceiptKind, Status, Time,
    UserId,
};
use parlance_redis_rig::Server;

const CONVERSATIONS: u64 = 2000;
const MESSAGES: u64 = 40_000;
const USERS: u64 = 5000;
const AT_ONCE: usize = 64;

struct Meter {
    server: Server,
    node: Backplane,
}

#[expect(clippy::disallowed_methods, reason = "this program is its own clock")]
fn clock() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Meter {
    async fn memory(&self) -> anyhow::Result<u64> {
        Ok(self.server.info("memory", "used_memory").await?.parse()?)
    }

    /// Does something `count` times, many at once, and prints what one of them cost.
    async fn cost<F>(&self, what: &str, count: u64, once: impl Fn(u64) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        self.server.command(&["CONFIG", "RESETSTAT"]).await?;
        let before = self.memory().await?;
        stream::iter((0..count).map(once)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let bytes = self.memory().await?.saturating_sub(before) as f64 / count as f64;
        let stats = self.server.info("commandstats", "cmdstat_fcall").await?;
        let number = |name: &str| {
            let part = stats.split(',').find_map(|part| part.strip_prefix(name));
            part.and_then(|part| part.strip_prefix('='))
                .and_then(|text| text.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        let (calls, micros) = (number("calls") / count as f64, number("usec_per_call"));
        println!("{what:<28} {bytes:>8.0} B {calls:>6.2} calls of {micros:>5.1} µs");
        Ok(())
    }
}

fn user(number: u64) -> anyhow::Result<UserId> {
    Ok(UserId::parse(&format!("user-{number}"))?)
}

fn conversation(number: u64) -> anyhow::Result<ConversationId> {
    Ok(ConversationId::parse(&format!("conversation-{number}"))?)
}

async fn create(node: &Backplane, number: u64) -> anyhow::Result<()> {
    let change = Change {
        id: conversation(number)?,
        create: true,
        only_create: false,
        kind: ConversationKind::Dm,
        title: None,
        members: MemberSet::Exactly(vec![user(number)?, user(number + 1)?]),
        number: None,
        by: None,
    };
    drop(node.conversations.change(change).await?);
    Ok(())
}

async fn say(node: &Backplane, number: u64, client_id: String) -> anyhow::Result<()> {
    let message = Message {
        author: Author::bare(user(number % CONVERSATIONS)?),
        client_id: Some(client_id.into()),
        body: "x".repeat(200).into(),
        metadata: None,
        extra: None,
        trace: None,
    };
    node.log.append(&conversation(number % CONVERSATIONS)?, message).await?;
    Ok(())
}

async fn touch(node: &Backplane, number: u64, connection: u64) -> anyhow::Result<()> {
    let touch = Touch {
        user: user(number)?,
        connection: ConnectionId { node: NodeId::parse("node")?, number: connection },
        mount: "sechat".into(),
        status: Some(Status::Online),
        deadline: clock() + Duration::from_secs(35),
        heard: clock(),
        max: 0,
    };
    node.presence.touch(touch).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = Server::standalone().await?;
    let redis = Redis::connect(Options::new(&server.url(), Arc::new(clock))).await?;
    let meter = Meter { server, node: redis.backplane() };
    let node = &meter.node;
    println!("Redis {}", meter.server.info("server", "redis_version").await?);
    meter.cost("conversation of two", CONVERSATIONS, |n| create(node, n)).await?;
    meter.cost("message of 200 bytes", MESSAGES, |n| say(node, n, format!("m-{n}"))).await?;
    meter.cost("the same sent again", MESSAGES / 4, |n| say(node, n, format!("m-{n}"))).await?;
    meter
        .cost("receipt", CONVERSATIONS, async |n| {
            node.cursors.advance(&conversation(n)?, &user(n + 1)?, ReceiptKind::Read, 10).await?;
            Ok(())
        })
        .await?;
    meter.cost("user coming online", USERS, |n| touch(node, n, n)).await?;
    meter.cost("second connection", USERS, |n| touch(node, n, USERS + n)).await?;
    let rule = Rule { name: "messages".into(), limit: 10, window: Duration::from_secs(10) };
    meter
        .cost("rate window, first entry", USERS, async |n| {
            node.limits.take(&user(n)?, &rule).await?;
            Ok(())
        })
        .await?;
    redis.close().await;
    Ok(())
}
