//! Many polls at once: aborted ones leave nothing behind, waiting ones all wake.
#![allow(clippy::disallowed_methods, reason = "polls wait beside what they wait for, and are awaited")]

use std::time::{Duration, Instant};

use crate::poll_support::{Poller, begin, say, unlimited, until_waiting};
use crate::support::{conversation, publish};
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use parlance_tests::Gateway;
use parlance_tests::http::{read_body, read_head};
use serde_json::json;
use tokio::net::TcpStream;

const MANY: usize = 2_000;
const AT_ONCE: usize = 50;

#[tokio::test]
async fn two_hundred_aborted_polls_lose_nothing_and_leave_nothing_behind() -> Result<()> {
    let node = Gateway::start(unlimited()).await?;
    conversation(&node, "c", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    for round in 0..10 {
        let mut polls = Vec::new();
        for _ in 0..20 {
            polls.push(begin(node.address(), &alice).await?);
        }
        // Aborted while they wait, while they are told something, and before they were understood.
        match round % 3 {
            0 => until_waiting(&node, 20).await?,
            1 => say(&node, "c", "bob", &format!("m{round}")).await?,
            _ => {}
        }
        drop(polls);
        say(&node, "c", "bob", &format!("n{round}")).await?;
        alice.poll(node.address(), 5.0).await?;
    }
    until_waiting(&node, 0).await?;
    let expected: Vec<String> = (0..10)
        .flat_map(|round| [(round % 3 == 1).then(|| format!("m{round}")), Some(format!("n{round}"))])
        .flatten()
        .collect();
    alice.until(node.address(), expected.len()).await?;
    ensure!(alice.texts() == expected, "{:?}", alice.texts());
    ensure!(alice.ids() == (1..=expected.len() as u64).collect::<Vec<_>>(), "{:?}", alice.ids());
    Ok(())
}

fn resident_kib(node: &Gateway) -> Result<u64> {
    let pid = node.pid().context("no process")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

async fn end(mut poll: TcpStream) -> Result<()> {
    let (head, rest) = read_head(&mut poll).await?;
    let answer = read_body(&mut poll, head, rest).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let events = &answer.json()?["events"];
    ensure!(events[0]["type"] == "feed_update" && events[0]["id"] == 1, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_polls_wait_at_one_node_and_all_wake_on_one_event() -> Result<()> {
    let node = Gateway::start(unlimited()).await?;
    let before = resident_kib(&node)?;
    let address = node.address();
    let begun = (0..MANY).map(|n| async move { begin(address, &Poller::new(&format!("user-{n}"))?).await });
    let polls: Vec<TcpStream> = stream::iter(begun).buffered(AT_ONCE).try_collect().await?;
    until_waiting(&node, MANY).await?;
    let each = (resident_kib(&node)?.saturating_sub(before)) as f64 / MANY as f64;
    let said = Instant::now();
    let update = json!({ "channel": "feed:updates", "type": "feed_update", "payload": { "n": 1 } });
    publish(&node, &update).await?;
    stream::iter(polls.into_iter().map(end)).buffer_unordered(MANY).try_collect::<Vec<()>>().await?;
    let woken = said.elapsed();
    println!("{MANY} polls: {each:.1} KiB each, all told within {woken:?}");
    ensure!(woken < Duration::from_secs(20), "it took {woken:?}");
    ensure!(each < 100.0, "a waiting poll takes {each} KiB");
    until_waiting(&node, 0).await
}
