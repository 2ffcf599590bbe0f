//! What a node gives back of the memory that a crowd took.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options, Ws};
use tokio::time::{Instant, sleep};

const MANY: usize = 2_000;
const AT_ONCE: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

fn resident_kib(node: &Gateway) -> Result<u64> {
    let pid = node.pid().context("no process")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn most_of_what_two_thousand_connections_took_is_given_back_when_they_have_gone() -> Result<()> {
    // With an engine that keeps nothing of them in the process.
    let redis = Server::standalone().await?;
    let options =
        Options::default().env("PARLANCE_NO_LIMITS", "true").env("PARLANCE_REDIS_URL", &redis.url());
    let node = Gateway::start(options).await?;
    drop(node.connect("/ws", "first").await?);
    let before = resident_kib(&node)?;
    let node_of = &node;
    let come = (0..MANY).map(|n| async move { node_of.connect("/ws", &format!("user-{n}")).await });
    let crowd: Vec<Ws> = stream::iter(come).buffered(AT_ONCE).try_collect().await?;
    let took = resident_kib(&node)?.saturating_sub(before);
    ensure!(took > 4 * 1024, "{took} KiB for {MANY} connections: the test shows nothing");
    drop(crowd);
    let until = Instant::now() + PATIENCE;
    loop {
        let kept = resident_kib(&node)?.saturating_sub(before);
        if kept < took / 2 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{kept} of {took} KiB are kept");
        sleep(Duration::from_millis(100)).await;
    }
}
