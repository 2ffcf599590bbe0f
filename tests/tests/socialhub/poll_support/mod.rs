//! A SocialHub client that polls: keeps its cursor, and everything it was told.
//!
//! Must not know: what is tested with it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::http::{Request, Response};
use parlance_tests::{Gateway, Options, token};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

pub const POLL: &str = "/api/v1/realtime/poll";

/// One client.
#[derive(Debug, Clone)]
pub struct Poller {
    pub user: String,
    pub token: String,
    pub cursor: u64,
    /// The events so far.
    pub events: Vec<Value>,
}

impl Poller {
    pub fn new(user: &str) -> Result<Self> {
        Ok(Self { user: user.to_owned(), token: token(user)?, cursor: 0, events: Vec::new() })
    }

    /// Asks as it is; nothing is taken in.
    pub async fn ask(&self, address: &str, timeout: f64) -> Result<Response> {
        let Self { user, cursor, .. } = self;
        let path = format!("{POLL}?user_id={user}&last_poll_id={cursor}&timeout={timeout}");
        get(address, &path, Some(&self.token)).await
    }

    /// Asks once and takes the events in.
    pub async fn poll(&mut self, address: &str, timeout: f64) -> Result<Vec<Value>> {
        let answer = self.ask(address, timeout).await?;
        self.take(&answer)
    }

    /// Takes an answer in, and checks what must be true of every answer.
    pub fn take(&mut self, answer: &Response) -> Result<Vec<Value>> {
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(answer.header("cache-control") == Some("no-store"), "{answer:?}");
        let body = answer.json()?;
        let events = body["events"].as_array().context("no events")?.clone();
        for event in &events {
            let id = event["id"].as_u64().with_context(|| format!("no integer: {event}"))?;
            ensure!(id > self.cursor, "{id} is not after {}: {body}", self.cursor);
            self.cursor = id;
        }
        ensure!(body["last_poll_id"] == self.cursor, "{} is not the cursor: {body}", self.cursor);
        ensure!(body["has_more"].is_boolean(), "{body}");
        self.events.extend(events.iter().cloned());
        Ok(events)
    }

    /// Polls until so many messages came.
    pub async fn until(&mut self, address: &str, messages: usize) -> Result<()> {
        for _ in 0..messages + 20 {
            if self.texts().len() >= messages {
                return Ok(());
            }
            self.poll(address, 2.0).await?;
        }
        anyhow::bail!("{} of {messages} came: {:?}", self.texts().len(), self.texts())
    }

    /// The texts of all messages so far.
    pub fn texts(&self) -> Vec<&str> {
        let messages = self.events.iter().filter(|event| event["type"] == "message");
        messages.filter_map(|event| event["payload"]["content"].as_str()).collect()
    }

    /// The integers so far.
    pub fn ids(&self) -> Vec<u64> {
        self.events.iter().filter_map(|event| event["id"].as_u64()).collect()
    }
}

pub async fn get(address: &str, path: &str, bearer: Option<&str>) -> Result<Response> {
    Request { address, method: "GET", path, bearer, body: None }.send().await
}

/// Lets somebody say something over the server API.
pub async fn say(gateway: &Gateway, conversation: &str, sender: &str, body: &str) -> Result<()> {
    let message = json!({ "senderId": sender, "body": body });
    let path = format!("/api/v1/conversations/{conversation}/messages");
    gateway.call("POST", &path, Some(&message)).await.map(drop)
}

/// Waits until a poll at this node listens.
pub async fn until_listening(node: &Gateway) -> Result<()> {
    until_waiting(node, 1).await
}

/// Waits until so many polls at this node listen, no more and no fewer.
pub async fn until_waiting(node: &Gateway, polls: usize) -> Result<()> {
    const NAME: &str = "parlance_polls_waiting{protocol=\"socialhub\"} ";
    let expected = format!("{NAME}{polls}");
    let mut found = String::new();
    for _ in 0..1500 {
        let metrics = node.internal("GET", "/metrics", None, None).await?.body;
        if metrics.lines().any(|line| line == expected) {
            return Ok(());
        }
        let line = metrics.lines().find(|line| line.starts_with(NAME));
        found = line.unwrap_or_default().to_owned();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("not {expected}, but {found}")
}

/// Sends a poll and returns its connection, without waiting for the answer: dropped, the poll is aborted.
pub async fn begin(address: &str, poller: &Poller) -> Result<TcpStream> {
    let Poller { user, token, cursor, .. } = poller;
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "GET {POLL}?user_id={user}&last_poll_id={cursor}&timeout=30 HTTP/1.1\r\nhost: x\r\n\
         connection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// Nodes that share a Redis.
pub async fn nodes<const N: usize>(redis: &Server, options: &Options) -> Result<[Gateway; N]> {
    let options = options.clone().env("PARLANCE_REDIS_URL", &redis.url());
    let mut nodes = Vec::new();
    for _ in 0..N {
        nodes.push(Gateway::start(options.clone()).await?);
    }
    nodes.try_into().ok().context("as many as asked")
}

/// Without limits on polls.
pub fn unlimited() -> Options {
    Options::default().env("PARLANCE_NO_LIMITS", "true")
}
