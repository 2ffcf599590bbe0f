//! Behind a balancer without stickiness, every request of an Engine.IO session at another node: nothing is refused,
//! lost, doubled or out of order, in any dialect, on polling and on the way to a WebSocket.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::balanced_support::{Client, Cluster, Talk, numbered};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use parlance_tests::{API_KEY, Gateway, StockSocket, Transports};
use serde_json::{Value, json};

/// Messages of each side.
const COUNT: usize = 150;
/// Sent before the first of them is acknowledged.
const WINDOW: usize = 8;

/// Sends them, some at a time, and sees each of them accepted.
async fn send(client: &Client, socket: &StockSocket, bodies: &[String]) -> Result<()> {
    let mut waiting = VecDeque::new();
    for body in bodies {
        waiting.push_back(client.send(socket, body)?);
        if waiting.len() == WINDOW {
            accepted(client, socket, waiting.pop_front()).await?;
        }
    }
    while !waiting.is_empty() {
        accepted(client, socket, waiting.pop_front()).await?;
    }
    Ok(())
}

async fn accepted(client: &Client, socket: &StockSocket, tag: Option<u64>) -> Result<()> {
    let answer = socket.acked(tag.context("nothing sent")?).await?;
    let answer = answer.first().with_context(|| format!("{client:?}: an empty answer"))?;
    let refused = ["ok", "success"].iter().any(|yes| answer[yes] == false) || answer["status"] == "error";
    ensure!(!refused, "{client:?}: {answer}");
    Ok(())
}

/// Hears all of these, in their order, each once.
async fn hear(client: &Client, socket: &StockSocket, expected: &[String]) -> Result<()> {
    let from = expected[0].split('-').next().unwrap_or_default().to_owned();
    let mut heard = Vec::new();
    while heard.len() < expected.len() {
        let report = socket.next_event().await.with_context(|| format!("{client:?} heard {heard:?}"))?;
        let report = parlance_tests::stock::Report::Event(report);
        heard.extend(client.talk.body(&report).filter(|body| body.starts_with(&from)).map(str::to_owned));
    }
    ensure!(heard == expected, "{client:?}: {heard:?}");
    Ok(())
}

async fn converse(cluster: &Cluster, talk: Talk, transports: Transports, room: &str) -> Result<()> {
    let client = |name: &str| {
        let (user, room) = (format!("{name}{room}"), room.to_owned());
        Client { talk, transports, user, room }
    };
    let (alice, bob) = (client("alice"), client("bob"));
    cluster.room(room, &[&alice.user, &bob.user]).await?;
    let (a, b) = (cluster.enter(&alice).await?, cluster.enter(&bob).await?);
    let (from_a, from_b) = (numbered("a", COUNT), numbered("b", COUNT));
    tokio::try_join!(send(&alice, &a, &from_a), send(&bob, &b, &from_b))?;
    tokio::try_join!(hear(&alice, &a, &from_b), hear(&bob, &b, &from_a))?;
    for (client, socket) in [(&alice, &a), (&bob, &b)] {
        let queued = socket.queued().await?;
        let more: Vec<_> = queued
            .iter()
            .filter(|report| matches!(report, parlance_tests::stock::Report::Disconnect { .. }))
            .collect();
        ensure!(more.is_empty(), "{client:?}: {more:?}");
    }
    Ok(())
}

/// What the nodes have counted under a name.
async fn counted(nodes: &[Gateway], line: &str) -> Result<u64> {
    let mut all = 0;
    for node in nodes {
        let text = node.internal("GET", "/metrics", None, None).await?.body;
        let values = text.lines().filter_map(|l| l.strip_prefix(line)?.trim().parse::<u64>().ok());
        all += values.sum::<u64>();
    }
    Ok(all)
}

#[tokio::test]
async fn every_dialect_on_polling_and_upgrading_with_each_request_at_another_node() -> Result<()> {
    let cluster = Cluster::start().await?;
    let mut talks = Vec::new();
    for (index, talk) in Talk::ALL.into_iter().enumerate() {
        for (kind, transports) in [Transports::Polling, Transports::Upgrade].into_iter().enumerate() {
            let room = (7000 + index * 10 + kind).to_string();
            let cluster = &cluster;
            talks.push(async move { converse(cluster, talk, transports, &room).await });
        }
    }
    try_join_all(talks).await?;
    let turns = cluster.balancer.turns();
    let bad: Vec<_> = turns.iter().filter(|turn| turn.status >= 400).collect();
    ensure!(bad.is_empty(), "{bad:?}");
    let used: BTreeSet<&str> = turns.iter().map(|turn| turn.node.as_str()).collect();
    ensure!(used.len() == 3, "the balancer used {used:?}");
    for kind in ["payload", "poll", "socket"] {
        let line = format!("parlance_forwarded_total{{kind=\"{kind}\",outcome=\"answered\"}}");
        ensure!(counted(&cluster.nodes, &line).await? > 0, "no {kind} was forwarded");
    }
    Ok(())
}

#[tokio::test]
async fn sessions_of_dead_and_of_made_up_nodes_are_unknown_at_once() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (path, unknown) =
        ("/socket.io/?EIO=4&transport=polling", json!({ "code": 1, "message": "Session ID unknown" }));
    let opened = cluster.nodes[0].public("GET", path, None).await?;
    let open: Value = serde_json::from_str(opened.body.trim_start_matches('0'))?;
    let sid = open["sid"].as_str().context("no sid")?.to_owned();
    let ask = format!("{path}&sid={sid}");
    // A poll that waits at the owner when it is killed ends, too.
    let (first, rest) = cluster.nodes.split_at_mut(1);
    let waits = rest[0].public("GET", &ask, None);
    let (waited, killed) = tokio::join!(waits, async {
        let line = "parlance_sockets{listener=\"internal\"}";
        while counted(&first[..1], line).await? < 2 {}
        first[0].kill9()
    });
    killed?;
    for answer in [waited?, rest[1].public("GET", &ask, None).await?] {
        ensure!(answer.status == 400 && answer.json()? == unknown, "{} {}", answer.status, answer.body);
    }
    let made_up = format!("{path}&sid={}bm9kZS1ub2JvZHk", &sid[..22]);
    let since = Instant::now();
    for _ in 0..5 {
        let answer = rest[0].public("GET", &made_up, None).await?;
        ensure!(answer.status == 400 && answer.json()? == unknown, "{} {}", answer.status, answer.body);
    }
    ensure!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    // The way in is for nodes only, and not on the public listener.
    let inside = format!("/internal/engine{ask}");
    ensure!(rest[0].internal("GET", &inside, Some(API_KEY), None).await?.status == 401);
    ensure!(rest[0].public("GET", &inside, None).await?.status == 404);
    let nodes = rest[0].call("GET", "/api/v1/nodes", None).await?;
    let all = nodes["nodes"].as_array().context("no nodes")?;
    ensure!(all.iter().all(|node| node["address"].is_string() && node["lagMs"].is_u64()), "{nodes}");
    ensure!(all.len() >= 2 && !nodes.to_string().contains("pass"), "{nodes}");
    Ok(())
}
