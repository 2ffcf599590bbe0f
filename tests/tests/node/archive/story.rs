//! A conversation that is longer than what the engine keeps of it, and what history said of each message while it was kept.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use parlance_tests::{API_KEY, Gateway, IoClient, Options, Postgres, token};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::kept_in;

pub const MESSAGES: usize = 300;
/// Entries that the engine keeps.
const KEPT: &str = "50";
const PATH: &str = "/api/v1/conversations/room/messages";

/// A node that keeps little, and the rest in PostgreSQL.
pub fn short(postgres: &Postgres, more: &str) -> Options {
    kept_in(postgres, more).env("PARLANCE_RETENTION_ENTRIES", KEPT).env("PARLANCE_NO_LIMITS", "true")
}

/// A page, each message byte for byte.
#[derive(Debug, Deserialize)]
pub struct Page {
    pub messages: Vec<Box<RawValue>>,
    pub has_more: bool,
    pub truncated: bool,
    #[serde(rename = "firstSequence")]
    pub first: u64,
}

impl Page {
    pub fn texts(&self) -> Vec<String> {
        self.messages.iter().map(|one| one.get().to_owned()).collect()
    }

    pub fn bodies(&self) -> Result<Vec<String>> {
        self.messages.iter().map(|one| text(one.get(), "body")).collect()
    }

    fn end(&self, last: bool) -> Result<Option<String>> {
        let one = if last { self.messages.last() } else { self.messages.first() };
        one.map(|one| text(one.get(), "id")).transpose()
    }
}

fn text(message: &str, field: &str) -> Result<String> {
    let message: Value = serde_json::from_str(message)?;
    Ok(message[field].as_str().with_context(|| format!("no {field}: {message}"))?.to_owned())
}

/// Who reads.
#[derive(Debug, Clone, Copy)]
pub enum Reader {
    /// A member, on the public listener.
    Member,
    /// A member, in a dialect's words.
    In(&'static str),
    /// The backend, over the server API.
    Backend,
}

impl Reader {
    pub async fn ask(self, gateway: &Gateway, query: &str) -> Result<(u16, String)> {
        let answer = match self {
            Self::Member => gateway.public("GET", &format!("{PATH}?{query}"), Some(&token("carol")?)).await?,
            Self::In(dialect) => {
                let path = format!("{PATH}?dialect={dialect}&{query}");
                gateway.public("GET", &path, Some(&token("carol")?)).await?
            }
            Self::Backend => gateway.internal("GET", &format!("{PATH}?{query}"), Some(API_KEY), None).await?,
        };
        Ok((answer.status, answer.body))
    }

