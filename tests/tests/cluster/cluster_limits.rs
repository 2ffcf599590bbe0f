//! Limits over three nodes on one Redis: what is in the log of any window is never more than the limit, by the time of
//! Redis, however hard and wherever it is tried; and alone nearly all of it gets through.

use std::time::Duration;

use crate::cluster_limits_support::{Line, Nodes, Way, appended, fullest};
use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Response, Ws, token};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// As fast as one connection goes, but no faster than a pace; how many were sent.
async fn hammer(mut line: Line, name: String, (pace, span): (Duration, Duration)) -> Result<u64> {
    let (until, mut sent) = (Instant::now() + span, 0);
    while Instant::now() < until {
        let begun = Instant::now();
        line.send(&format!("{name}-{sent}")).await?;
        sent += 1;
        tokio::time::sleep_until(begun + pace).await;
    }
    Ok(sent)
}

/// Five times the limit for some windows, over these nodes: when each message was appended.
async fn flood(nodes: &[Gateway], way: Way, windows: u32) -> Result<Vec<u64>> {
    let (limit, window) = way.limit();
    // As many as it takes: each waits for its answers.
    let lines = if limit < 100 { 3 } else { 9 };
    let pace = window * lines / (limit * 5);
    let mut hammers = JoinSet::new();
    for (number, node) in nodes.iter().cycle().take(lines as usize).enumerate() {
        let line = way.connect(node, "alice").await?;
        hammers.spawn(hammer(line, number.to_string(), (pace, window * windows)));
    }
    let mut sent = 0;
    while let Some(done) = hammers.join_next().await {
        sent += done??;
    }
    println!("{way:?}: {sent} sent in {windows} windows of {limit}");
    ensure!(sent * 2 > u64::from(limit * windows) * 3, "{sent} is no flood");
    appended(&nodes[0], "room").await
}

async fn holds(way: Way, windows: u32) -> Result<()> {
    let nodes = Nodes::start().await?;
    nodes.all[0].conversation("room", &["alice", "bob"]).await?;
    let (limit, window) = way.limit();
    let times = flood(&nodes.all, way, windows).await?;
    let fullest = fullest(&times, window);
    println!("{way:?}: {} accepted, {fullest} in the fullest window", times.len());
    ensure!(fullest <= limit as usize, "{fullest} of {limit} in a window: {times:?}");
    ensure!(times.len() >= limit as usize, "only {} accepted", times.len());
    Ok(())
}

#[tokio::test]
async fn famly_holds_over_three_nodes() -> Result<()> {
    holds(Way::Famly, 2).await
}

#[tokio::test]
async fn lingochat_holds_over_three_nodes() -> Result<()> {
    holds(Way::Lingochat, 6).await
}

#[tokio::test]
async fn sechat_holds_over_three_nodes() -> Result<()> {
    holds(Way::Sechat, 6).await
}

#[tokio::test]
async fn socialhub_holds_over_three_nodes() -> Result<()> {
    holds(Way::Socialhub, 6).await
}

/// On one node all that is allowed gets through, nearly.
async fn alone(way: Way, windows: u32) -> Result<()> {
    let nodes = Nodes::start().await?;
    nodes.all[0].conversation("room", &["alice", "bob"]).await?;
    let (limit, window) = way.limit();
    let times = flood(&nodes.all[..1], way, windows).await?;
    let (accepted, allowed) = (times.len(), (limit * windows) as usize);
    println!("{way:?}: {accepted} of {allowed} alone");
    ensure!(accepted * 100 >= allowed * 95, "{accepted} of {allowed}");
    ensure!(fullest(&times, window) <= limit as usize, "{times:?}");
    Ok(())
}

#[tokio::test]
async fn alone_nearly_all_of_the_limit_gets_through() -> Result<()> {
    alone(Way::Lingochat, 5).await?;
    alone(Way::Sechat, 5).await?;
    alone(Way::Socialhub, 5).await?;
    alone(Way::Famly, 2).await
}

