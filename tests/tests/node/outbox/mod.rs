//! The outbox: what an application writes to a table or a stream is published as by the server API.

mod command;
mod examples;
mod faults;
mod hanging;
mod pages;
mod places;
mod refused;
mod stuck;
mod ways;
mod words;

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options, PATIENCE, Postgres, SECRET, built_binary};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The stream of the tests.
pub const STREAM: &str = "outbox";

/// What `parlance outbox` says.
pub fn said(words: &[&str], environment: &[(&str, &str)]) -> Result<String> {
    let mut command = Command::new(built_binary()?);
    command.arg("outbox").args(words).env("PARLANCE_JWT_SECRET", SECRET);
    let output = command.envs(environment.iter().copied()).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A server with the table.
pub async fn table() -> Result<Postgres> {
    let postgres = Postgres::start().await?;
    said(&["migrate"], &[("PARLANCE_OUTBOX_URL", &postgres.url())])?;
    Ok(postgres)
}

/// A node's options that publish from it.
pub fn of_table(postgres: &Postgres) -> Options {
    Options::default().env("PARLANCE_OUTBOX_URL", &postgres.url())
}

/// A node's options that publish from a stream.
pub fn of_stream(redis: &Server) -> Options {
    Options::default().env("PARLANCE_OUTBOX_STREAM", STREAM).env("PARLANCE_OUTBOX_REDIS_URL", &redis.url())
}

/// A text as SQL has it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The statement that writes an event down.
pub fn insert(call: &str, target: Option<&str>, body: Option<&Value>) -> String {
    let or_null = |text: Option<String>| text.map_or("NULL".to_owned(), |text| quoted(&text));
    format!(
        "INSERT INTO parlance.outbox (call, target, body) VALUES ({}, {}, {});",
        quoted(call),
        or_null(target.map(str::to_owned)),
        or_null(body.map(Value::to_string)),
    )
}

/// Writes an event down in a stream; the id of its entry.
pub async fn add(redis: &Server, call: &str, target: Option<&str>, body: Option<&Value>) -> Result<String> {
    let body = body.map(Value::to_string);
    let mut words = vec!["XADD", STREAM, "*", "call", call];
    words.extend(target.into_iter().flat_map(|target| ["target", target]));
    words.extend(body.iter().flat_map(|body| ["body", body.as_str()]));
    redis.command(&words).await
}

/// What there is of it in a stream.
pub async fn length(redis: &Server, stream: &str) -> Result<usize> {
    let said = redis.command(&["XLEN", stream]).await?;
    said.trim().trim_start_matches(':').parse().with_context(|| format!("no number: {said}"))
}

/// Waits until nothing waits in the stream.
pub async fn until_empty(redis: &Server) -> Result<()> {
    let end = Instant::now() + PATIENCE * 6;
    loop {
        // It may be away right now.
        let left = length(redis, STREAM).await;
        if left.as_ref().is_ok_and(|left| *left == 0) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "there is still something: {left:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What waits in the table and was not refused.
pub const WAITING: &str = "SELECT count(*) FROM parlance.outbox WHERE refused_at IS NULL";

/// Bodies of all messages of a conversation, in order.
pub async fn bodies(gateway: &Gateway, conversation: &str) -> Result<Vec<String>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let from =
            if after.is_empty() { "since=2000-01-01T00:00:00Z".to_owned() } else { format!("after={after}") };
        let path = format!("/api/v1/conversations/{conversation}/messages?limit=200&{from}");
        let page = gateway.call("GET", &path, None).await?;
        let messages = page["messages"].as_array().context("no page")?;
        for message in messages {
            all.push(message["body"].as_str().context("no body")?.to_owned());
            after = message["id"].as_str().context("no id")?.to_owned();
        }
        if page["has_more"] != true {
            return Ok(all);
        }
    }
}
