//! SocialHub's polling while nodes are killed and come back: what many clients are told by whichever node is asked.
#![allow(
    clippy::disallowed_methods,
    reason = "clients poll beside what happens to the nodes, and are awaited"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::poll_support::{Poller, nodes, unlimited};
use anyhow::{Context, Result, bail, ensure};
use parlance_redis_rig::Server;
use parlance_tests::http::Request;
use parlance_tests::{API_KEY, Balancer, Gateway, script};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio_util::sync::CancellationToken;

const ROOMS: [&str; 2] = ["c0", "c1"];

/// Who brings messages to whichever node takes them.
struct Speaker {
    nodes: Vec<String>,
    said: Arc<AtomicUsize>,
    enough: CancellationToken,
}

impl Speaker {
    /// Says `m0`, `m1`, … until it is enough; returns how many.
    async fn run(self) -> Result<usize> {
        let mut n = 0;
        while !self.enough.is_cancelled() {
            self.say(n).await?;
            n += 1;
            self.said.store(n, Ordering::Relaxed);
        }
        Ok(n)
    }

    async fn say(&self, n: usize) -> Result<()> {
        let body = json!({ "senderId": "bob", "body": format!("m{n}"), "clientId": format!("id-{n}") });
        let path = format!("/api/v1/conversations/{}/messages", ROOMS[n % ROOMS.len()]);
        for attempt in 0..200 {
            let address = self.nodes.get((n + attempt) % self.nodes.len()).context("no node")?;
            let body = Some(&body);
            let asked = Request { address, method: "POST", path: &path, bearer: Some(API_KEY), body };
            // A node that is being killed answers nothing; the id sees to it that the message is there once.
            if asked.send().await.is_ok_and(|answer| matches!(answer.status, 200 | 201)) {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        bail!("nobody took m{n}")
    }
}

/// Kills each node once and starts it again, each time after more was said.
async fn kill_each(nodes: &mut [Gateway], said: &AtomicUsize) -> Result<()> {
    for node in nodes {
        until(said, 25).await?;
        node.kill9()?;
        until(said, 25).await?;
        node.restart().await?;
    }
    until(said, 25).await
}

/// Waits until so much more was said.
async fn until(said: &AtomicUsize, more: usize) -> Result<()> {
    let goal = said.load(Ordering::Relaxed) + more;
    for _ in 0..3000 {
        if said.load(Ordering::Relaxed) >= goal {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    bail!("not {goal} were said, but {}", said.load(Ordering::Relaxed))
}

/// One poll as an application asks it: again while no node answers. Now and then the same is asked again.
async fn poll(poller: &mut Poller, address: &str, turn: usize) -> Result<()> {
    let before = poller.clone();
    let Ok(answer) = poller.ask(address, 1.0).await else { return Ok(()) };
    if matches!(answer.status, 502 | 503) {
        return Ok(());
    }
    let told = poller.take(&answer)?;
    if turn.is_multiple_of(3) {
        let Ok(again) = before.ask(address, 0.0).await else { return Ok(()) };
        if again.status == 200 {
            let again = again.json()?["events"].clone();
            let first = again.as_array().and_then(|all| all.get(..told.len())).context("fewer events")?;
            ensure!(first == told, "{first:?} is not {told:?}");
        }
    }
    Ok(())
}

fn ensure_whole(events: &[Value], said: usize) -> Result<()> {
    let ids: Vec<u64> = events.iter().filter_map(|event| event["id"].as_u64()).collect();
    ensure!(ids.iter().copied().eq(1..=said as u64), "{} were said; ids: {ids:?}", said);
    for (room, name) in ROOMS.iter().enumerate() {
        let channel = format!("conversation:{name}");
        let of_room = events.iter().filter(|event| event["channel"] == channel);
        let heard: Vec<_> = of_room.filter_map(|event| event["payload"]["content"].as_str()).collect();
        let expected: Vec<String> =
            (0..said).filter(|n| n % ROOMS.len() == room).map(|n| format!("m{n}")).collect();
        ensure!(heard == expected, "{name}: {heard:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_killed_one_by_one_under_load_lose_and_double_nothing() -> Result<()> {
    let redis = Server::standalone().await?;
    let mut nodes = nodes::<3>(&redis, &unlimited()).await?;
    let balancer = Arc::new(Balancer::start(nodes.iter().map(Gateway::address)).await?);
    for room in ROOMS {
        nodes[0].conversation(room, &["alice", "bob", "carol"]).await?;
    }
    let (said, enough) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let all_said = CancellationToken::new();
    let speaker = Speaker {
        nodes: nodes.iter().map(|node| node.internal_address().to_owned()).collect(),
        said: said.clone(),
        enough: enough.clone(),
    };
    let speaking = tokio::spawn(speaker.run());
    let polling: Vec<_> = ["alice", "alice", "carol"]
        .into_iter()
        .map(|user| {
            let (balancer, all_said, said) = (balancer.clone(), all_said.clone(), said.clone());
            tokio::spawn(async move {
                let mut poller = Poller::new(user)?;
                for turn in 0.. {
                    poll(&mut poller, balancer.address(), turn).await?;
                    if all_said.is_cancelled() && poller.events.len() >= said.load(Ordering::Relaxed) {
                        break;
                    }
                    ensure!(turn < 5_000, "{} of what was said came", poller.events.len());
                }
                anyhow::Ok(poller)
            })
        })
        .collect();
    kill_each(&mut nodes, &said).await?;
    enough.cancel();
    let said = speaking.await??;
    all_said.cancel();
    let mut told = Vec::new();
    for polling in polling {
        let poller = polling.await??;
        ensure_whole(&poller.events, said)?;
        told.push(poller.events);
    }
    ensure!(told[0] == told[1], "two pollers of one user were told different things");
    // From the beginning again: the same events under the same integers.
    let mut again = Poller::new("carol")?;
    again.until(balancer.address(), said).await?;
    ensure!(again.events == told[2], "asked again, it is something else");
    Ok(())
}

/// The documented client's habits: `fetch`, and each poll aborted for the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_fetch_that_aborts_its_polls_is_told_everything_once_by_nodes_that_die() -> Result<()> {
    let redis = Server::standalone().await?;
    let mut nodes = nodes::<3>(&redis, &unlimited()).await?;
    let balancer = Balancer::start(nodes.iter().map(Gateway::address)).await?;
    for room in ROOMS {
        nodes[0].conversation(room, &["alice", "bob"]).await?;
    }
    let token = parlance_tests::token("alice")?;
    let mut client = tokio::process::Command::from(script::node("poller.mjs")?)
        .args([&format!("http://{}", balancer.address()), "alice", &token, "300"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(client.stdout.take().context("no output")?).lines();
    let (said, enough) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let speaker = Speaker {
        nodes: nodes.iter().map(|node| node.internal_address().to_owned()).collect(),
        said: said.clone(),
        enough: enough.clone(),
    };
    let speaking = tokio::spawn(speaker.run());
    kill_each(&mut nodes, &said).await?;
    enough.cancel();
    let said = speaking.await??;
    let mut events: Vec<Value> = Vec::new();
    while events.len() < said {
        let line = tokio::time::timeout(parlance_tests::PATIENCE, lines.next_line()).await;
        let line = line.with_context(|| format!("{} of {said} came", events.len()))??;
        events.push(serde_json::from_str(&line.context("the client ended")?)?);
    }
    ensure_whole(&events, said)
}