#[tokio::test]
async fn a_resend_to_another_node_is_the_same_message_and_costs_nothing() -> Result<()> {
    let nodes = Nodes::start().await?;
    nodes.all[0].conversation("room", &["alice", "bob"]).await?;
    let way = Way::Famly;
    let mut lines = Vec::new();
    for node in &nodes.all {
        lines.push(way.connect(node, "alice").await?);
    }
    let first = lines[0].ask("m0").await?;
    ensure!(first["ok"] == true && first["data"]["serverId"].is_string(), "{first}");
    // More resends than the limit allows messages: each takes its entry back.
    for round in 0..12 {
        let again = lines[1 + round % 2].ask("m0").await?;
        ensure!(again["data"] == first["data"], "{again}");
    }
    for number in 1..10 {
        let node = number % 3;
        ensure!(lines[node].send(&format!("m{number}")).await?, "the {number}th is refused");
    }
    // All ten are counted, wherever they were sent.
    for line in &mut lines {
        let refused = line.ask("m-too-many").await?;
        ensure!(refused["error"] == "RATE_LIMITED", "{refused}");
        let again = line.ask("m0").await?;
        ensure!(again["data"] == first["data"], "known, and refused: {again}");
    }
    ensure!(appended(&nodes.all[2], "room").await?.len() == 10);
    Ok(())
}

#[tokio::test]
async fn without_redis_sends_are_refused_and_may_be_tried_again() -> Result<()> {
    let mut nodes = Nodes::start().await?;
    nodes.all[0].conversation("room", &["alice", "bob"]).await?;
    let mut line = Way::Famly.connect(&nodes.all[1], "alice").await?;
    ensure!(line.send("before").await?);
    nodes.redis.kill9()?;
    let refused = line.ask("m1").await?;
    ensure!(refused["ok"] == false && refused["error"] == "INTERNAL", "{refused}");
    nodes.redis.restart().await?;
    let until = Instant::now() + parlance_tests::PATIENCE;
    loop {
        let answer = line.ask("m1").await?;
        if answer["ok"] == true {
            break;
        }
        ensure!(answer["error"] == "INTERNAL", "the outage counted: {answer}");
        ensure!(Instant::now() < until, "refused for ever: {answer}");
    }
    ensure!(appended(&nodes.all[2], "room").await?.len() == 2, "once each");
    Ok(())
}

/// Leases a seventh as long as shipped.
const QUICK: &str = r#"
[timings]
presence_ttl_ms = 5000
presence_refresh_ms = 1500

[[mounts]]
name = "socialhub"
path = "/ws"
dialect = "socialhub"
framing = "raw"
ping_interval_ms = 1500
connections_per_user = 10
"#;

/// The socket, or what refuses it.
async fn open(nodes: &Nodes, node: usize) -> Result<Result<Ws, Response>> {
    let url = nodes.all[node].url(&format!("/ws?token={}", token("alice")?));
    Ws::open(&url, &[]).await
}

#[tokio::test]
async fn a_user_has_ten_sockets_over_all_nodes_and_a_dead_nodes_are_free_again() -> Result<()> {
    let mut nodes = Nodes::with(QUICK).await?;
    let mut sockets = Vec::new();
    for number in 0..10 {
        let opened = open(&nodes, number % 3).await?;
        sockets.push(
            opened.map_err(|refusal| anyhow::anyhow!("{number}: {} {}", refusal.status, refusal.body))?,
        );
    }
    for node in 0..3 {
        let Err(refusal) = open(&nodes, node).await? else { anyhow::bail!("an eleventh on node {node}") };
        ensure!(refusal.status == 429 && refusal.body.contains("MAX_CONNECTIONS"), "{}", refusal.body);
    }
    // One that closes makes room on another node.
    sockets.swap_remove(0).close(1000).await?;
    let begun = Instant::now();
    sockets.push(until_open(&nodes, 1, begun + parlance_tests::PATIENCE).await?);
    ensure!(open(&nodes, 2).await?.is_err(), "ten again");
    // Three were on the node that dies: free when their leases end.
    nodes.all[0].kill9()?;
    let killed = Instant::now();
    for _ in 0..2 {
        sockets.push(until_open(&nodes, 1, killed + Duration::from_secs(15)).await?);
    }
    println!("free {:?} after the node died, with leases of 5 s", killed.elapsed());
    let within = Duration::from_secs(5 + 3);
    ensure!(killed.elapsed() < within, "only after {:?}", killed.elapsed());
    Ok(())
}

async fn until_open(nodes: &Nodes, node: usize, until: Instant) -> Result<Ws> {
    loop {
        match open(nodes, node).await? {
            Ok(socket) => return Ok(socket),
            Err(refusal) => ensure!(refusal.status == 429, "{} {}", refusal.status, refusal.body),
        }
        ensure!(Instant::now() < until, "no room is made");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn the_fullest_window_is_found() {
    let second = Duration::from_secs(1);
    assert_eq!(fullest(&[0, 1, 999, 1000, 1001], second), 3);
    assert_eq!(fullest(&[], second), 0);
}
