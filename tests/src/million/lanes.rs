//! Who sends: each waits for the acknowledgement of one message before the next, says again what was not acknowledged, at
//! either node, and now and then what was.
//!
//! Must not know: what is done to the servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Plan;
use super::check::{body, client_id, conversation, user};
use crate::{API_KEY, Gateway};

/// What is not answered by then is sent again.
const ANSWER: Duration = Duration::from_secs(5);
/// Before it is.
const PAUSE: Duration = Duration::from_millis(50);
/// A message that nobody takes for so long.
const HOPELESS: Duration = Duration::from_secs(120);
/// Each of so many is sent again though it was acknowledged.
const REPEATED: u64 = 50;

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    repeated: AtomicU64,
    failed: AtomicU64,
    /// Not more are sent before something is done.
    limit: AtomicU64,
}

/// All senders.
pub struct Lanes {
    tasks: JoinSet<Result<()>>,
    counts: Arc<Counts>,
    all: u64,
}

impl Lanes {
    /// Makes the conversations, and begins.
    pub async fn begin(plan: &Plan, nodes: [String; 2], node: &Gateway) -> Result<Self> {
        let counts = Arc::<Counts>::default();
        let lanes = plan.conversations * plan.senders;
        let each = plan.messages.div_ceil(lanes as u64);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut tasks = JoinSet::new();
        for number in 0..plan.conversations {
            let members: Vec<String> = (0..plan.senders).map(user).collect();
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            node.conversation(&conversation(number), &members).await?;
            for sender in 0..plan.senders {
                let nodes = if (number + sender) % 2 == 0 {
                    nodes.clone()
                } else {
                    [nodes[1].clone(), nodes[0].clone()]
                };
                let lane = Lane { client: client.clone(), nodes, number, sender, counts: counts.clone() };
                tasks.spawn(lane.send(each));
            }
        }
        Ok(Self { tasks, counts, all: each * lanes as u64 })
    }

    /// Whether all have sent what they were to.
    pub async fn are_done(&mut self) -> Result<bool> {
        while let Some(ended) = self.tasks.try_join_next() {
            ended??;
        }
        Ok(self.tasks.is_empty())
    }

    /// Not more than so many, about, are sent from now on.
    pub fn hold_at(&self, limit: u64) {
        self.counts.limit.store(limit, Ordering::Relaxed);
    }

    /// How many are to be sent.
    pub const fn all(&self) -> u64 {
        self.all
    }

    /// How many were acknowledged.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::Relaxed)
    }

    /// How many of them were sent again.
    pub fn repeated(&self) -> u64 {
        self.counts.repeated.load(Ordering::Relaxed)
    }

    /// How many calls were made again.
    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }
}

/// A sender in a conversation.
struct Lane {
    client: Client<HttpConnector, Full<Bytes>>,
    /// The one that it likes first.
    nodes: [String; 2],
    number: usize,
    sender: usize,
    counts: Arc<Counts>,
}

impl Lane {
    async fn send(self, messages: u64) -> Result<()> {
        for n in 0..messages {
            while self.counts.sent.load(Ordering::Relaxed) >= self.counts.limit.load(Ordering::Relaxed) {
                sleep(PAUSE).await;
            }
            let seq = self.until_taken(n).await?["seq"].as_u64();
            self.counts.sent.fetch_add(1, Ordering::Relaxed);
            if n % REPEATED == 0 {
                let again = self.until_taken(n).await?;
                ensure!(
                    again["duplicate"] == true && again["seq"].as_u64() == seq,
                    "it was taken twice: {again}"
                );
                self.counts.repeated.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn until_taken(&self, n: u64) -> Result<Value> {
        let end = Instant::now() + HOPELESS;
        for node in self.nodes.iter().cycle() {
            let why = match timeout(ANSWER, self.say(node, n)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(why)) => why,
                Err(late) => late.into(),
            };
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            ensure!(Instant::now() < end, "nobody takes it: {why:#}");
            sleep(PAUSE).await;
        }
        bail!("there is no node")
    }

    async fn say(&self, node: &str, n: u64) -> Result<Value> {
        let id = client_id(self.number, self.sender, n);
        let message = json!({ "senderId": user(self.sender), "body": body(&id), "clientId": id });
        let request = Request::post(format!(
            "http://{node}/api/v1/conversations/{}/messages",
            conversation(self.number)
        ))
        .header(header::AUTHORIZATION, format!("Bearer {API_KEY}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(message.to_string()))?;
        let answer = self.client.request(request).await?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).context("an answer that is no JSON")
    }
}
