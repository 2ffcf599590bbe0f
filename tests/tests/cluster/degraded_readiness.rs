//! A node that cannot deliver says so in time, whatever is broken between it and Redis, and is ready again by itself.

use std::time::Duration;

use crate::degraded_support::{node, node_with, sechat_message, until_acked};
use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Cluster, Faults, Proxy, Server};
use parlance_tests::Gateway;
use parlance_tests::gateway::until_status;
use serde_json::json;
use tokio::time::{Instant, timeout};

/// So soon `/readyz` fails.
const PROMISED: Duration = Duration::from_secs(5);

async fn unready_in_time(gateway: &Gateway, fault: &str) -> Result<()> {
    let began = Instant::now();
    until_status(gateway, "/readyz", 503).await?;
    println!("{fault}: not ready after {:?}", began.elapsed());
    ensure!(began.elapsed() < PROMISED + Duration::from_millis(500), "{fault}: {:?}", began.elapsed());
    // The process lives: nobody is to restart it.
    ensure!(gateway.internal("GET", "/livez", None, None).await?.status == 200);
    Ok(())
}

#[tokio::test]
async fn a_node_whose_redis_is_paused_killed_or_cut_off_is_not_ready() -> Result<()> {
    let mut redis = Server::standalone().await?;
    let proxy = Proxy::start(redis.port(), 1).await?;
    let gateway = node(&proxy.url()).await?;
    gateway.conversation("room", &["alice"]).await?;
    let mut alice = gateway.connect("/sechat", "alice").await?;
    until_acked(&mut alice, PROMISED).await?;
    redis.pause()?;
    unready_in_time(&gateway, "paused").await?;
    redis.resume()?;
    until_status(&gateway, "/readyz", 200).await?;
    until_acked(&mut alice, PROMISED).await?;
    redis.kill9()?;
    unready_in_time(&gateway, "killed").await?;
    redis.restart().await?;
    until_status(&gateway, "/readyz", 200).await?;
    until_acked(&mut alice, PROMISED).await?;
    proxy.set(Faults { blackhole: true, ..Faults::default() });
    unready_in_time(&gateway, "cut off").await?;
    proxy.heal();
    until_status(&gateway, "/readyz", 200).await?;
    until_acked(&mut alice, PROMISED).await
}

#[tokio::test]
async fn a_node_that_hears_nothing_is_not_ready() -> Result<()> {
    let redis = Server::standalone().await?;
    let gateway = node(&redis.url()).await?;
    redis.command(&["ACL", "SETUSER", "default", "-ssubscribe"]).await?;
    redis.command(&["CLIENT", "KILL", "TYPE", "PUBSUB"]).await?;
    unready_in_time(&gateway, "deaf").await?;
    let said = gateway.internal("GET", "/readyz", None, None).await?.json()?;
    ensure!(said["checks"]["publications"] == "missing" && said["checks"]["engine"] == "ok", "{said}");
    redis.command(&["ACL", "SETUSER", "default", "+ssubscribe"]).await?;
    until_status(&gateway, "/readyz", 200).await
}

#[tokio::test]
async fn one_part_of_a_cluster_away_stops_only_what_is_kept_there() -> Result<()> {
    let cluster = Cluster::with(3, 0).await?;
    let gateway = node(&cluster.url()).await?;
    let rooms: Vec<String> = (0..12).map(|n| format!("room-{n}")).collect();
    for room in &rooms {
        gateway.conversation(room, &["alice"]).await?;
    }
    let mut alice = gateway.connect("/sechat", "alice").await?;
    alice.send(&json!({ "type": "register_session", "sessionId": "alice" })).await?;
    alice.expect("session_registered").await?;
    cluster.server(1).pause()?;
    // It knows by then.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (mut acked, mut refused) = (0, 0);
    for room in &rooms {
        let mut message = sechat_message(&format!("m-{room}"));
        message["conversationId"] = room.as_str().into();
        alice.send(&message).await?;
        let answer = loop {
            let frame = timeout(PROMISED, alice.next()).await.context("no answer")??;
            if frame["type"] == "message:acked" || frame["type"] == "error" {
                break frame;
            }
        };
        match answer["type"].as_str() {
            Some("message:acked") => acked += 1,
            _ => refused += 1,
        }
        ensure!(gateway.internal("GET", "/readyz", None, None).await?.status == 200, "still ready");
    }
    // Alice's own part may be the one that is away: then all is refused, and the node is ready all the same.
    ensure!(refused > 0 && acked + refused == rooms.len(), "{acked} acked, {refused} refused");
    cluster.server(1).resume()?;
    Ok(())
}

#[tokio::test]
async fn clients_are_sent_away_when_that_is_configured() -> Result<()> {
    let redis = Server::standalone().await?;
    let gateway = node_with(&redis.url(), "degraded = \"close\"\n").await?;
    let mut alice = gateway.connect("/ws", "alice").await?;
    // It has joined everything: one that cannot is closed at once.
    alice.send(&json!({ "type": "heartbeat" })).await?;
    alice.next().await?;
    redis.pause()?;
    let began = Instant::now();
    let code = timeout(Duration::from_secs(15), alice.closed()).await??;
    ensure!(code == Some(1013), "{code:?}");
    ensure!(began.elapsed() > Duration::from_secs(4), "not at the first hiccup: {:?}", began.elapsed());
    redis.resume()?;
    until_status(&gateway, "/readyz", 200).await?;
    drop(gateway.connect("/ws", "alice").await?);
    Ok(())
}
