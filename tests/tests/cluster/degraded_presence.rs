//! Redis is away and nodes go: typing stops in time, nobody is reported away who is there, and nobody stays who went.

use std::time::Duration;

use crate::degraded_support::{QUICK, node_with, two, until_acked};
use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::gateway::until_status;
use parlance_tests::{Gateway, Ws};
use serde_json::json;
use tokio::time::{Instant, timeout};

/// The longest life of what says "typing", and the time a stop may take on top of it.
const TYPING: Duration = Duration::from_millis(4_500);

#[tokio::test]
async fn typing_stops_in_time_while_redis_is_away() -> Result<()> {
    let (redis, a, b) = two().await?;
    let mut alice = a.connect("/sechat", "alice").await?;
    let mut bob = listening(&b, "bob").await?;
    until_acked(&mut alice, Duration::from_secs(5)).await?;
    bob.expect("message:received").await?;
    alice.send(&json!({ "type": "typing:start", "conversationId": "room", "toUserIds": ["bob"] })).await?;
    ensure!(bob.expect("typing:update").await?["isTyping"] == true);
    let began = Instant::now();
    redis.pause()?;
    let stop = timeout(Duration::from_secs(8), bob.expect("typing:update")).await??;
    ensure!(stop["isTyping"] == false, "{stop}");
    ensure!((Duration::from_secs(3)..TYPING).contains(&began.elapsed()), "{:?}", began.elapsed());
    redis.resume()?;
    // The sweep's word of it comes late and is not told again.
    until_status(&b, "/readyz", 200).await?;
    bob.assert_silent(Duration::from_secs(2)).await
}

/// A connection that hears presence already.
async fn listening(gateway: &Gateway, user: &str) -> Result<Ws> {
    let mut ws = gateway.connect("/sechat", user).await?;
    ws.send(&json!({ "type": "register_session", "sessionId": user })).await?;
    ws.expect("session_registered").await?;
    Ok(ws)
}

async fn quick(redis: &Server) -> Result<(Gateway, Gateway)> {
    let (a, b) = (node_with(&redis.url(), QUICK).await?, node_with(&redis.url(), QUICK).await?);
    a.conversation("room", &["alice", "bob"]).await?;
    Ok((a, b))
}

/// What bob hears of alice within a time.
async fn heard(bob: &mut Ws, within: Duration) -> Result<Vec<&'static str>> {
    let until = Instant::now() + within;
    let mut all = Vec::new();
    while Instant::now() < until {
        // Shorter than the patience of a client that waits for what must come.
        let wait = until.min(Instant::now() + Duration::from_secs(5));
        let Ok(frame) = tokio::time::timeout_at(wait, bob.next()).await else { continue };
        let frame = frame?;
        if frame["type"] == "presence:update" && frame["sessionId"] == "alice" {
            all.push(if frame["isOnline"] == true { "online" } else { "offline" });
        }
    }
    Ok(all)
}

#[tokio::test]
async fn a_pause_longer_than_every_lease_reports_nobody_away() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = quick(&redis).await?;
    let mut bob = listening(&b, "bob").await?;
    let mut alice = a.connect("/sechat", "alice").await?;
    while bob.expect("presence:update").await?["sessionId"] != "alice" {}
    redis.pause()?;
    let (away, _) =
        tokio::join!(heard(&mut bob, Duration::from_secs(8)), alice.assert_silent(Duration::from_secs(8)));
    redis.resume()?;
    ensure!(away?.is_empty());
    // Alice's client goes on answering pings.
    let (after, _) =
        tokio::join!(heard(&mut bob, Duration::from_secs(18)), alice.assert_silent(Duration::from_secs(18)));
    let after = after?;
    ensure!(after.is_empty(), "{after:?}");
    a.until_presence("alice", "status", "online").await
}

#[tokio::test]
async fn whoever_went_with_its_node_is_reported_away_once() -> Result<()> {
    let redis = Server::standalone().await?;
    let (mut a, b) = quick(&redis).await?;
    let c = node_with(&redis.url(), QUICK).await?;
    let mut bob = listening(&b, "bob").await?;
    let mut carol = listening(&c, "carol").await?;
    let _alice = a.connect("/sechat", "alice").await?;
    while bob.expect("presence:update").await?["sessionId"] != "alice" {}
    a.kill9()?;
    let (bob, carol) =
        tokio::join!(heard(&mut bob, Duration::from_secs(12)), heard(&mut carol, Duration::from_secs(12)));
    ensure!(bob? == ["offline"], "bob");
    ensure!(carol?.iter().filter(|status| **status == "offline").count() == 1, "carol");
    Ok(())
}

#[tokio::test]
async fn presence_is_rebuilt_when_redis_comes_back_empty() -> Result<()> {
    let mut redis = Server::standalone().await?;
    let (a, b) = quick(&redis).await?;
    let mut alice = a.connect("/sechat", "alice").await?;
    let mut bob = listening(&b, "bob").await?;
    let answers = async {
        // Reading answers the pings.
        tokio::join!(alice.assert_silent(Duration::from_secs(15)), heard(&mut bob, Duration::from_secs(15)))
    };
    let emptied = async {
        redis.restart_empty().await?;
        until_status(&a, "/readyz", 200).await?;
        for user in ["alice", "bob"] {
            timeout(Duration::from_secs(10), b.until_presence(user, "status", "online")).await??;
        }
        b.until_presence("alice", "devices", 1).await
    };
    let (_, emptied) = tokio::join!(answers, emptied);
    emptied
}
