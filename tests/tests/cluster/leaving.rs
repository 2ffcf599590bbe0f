//! A node that stops, is replaced, or has more clients than the others: who is let in, who goes when, what others are told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use parlance_redis_rig::Server;
use parlance_tests::gateway::until_status;
use parlance_tests::{Gateway, IoClient, Options, Ws, token};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

fn options(redis: &Server) -> Options {
    Options::default().env("PARLANCE_REDIS_URL", &redis.url()).env("PARLANCE_NO_LIMITS", "true")
}

async fn node(redis: &Server, settings: &[(&str, &str)]) -> Result<Gateway> {
    let all = settings.iter().fold(options(redis), |options, (name, value)| options.env(name, value));
    Gateway::start(all).await
}

/// This dialect greets nobody.
async fn socialhub(gateway: &Gateway, user: &str) -> Result<Ws> {
    gateway.connect("/ws", user).await
}

async fn readiness(gateway: &Gateway, query: &str) -> Result<(u16, Value)> {
    let answer = gateway.internal("GET", &format!("/readyz{query}"), None, None).await?;
    Ok((answer.status, answer.json()?))
}

/// The status that a handshake is refused with; `None`: it is let in.
async fn refused(gateway: &Gateway, path: &str, user: &str) -> Result<Option<u16>> {
    let url = format!("ws://{}{path}?token={}", gateway.address(), token(user)?);
    Ok(Ws::open(&url, &[]).await?.err().map(|answer| answer.status))
}

#[tokio::test]
async fn not_ready_comes_first_then_nobody_is_let_in_then_clients_go() -> Result<()> {
    let redis = Server::standalone().await?;
    let mut a = node(&redis, &[("PARLANCE_DRAIN_DELAY_MS", "3000")]).await?;
    let mut early = a.connect("/sechat", "early").await?;
    let asked = Instant::now();
    a.signal(Signal::TERM)?;
    until_status(&a, "/readyz", 503).await?;
    ensure!(asked.elapsed() < Duration::from_secs(2), "at once, and not after the delay");
    let mut late = a.connect("/sechat", "late").await.context("taken until the delay is over")?;
    for socket in [&mut early, &mut late] {
        socket.expect("maintenance").await?;
        ensure!(socket.closed().await? == Some(1012));
    }
    ensure!(asked.elapsed() >= Duration::from_secs(3), "nobody goes before the delay is over");
    ensure!(a.exited(Duration::from_secs(20)).await?.success());
    Ok(())
}

