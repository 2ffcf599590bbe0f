//! What an acknowledgement promises is said truthfully, and a level that the Redis there cannot keep does not start.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Kind, Server, Setup};
use parlance_tests::{Gateway, Options, built_binary};
use serde_json::Value;

/// Starts a node that is to end by itself; its exit code and what it says.
fn refused(redis: &Server, level: &str) -> Result<(Option<i32>, String)> {
    let ended = Command::new(built_binary()?)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--internal-listen",
            "127.0.0.1:0",
            "--log-level",
            "error",
        ])
        .args(["--redis-url", &redis.url(), "--ack-level", level])
        .args(["--jwt-secret", "a-secret-of-at-least-thirty-two-bytes"])
        .stdin(Stdio::null())
        .output()?;
    Ok((ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned()))
}

async fn readiness(redis: &Server, level: &str) -> Result<Value> {
    let options = Options::default().env("PARLANCE_REDIS_URL", &redis.url());
    let gateway = Gateway::start(options.env("PARLANCE_ACK_LEVEL", level)).await?;
    let (status, body) = gateway.api("GET", "/readyz", None).await?;
    ensure!(status == 200, "{body}");
    Ok(body)
}

#[tokio::test]
async fn a_level_that_cannot_be_kept_ends_with_one_line() -> Result<()> {
    let redis = Server::standalone().await?;
    for (level, why) in [
        ("redis-wait", "wants 1 connected replica"),
        ("redis-fsync", "appendfsync always, and it is everysec"),
    ] {
        let (code, said) = refused(&redis, level)?;
        ensure!(code == Some(1) && said.lines().count() == 1, "{code:?} {said}");
        ensure!(said.contains(why) && said.contains(&redis.port().to_string()), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn readiness_says_what_acknowledged_messages_survive() -> Result<()> {
    let primary = Server::standalone().await?;
    let told = readiness(&primary, "redis").await?;
    let survives = |told: &Value| told["acked_survives"].as_str().map(str::to_owned).context("a text");
    ensure!(told["ack_level"] == "redis" && survives(&told)?.starts_with("kill -9 of Redis"), "{told}");
    let of = format!("127.0.0.1 {}", primary.port());
    let _replica = Server::start(Setup::new(Kind::Plain).set("replicaof", &of)).await?;
    while !primary.command(&["INFO", "replication"]).await?.contains("state=online") {
        tokio::task::yield_now().await;
    }
    let told = readiness(&primary, "redis-wait").await?;
    ensure!(told["ack_level"] == "redis-wait" && survives(&told)?.contains("loss of a primary"), "{told}");
    let forgetful = Server::start(Setup::new(Kind::Plain).set("appendonly", "no")).await?;
    let told = readiness(&forgetful, "redis").await?;
    ensure!(survives(&told)?.starts_with("nothing"), "{told}");
    Ok(())
}
