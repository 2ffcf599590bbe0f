//! Nodes whose Redis goes away, and clients of all dialects on them.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, IoClient, Options, Ws, token};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The time a command may take, and what a busy machine adds.
pub const ANSWERED: Duration = Duration::from_millis(3_500);

/// Leases and pings ten times as fast as shipped.
pub const QUICK: &str = r#"
[timings]
presence_ttl_ms = 5000
presence_refresh_ms = 1500

[[mounts]]
name = "sechat"
path = "/sechat"
dialect = "sechat"
framing = "raw"
ping_interval_ms = 1500
background_ms = 0

[[mounts]]
name = "socialhub"
path = "/ws"
dialect = "socialhub"
framing = "raw"
ping_interval_ms = 1500
"#;

/// A node at a Redis.
pub async fn node(url: &str) -> Result<Gateway> {
    Gateway::start(Options::default().env("PARLANCE_REDIS_URL", url)).await
}

/// A node with a configuration of its own.
pub async fn node_with(url: &str, config: &str) -> Result<Gateway> {
    Gateway::start(Options::default().env("PARLANCE_REDIS_URL", url).config(config)).await
}

/// A Redis, and two nodes at it with the conversation `room` of alice and bob.
pub async fn two() -> Result<(Server, Gateway, Gateway)> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis.url()).await?, node(&redis.url()).await?);
    a.conversation("room", &["alice", "bob"]).await?;
    Ok((redis, a, b))
}

/// A client over Socket.IO.
pub async fn io(gateway: &Gateway, path: &str, user: &str) -> Result<IoClient> {
    IoClient::connect(&gateway.url(path), &json!({ "token": token(user)? })).await
}

/// A sechat message to the room.
pub fn sechat_message(id: &str) -> Value {
    json!({ "type": "message:send", "messageId": id, "conversationId": "room", "toUserIds": [], "body": id })
}

/// Sends until one is acknowledged: after an outage this must be soon.
pub async fn until_acked(ws: &mut Ws, within: Duration) -> Result<()> {
    let until = Instant::now() + within;
    for attempt in 0.. {
        let id = format!("again-{attempt}-{:?}", Instant::now());
        ws.send(&sechat_message(&id)).await?;
        loop {
            let answer = ws.next().await?;
            if answer["type"] == "message:acked" && answer["messageId"] == id.as_str() {
                return Ok(());
            }
            if answer["type"] == "error" {
                break;
            }
        }
        ensure!(Instant::now() < until, "still refused after {within:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