    pub async fn page(self, gateway: &Gateway, query: &str) -> Result<Page> {
        let (status, body) = self.ask(gateway, query).await?;
        ensure!(status == 200, "{query}: {status} {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// All messages, page by page, from the newest back.
    pub async fn back(self, gateway: &Gateway, limit: usize) -> Result<Vec<String>> {
        let (mut all, mut query) = (Vec::new(), format!("limit={limit}"));
        loop {
            let page = self.page(gateway, &query).await?;
            ensure!(!page.truncated, "{query}: {page:?}");
            ensure!(page.messages.len() == limit || !page.has_more, "{query}: short, and yet not the end");
            all.splice(0..0, page.texts());
            // A dialect's words name messages in their own way.
            let Some(first) = Self::Member.page(gateway, &query).await?.end(false)?.filter(|_| page.has_more)
            else {
                return Ok(all);
            };
            query = format!("limit={limit}&before={first}");
        }
    }

    /// All messages, page by page, from a time on.
    pub async fn on(self, gateway: &Gateway, limit: usize) -> Result<Vec<String>> {
        let (mut all, mut query) = (Vec::new(), format!("limit={limit}&since=2001-01-01"));
        query.push_str("T00:00:00Z");
        loop {
            let page = self.page(gateway, &query).await?;
            ensure!(!page.truncated, "{query}: {page:?}");
            ensure!(page.messages.len() == limit || !page.has_more, "{query}: short, and yet not the end");
            all.extend(page.texts());
            let Some(last) = Self::Member.page(gateway, &query).await?.end(true)?.filter(|_| page.has_more)
            else {
                return Ok(all);
            };
            query = format!("limit={limit}&after={last}");
        }
    }
}

/// What was said, and what readers were shown of it while the engine had it.
pub struct Story {
    told: BTreeMap<(&'static str, u64), String>,
    pub ids: Vec<String>,
}

impl Story {
    pub fn as_told(&self, reader: Reader) -> Vec<String> {
        let all = self.told.iter().filter(|((name, _), _)| *name == label(reader));
        all.map(|(_, message)| message.clone()).collect()
    }
}

const fn label(reader: Reader) -> &'static str {
    match reader {
        Reader::Member => "",
        Reader::In(dialect) => dialect,
        Reader::Backend => "backend",
    }
}

pub const READERS: [Reader; 5] = [
    Reader::Member,
    Reader::Backend,
    Reader::In("sechat"),
    Reader::In("lingochat"),
    Reader::In("chatgenius"),
];

fn said(n: usize) -> Value {
    let sender = if n.is_multiple_of(2) { "alice" } else { "carol" };
    let mut message = json!({ "senderId": sender, "body": body(n) });
    if n.is_multiple_of(3) {
        message["clientId"] = json!(format!("c-{n}"));
    }
    if n.is_multiple_of(10) {
        message["metadata"] = json!({ "n": n, "odd": "tab\t, \u{0}, \\N and é" });
    }
    message
}

pub fn body(n: usize) -> String {
    if n.is_multiple_of(25) { format!("nul \u{0}\t\\ {n}") } else { format!("m-{n} \u{1f389}") }
}

/// A node that keeps all of it, and no archive.
pub fn long() -> Options {
    Options::default().env("PARLANCE_LIMITS_RATES", "false").env("PARLANCE_NO_LIMITS", "true")
}

/// Three hundred messages with whatever else happens in a conversation.
pub async fn happens(gateway: &Gateway) -> Result<Story> {
    let auth = json!({ "token": format!("Bearer {}", token("bob")?), "userId": "bob" });
    let mut bob = IoClient::connect(&gateway.url("/api/socket.io/"), &auth).await?;
    bob.expect("connection:success").await?;
    let mut story = Story { told: BTreeMap::new(), ids: Vec::new() };
    for n in 0..MESSAGES {
        let sent = gateway.call("POST", PATH, Some(&said(n))).await?;
        let id = sent["id"].as_str().with_context(|| format!("no id: {sent}"))?.to_owned();
        if n.is_multiple_of(7) {
            for (what, kind) in [("add", "👍"), ("add", "🎉"), ("remove", "👍")] {
                let reaction = json!({ "messageId": id, "type": kind });
                let answer = bob.ask(&format!("reaction:{what}"), &[reaction]).await?;
                ensure!(answer[0]["success"] == true, "{answer:?}");
            }
        }
        story.ids.push(id);
        let change = match n {
            _ if n % 40 == 10 => json!({ "addMembers": ["zoe"] }),
            _ if n % 40 == 30 => json!({ "removeMembers": ["zoe"] }),
            150 => json!({ "title": "the middle" }),
            _ => Value::Null,
        };
        if !change.is_null() {
            gateway.call("PATCH", "/api/v1/conversations/room", Some(&change)).await?;
        }
        if n % 10 == 9 {
            story.note(gateway).await?;
        }
    }
    Ok(story)
}

impl Story {
    /// Some more messages.
    pub async fn goes_on(&mut self, gateway: &Gateway, messages: usize) -> Result<()> {
        for n in self.ids.len()..self.ids.len() + messages {
            let sent = gateway.call("POST", PATH, Some(&said(n))).await?;
            self.ids.push(sent["id"].as_str().with_context(|| format!("no id: {sent}"))?.to_owned());
            if n % 10 == 9 {
                self.note(gateway).await?;
            }
        }
        self.note(gateway).await
    }

    /// What is kept now.
    async fn note(&mut self, gateway: &Gateway) -> Result<()> {
        for reader in READERS {
            let own = Reader::Member.page(gateway, "limit=25").await?;
            let page = reader.page(gateway, "limit=25").await?;
            ensure!(page.messages.len() == own.messages.len());
            for (one, known) in page.texts().into_iter().zip(own.texts()) {
                let known: Value = serde_json::from_str(&known)?;
                let seq = known["seq"].as_u64().with_context(|| format!("no seq: {known}"))?;
                self.told.insert((label(reader), seq), one);
            }
        }
        Ok(())
    }
}

/// Waits until all of it is archived.
pub async fn is_archived(postgres: &Postgres, messages: usize) -> Result<()> {
    let count = i64::try_from(messages)?;
    postgres.until("SELECT count(*) FROM parlance.messages WHERE conversation = 'room'", count).await?;
    let dense = "SELECT (SELECT max(seq) FROM both_of_them) - (SELECT count(*) FROM both_of_them)";
    let both = "WITH both_of_them AS (SELECT seq FROM parlance.messages WHERE conversation = 'room'
        UNION ALL SELECT seq FROM parlance.entries WHERE conversation = 'room')";
    postgres.until(&format!("{both} {dense}"), 0).await
}
