//! Two people who talk, and how long each word takes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{Gateway, PATIENCE, Ws};

/// Between two words: less than the shipped limit allows.
const PACE: Duration = Duration::from_millis(80);
const CONVERSATION: &str = "honest";

/// How long sends took until they were acknowledged.
#[derive(Debug, Clone, Default)]
pub struct Talk(Vec<Duration>);

impl Talk {
    /// How many were acknowledged: all of them.
    pub const fn acked(&self) -> usize {
        self.0.len()
    }

    /// What this share of them took at the most.
    pub fn at(&self, share: f64) -> Duration {
        let mut all = self.0.clone();
        all.sort_unstable();
        let place = (all.len() as f64 * share).ceil() as usize;
        all.get(place.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [0.5, 0.99, 1.0].map(|share| self.at(share));
        write!(f, "{} sends, p50 {half:.1?}, p99 {most:.1?}, longest {all:.1?}", self.acked())
    }
}

/// Alice, who talks, and Bob, who listens.
pub struct Pair {
    alice: Ws,
    bob: Ws,
    said: usize,
    /// How often each was heard.
    heard: BTreeMap<String, usize>,
}

impl Pair {
    pub async fn meet(gateway: &Gateway) -> Result<Self> {
        let call = json!({ "id": CONVERSATION, "type": "dm", "members": ["alice", "bob"] });
        let (status, answer) = gateway.api("POST", "/api/v1/conversations", Some(&call)).await?;
        ensure!(status == 201, "{answer}");
        let (alice, bob) =
            tokio::try_join!(gateway.connect("/sechat", "alice"), gateway.connect("/sechat", "bob"))?;
        Ok(Self { alice, bob, said: 0, heard: BTreeMap::new() })
    }

    /// Talks for so long.
    pub async fn talk(&mut self, span: Duration) -> Result<Talk> {
        let mut talk = Talk::default();
        let begun = Instant::now();
        loop {
            let id = format!("m{}", self.said);
            let message = json!({
                "type": "message:send", "messageId": id, "conversationId": CONVERSATION,
                "toUserIds": ["bob"], "body": id, "timestamp": "2026-01-31T12:00:00Z",
            });
            let asked = Instant::now();
            self.alice.send(&message).await?;
            let ack = self.alice.expect("message:acked").await?;
            ensure!(ack["messageId"] == id.as_str(), "another message was acknowledged: {ack}");
            talk.0.push(asked.elapsed());
            self.said += 1;
            self.hear(self.said).await?;
            if begun.elapsed() >= span {
                break;
            }
            // Not sooner after a late one: that would be too many at once.
            sleep(PACE).await;
        }
        Ok(talk)
    }

    /// Waits until Bob has heard so many.
    async fn hear(&mut self, count: usize) -> Result<()> {
        while self.heard.len() < count {
            let frame = self.bob.expect("message:received").await.context("bob")?;
            let body = frame["body"].as_str().context("no body")?.to_owned();
            *self.heard.entry(body).or_default() += 1;
        }
        Ok(())
    }

    /// Compares what was said, heard and kept; what differs is told. Then both leave.
    pub async fn part(mut self, gateway: &Gateway) -> Result<Vec<String>> {
        let mut broken = Vec::new();
        // A word that is told twice comes behind the others.
        while let Ok(frame) = timeout(Duration::from_millis(500), self.bob.expect("message:received")).await {
            let body = frame?["body"].as_str().unwrap_or_default().to_owned();
            *self.heard.entry(body).or_default() += 1;
        }
        let said: Vec<String> = (0..self.said).map(|n| format!("m{n}")).collect();
        let once = said.iter().all(|body| self.heard.get(body) == Some(&1));
        if !once || self.heard.len() != said.len() {
            broken.push(format!("{} were said, heard was {:?}", said.len(), self.heard));
        }
        let kept = timeout(PATIENCE * 3, kept(gateway)).await.context("no history")??;
        if kept != said {
            broken.push(format!("{} were said, {} are kept, or in another order", said.len(), kept.len()));
        }
        self.alice.close(1000).await?;
        self.bob.close(1000).await?;
        Ok(broken)
    }
}

/// The texts in the log, in its order.
async fn kept(gateway: &Gateway) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    // From the beginning: without a place to begin it would be the newest.
    let mut after = "&since=2020-01-01T00:00:00Z".to_owned();
    loop {
        let path = format!("/api/v1/conversations/{CONVERSATION}/messages?limit=100{after}");
        let (status, page) = gateway.api("GET", &path, None).await?;
        ensure!(status == 200, "{page}");
        let messages = page["messages"].as_array().context("no messages")?;
        let bodies = messages.iter().filter_map(|message| message["body"].as_str().map(str::to_owned));
        all.extend(bodies);
        let last = messages.last().and_then(|message| message["id"].as_str());
        match last.filter(|_| page["has_more"] == true) {
            Some(id) => after = format!("&after={id}"),
            None => return Ok(all),
        }
    }
}
