//! A thousand polling clients come, join, and vanish without a word, wave after wave: nothing of them stays.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use parlance_tests::http::{read_body, read_head};
use parlance_tests::metrics::Samples;
use parlance_tests::{Gateway, Options, token};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const CLIENTS: usize = 1000;
const AT_ONCE: usize = 50;

/// Short heartbeats: whoever vanishes is noticed within two seconds.
const CONFIG: &str = r#"
[[mounts]]
name = "famly"
dialect = "famly"
path = "/socket.io/"
ping_interval_ms = 1500
ping_timeout_ms = 500
"#;

async fn call(gateway: &Gateway, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(gateway.address()).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let (head, rest) = read_head(&mut stream).await?;
    let answer = read_body(&mut stream, head, rest).await?;
    ensure!(answer.status == 200, "{method} {path}: {} {}", answer.status, answer.body);
    Ok(answer.body)
}

/// Opens a session, joins the namespace, takes the answer, and is never heard of again.
async fn come_and_vanish(gateway: &Gateway, index: usize) -> Result<()> {
    let base = "/socket.io/?EIO=4&transport=polling";
    let open = call(gateway, "GET", base, "").await?;
    let sid = open.split('"').nth(3).context("no sid")?;
    let path = format!("{base}&sid={sid}");
    let connect = format!("40{{\"token\":\"{}\"}}", token(&format!("user-{index}"))?);
    ensure!(call(gateway, "POST", &path, &connect).await? == "ok");
    let joined = call(gateway, "GET", &path, "").await?;
    ensure!(joined.starts_with("40{"), "not joined: {joined}");
    Ok(())
}

async fn wave(gateway: &Gateway) -> Result<u64> {
    let clients = stream::iter(0..CLIENTS).map(|index| come_and_vanish(gateway, index));
    clients.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let open = connections(gateway).await?;
        if open == 0.0 {
            return resident_kib(gateway);
        }
        ensure!(Instant::now() < deadline, "{open} of those who vanished are still counted as there");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn connections(gateway: &Gateway) -> Result<f64> {
    Ok(Samples::of(gateway).await?.sum("parlance_connections", &[("mount", "famly")]))
}

fn resident_kib(gateway: &Gateway) -> Result<u64> {
    let pid = gateway.pid().context("no process")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pollers_that_vanish_wave_after_wave_leave_no_memory_behind() -> Result<()> {
    let gateway = Gateway::start(Options::default().config(CONFIG)).await?;
    // The first wave brings caches and the allocator to their size.
    let first = wave(&gateway).await?;
    wave(&gateway).await?;
    let third = wave(&gateway).await?;
    let allowed = first + first / 10 + 4096;
    ensure!(third <= allowed, "{first} KiB after the first wave, {third} KiB after the third");
    // And it serves as before.
    come_and_vanish(&gateway, CLIENTS).await
}
