//! What nodes write to and tell: a PostgreSQL that keeps the archive, and a backend that fails half of the time.
//!
//! Owns: both, and what they have at the end. Must not know: verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::catchup::Item;
use crate::Postgres;
use crate::asked::{Backend, http};

/// How long what is under way may take at the end: what a killed node had taken is another one's after a while.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "the-secret-of-the-webhooks-of-32-bytes";

/// A message in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its place in the log.
    pub seq: u64,
    /// Who wrote it.
    pub sender: String,
    /// Its author's client's id.
    pub client_id: Option<String>,
    /// The text.
    pub body: String,
}

/// A message that the backend was told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The event's id.
    pub event: String,
    /// The text.
    pub body: String,
}

/// What they have at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// By conversation, in the order of their places.
    pub archived: BTreeMap<String, Vec<Row>>,
    /// Messages whose place another one took.
    pub superseded: u64,
    /// By conversation, as they came the first time.
    pub told: BTreeMap<String, Vec<Told>>,
    /// Events that came once more.
    pub repeats: u64,
}

/// What the backend was told.
struct Heard {
    is_up: bool,
    dice: StdRng,
    events: BTreeSet<String>,
    told: BTreeMap<String, Vec<Told>>,
    repeats: u64,
}

impl Heard {
    /// Takes a call, or does not.
    fn hear(&mut self, call: &Value) -> Option<String> {
        if !self.is_up || self.dice.random_bool(0.5) {
            return http(503, "{}");
        }
        for event in call["events"].as_array().into_iter().flatten() {
            let id = event["id"].as_str().unwrap_or_default();
            if !self.events.insert(id.to_owned()) {
                self.repeats += 1;
            } else if event["type"] == "message.accepted" {
                let text = |name: &str| event["data"][name].as_str().unwrap_or_default().to_owned();
                let told = Told { event: id.to_owned(), body: text("body") };
                self.told.entry(text("conversationId")).or_default().push(told);
            }
        }
        http(200, "{}")
    }
}

/// See the module.
pub struct Outside {
    postgres: Postgres,
    backend: Backend,
    heard: Arc<Mutex<Heard>>,
}

impl Outside {
    /// Starts both.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(seed: u64) -> Result<Self> {
        let heard = Arc::new(Mutex::new(Heard {
            is_up: true,
            dice: StdRng::seed_from_u64(seed),
            events: BTreeSet::new(),
            told: BTreeMap::new(),
            repeats: 0,
        }));
        let hearing = Arc::clone(&heard);
        let backend = Backend::start(move |call| lock(&hearing).hear(call)).await?;
        Ok(Self { postgres: Postgres::start().await.context("PostgreSQL")?, backend, heard })
    }

    /// What nodes are configured with.
    pub fn config(&self) -> String {
        let (archive, backend) = (self.postgres.url(), self.backend.url());
        format!(
            "[archive]\nurl = \"{archive}\"\n[webhooks]\nurl = \"{backend}\"\nsecret = \"{SECRET}\"\nbackoff_ms = 50\nbackoff_max_ms = 1000\n"
        )
    }

    /// Kills PostgreSQL, and has the backend take nothing.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn kill9(&mut self) -> Result<()> {
        lock(&self.heard).is_up = false;
        self.postgres.kill9()
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When PostgreSQL does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.postgres.restart().await?;
        lock(&self.heard).is_up = true;
        Ok(())
    }

    /// What they have as soon as that is everything in the logs, or when it has not come for long.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn seen(&self, logs: &BTreeMap<String, Vec<Item>>) -> Result<Seen> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.look().await?;
            if logs.iter().all(|(id, items)| seen.has(id, items)) || Instant::now() > deadline {
                return Ok(seen);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn look(&self) -> Result<Seen> {
        const ROWS: &str = "SELECT conversation, seq, sender, client_id, body FROM parlance.messages ORDER BY conversation, seq";
        let mut seen = Seen::default();
        for row in self.postgres.rows(ROWS).await? {
            let [conversation, seq, sender, client_id, body] =
                <[String; 5]>::try_from(row).ok().context("five columns")?;
            let client_id = Some(client_id).filter(|id| id != "-");
            let row = Row { seq: seq.parse()?, sender, client_id, body };
            seen.archived.entry(conversation).or_default().push(row);
        }
        let superseded = self.postgres.number("SELECT count(*) FROM parlance.superseded_messages").await?;
        seen.superseded = superseded.try_into()?;
        let heard = lock(&self.heard);
        (seen.told, seen.repeats) = (heard.told.clone(), heard.repeats);
        Ok(seen)
    }
}

impl Seen {
    fn has(&self, conversation: &str, items: &[Item]) -> bool {
        let count = |found: Option<usize>| found.unwrap_or(0) >= items.len();
        count(self.archived.get(conversation).map(Vec::len))
            && count(self.told.get(conversation).map(Vec::len))
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