#[tokio::test]
async fn who_does_not_go_is_cut_off_at_the_deadline_and_all_is_well() -> Result<()> {
    let redis = Server::standalone().await?;
    let mut a = node(&redis, &[("PARLANCE_DRAIN_DEADLINE_MS", "2000")]).await?;
    // Reads nothing, and so never answers the close.
    let _deaf = a.connect("/ws", "deaf").await?;
    let asked = Instant::now();
    let ended = a.sigterm().await?;
    ensure!(ended.success(), "{ended}");
    ensure!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn all_nodes_together_send_no_more_away_than_the_installation_allows() -> Result<()> {
    let redis = Server::standalone().await?;
    let settings = [("PARLANCE_DRAIN_CLIENTS_PER_SECOND", "20"), ("PARLANCE_DRAIN_DEADLINE_MS", "60000")];
    let (mut a, mut b) = (node(&redis, &settings).await?, node(&redis, &settings).await?);
    let mut clients = Vec::new();
    for (gateway, name) in [(&a, "a"), (&b, "b")] {
        let names: Vec<String> = (0..40).map(|number| format!("{name}{number}")).collect();
        clients.extend(try_join_all(names.iter().map(|name| socialhub(gateway, name))).await?);
    }
    let began = Instant::now();
    a.signal(Signal::TERM)?;
    b.signal(Signal::TERM)?;
    let left = clients.into_iter().map(|mut client| async move {
        ensure!(client.closed().await? == Some(1012));
        Ok(Instant::now())
    });
    let mut left = try_join_all(left).await?;
    left.sort_unstable();
    // 80 at 20 a second, of which the first 20 may go at once.
    ensure!(began.elapsed() >= Duration::from_millis(2_800), "{:?}", began.elapsed());
    for window in left.windows(32) {
        ensure!(
            window[31] - window[0] >= Duration::from_millis(300),
            "32 within {:?}",
            window[31] - window[0]
        );
    }
    for gateway in [&mut a, &mut b] {
        ensure!(gateway.exited(Duration::from_secs(30)).await?.success());
    }
    Ok(())
}

/// A mount whose clients begin anew whenever they come back.
const FORGETFUL: &str = r#"
[[mounts]]
name = "forgetful"
path = "/forgetful/"
dialect = "famly"
framing = "socketio"
recovery = false

[[mounts]]
name = "socialhub"
path = "/ws"
dialect = "socialhub"
framing = "raw"
"#;

#[tokio::test]
async fn those_go_last_who_lose_something_by_it() -> Result<()> {
    let redis = Server::standalone().await?;
    let slowly = options(&redis).env("PARLANCE_DRAIN_CLIENTS_PER_SECOND", "10").config(FORGETFUL);
    let mut node = Gateway::start(slowly.env("PARLANCE_DRAIN_DEADLINE_MS", "60000")).await?;
    let (mut forgetful, mut resumable) = (Vec::new(), Vec::new());
    // Those who lose something were heard of last, and first.
    for number in 0..12 {
        if !(3..9).contains(&number) {
            let auth = json!({ "token": token(&format!("f{number}"))? });
            forgetful.push(IoClient::connect(&node.url("/forgetful/"), &auth).await?);
        } else {
            resumable.push(socialhub(&node, &format!("r{number}")).await?);
        }
    }
    node.signal(Signal::TERM)?;
    let first = resumable.iter_mut().map(|client| async move {
        ensure!(client.closed().await? == Some(1012));
        Ok(Instant::now())
    });
    let last = forgetful.iter_mut().map(|client| async move {
        client.closed().await?;
        Ok::<_, anyhow::Error>(Instant::now())
    });
    let (first, last) = tokio::try_join!(try_join_all(first), try_join_all(last))?;
    // Two that are told one right after the other may be seen the other way round: these are the last and the first.
    let earlier = |at: &Instant| last.iter().filter(|other| *other < at).count();
    ensure!(first.iter().map(earlier).max() <= Some(1), "{first:?} {last:?}");
    ensure!(node.exited(Duration::from_secs(30)).await?.success());
    Ok(())
}

#[tokio::test]
async fn of_a_user_whose_client_moves_to_another_node_nobody_hears() -> Result<()> {
    let redis = Server::standalone().await?;
    let settings = [("PARLANCE_NO_LIMITS", "false")];
    let (mut a, b) = (node(&redis, &settings).await?, node(&redis, &settings).await?);
    let mut watcher = socialhub(&b, "watcher").await?;
    watcher.send(&json!({"type": "subscribe", "payload": {"channel": "presence:alice"}})).await?;
    ensure!(watcher.expect("presence").await?["payload"]["status"] == "offline");
    // As many as a user may have: the old ones must not count when they come back.
    let mut there = Vec::new();
    for _ in 0..5 {
        there.push(socialhub(&a, "alice").await?);
    }
    a.signal(Signal::TERM)?;
    let mut back = Vec::new();
    for mut socket in there {
        ensure!(socket.closed().await? == Some(1012));
        back.push(socialhub(&b, "alice").await?);
    }
    ensure!(a.exited(Duration::from_secs(20)).await?.success());
    let (status, presence) = b.api("GET", "/api/v1/users/alice/presence", None).await?;
    ensure!(
        (status, &presence["status"], &presence["devices"]) == (200, &json!("online"), &json!(5)),
        "{presence}"
    );
    drop(back);
    // What is told of alice is one coming and one going: nothing while she moved.
    let mut told = Vec::new();
    while told.last() != Some(&json!("offline")) {
        told.push(watcher.expect("presence").await?["payload"]["status"].clone());
    }
    ensure!(told == [json!("online"), json!("offline")], "{told:?}");
    Ok(())
}

#[tokio::test]
async fn an_older_rollout_takes_nobody_while_a_newer_one_has_room() -> Result<()> {
    let redis = Server::standalone().await?;
    let old = node(&redis, &[("PARLANCE_DRAIN_GENERATION", "old")]).await?;
    let stays = socialhub(&old, "stays").await?;
    ensure!(readiness(&old, "?for=newcomers").await?.0 == 200);
    let mut new = node(&redis, &[("PARLANCE_DRAIN_GENERATION", "new")]).await?;
    until_status(&old, "/readyz?for=newcomers", 503).await?;
    let (status, body) = readiness(&old, "").await?;
    ensure!(status == 200 && body["checks"]["superseded"] == true, "it may not be stopped for that: {body}");
    ensure!(refused(&old, "/ws", "bob").await? == Some(503), "refused: a balancer tries another node");
    let polled = old.public("GET", "/socket.io/?EIO=4&transport=polling", None).await?;
    ensure!(polled.status == 200, "a session that is polled begins at the other node: {}", polled.status);
    ensure!(refused(&new, "/ws", "bob").await?.is_none());
    ensure!(new.sigterm().await?.success());
    until_status(&old, "/readyz?for=newcomers", 200).await?;
    ensure!(refused(&old, "/ws", "bob").await?.is_none(), "the newer one is gone");
    drop(stays);
    Ok(())
}

#[tokio::test]
async fn a_node_with_many_more_than_the_others_gives_some_up() -> Result<()> {
    let redis = Server::standalone().await?;
    let a = node(&redis, &[("PARLANCE_DRAIN_REBALANCE", "true")]).await?;
    let names: Vec<String> = (0..100).map(|number| format!("u{number}")).collect();
    let mut clients = try_join_all(names.iter().map(|name| socialhub(&a, name))).await?;
    let b = node(&redis, &[]).await?;
    // Half of the 50 beyond the mean, in the first round after the other node is known: the node looks every 15 s.
    let mut ends = FuturesUnordered::new();
    for client in &mut clients {
        ends.push(client.closed_within(Duration::from_secs(90)));
    }
    for number in 0..25 {
        let code = ends.next().await.context("no clients")?.with_context(|| format!("after {number}"))?;
        ensure!(code == Some(1012), "{code:?}");
    }
    // Those were all of the round, and they are told as gone.
    loop {
        let (_, nodes) = b.api("GET", "/api/v1/nodes", None).await?;
        let all = nodes["nodes"].as_array().context("no nodes")?;
        let counts: Vec<u64> = all.iter().filter_map(|node| node["connections"].as_u64()).collect();
        let sum = counts.iter().sum::<u64>();
        ensure!(sum >= 75, "no more than half of what it has beyond the mean: {counts:?}");
        if sum == 75 {
            return Ok(());
        }
        tokio::select! {
            ended = ends.next() => anyhow::bail!("one more: {ended:?}"),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
}
