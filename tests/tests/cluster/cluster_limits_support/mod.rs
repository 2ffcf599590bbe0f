//! Three nodes on one Redis with the limits that are shipped, and a sender in each dialect that has one.
//!
//! Must not know: the gateway's code.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, IoClient, Options, PATIENCE, Ws, token};
use serde_json::{Value, json};

/// See the module.
pub struct Nodes {
    pub all: Vec<Gateway>,
    pub redis: Server,
}

impl Nodes {
    /// As they are shipped, but that all of a test's messages are kept.
    pub async fn start() -> Result<Self> {
        Self::with("").await
    }

    /// The same with further settings.
    pub async fn with(config: &str) -> Result<Self> {
        let redis = Server::standalone().await?;
        let options = Options::default().env("PARLANCE_REDIS_URL", &redis.url()).config(config);
        let options = options.env("PARLANCE_RETENTION_ENTRIES", "100000");
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(Gateway::start(options.clone()).await?);
        }
        Ok(Self { all, redis })
    }
}

/// A mount with a limit of its own.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    Famly,
    Lingochat,
    Sechat,
    Socialhub,
}

impl Way {
    /// How many in which time.
    pub const fn limit(self) -> (u32, Duration) {
        match self {
            Self::Famly => (10, Duration::from_secs(10)),
            Self::Lingochat => (10, Duration::from_secs(1)),
            Self::Sechat => (20, Duration::from_secs(1)),
            Self::Socialhub => (100, Duration::from_secs(1)),
        }
    }

    /// A connection that can send to the conversation `room`.
    pub async fn connect(self, node: &Gateway, user: &str) -> Result<Line> {
        let auth = json!({ "token": token(user)? });
        let wire = match self {
            Self::Famly => Wire::Io(IoClient::connect(&node.url("/socket.io/"), &auth).await?),
            Self::Lingochat => Wire::Io(IoClient::connect(&node.url("/lingochat/socket.io/"), &auth).await?),
            Self::Sechat => Wire::Raw(node.connect("/sechat", user).await?),
            Self::Socialhub => Wire::Raw(node.connect("/ws", user).await?),
        };
        Ok(Line { way: self, wire })
    }
}

enum Wire {
    Io(IoClient),
    Raw(Ws),
}

/// A connection.
pub struct Line {
    way: Way,
    wire: Wire,
}

impl Line {
    /// Sends a message under a client id; whether it was accepted.
    pub async fn send(&mut self, id: &str) -> Result<bool> {
        let answer = self.ask(id).await?;
        Ok(match self.way {
            Way::Famly => answer["ok"] == true,
            Way::Lingochat => answer["success"] == true,
            Way::Sechat => answer["type"] == "message:acked",
            Way::Socialhub => answer["payload"]["success"] == true,
        })
    }

    /// Sends a message under a client id; the answer.
    pub async fn ask(&mut self, id: &str) -> Result<Value> {
        match &mut self.wire {
            Wire::Io(io) => {
                let args = match self.way {
                    Way::Famly => vec![json!({ "chatId": "room", "body": id, "clientId": id })],
                    _ => vec![json!("room"), json!({ "text": id })],
                };
                let mut answer = io.ask("message:send", &args).await?;
                // What others sent meanwhile is of no interest.
                io.seen()?;
                answer.pop().context("an empty answer")
            }
            Wire::Raw(ws) if matches!(self.way, Way::Sechat) => {
                let message = json!({
                    "type": "message:send", "messageId": id, "conversationId": "room", "toUserIds": [], "body": id,
                });
                ws.send(&message).await?;
                loop {
                    let frame = ws.next().await?;
                    let of =
                        [&frame["messageId"], &frame["details"]["messageId"]].into_iter().any(|it| it == id);
                    if of && (frame["type"] == "message:acked" || frame["type"] == "error") {
                        return Ok(frame);
                    }
                }
            }
            Wire::Raw(ws) => {
                let payload = json!({ "conversation_id": "room", "content": id, "client_id": id });
                ws.send(&json!({ "type": "message", "payload": payload, "ack_id": id })).await?;
                loop {
                    let frame = ws.next().await?;
                    if frame["type"] == "ack" && frame["ack_id"] == id {
                        return Ok(frame);
                    }
                }
            }
        }
    }
}

/// A page of a conversation, asked for again while the node says that the call may be repeated: one that had
/// nothing to ask Redis for finds its way back later than the others.
async fn page(node: &Gateway, path: &str) -> Result<Value> {
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, page) = node.api("GET", path, None).await?;
        match status {
            200 => return Ok(page),
            503 => ensure!(Instant::now() < until, "{path}: {page}"),
            _ => bail!("{path}: {status} {page}"),
        }
    }
}

/// When each message of a conversation was appended, by the time of Redis, in milliseconds.
pub async fn appended(node: &Gateway, room: &str) -> Result<Vec<u64>> {
    let (mut times, mut bound) = (Vec::new(), "since=1970-01-01T00:00:00.000Z".to_owned());
    loop {
        let path = format!("/api/v1/conversations/{room}/messages?{bound}&limit=100");
        let page = page(node, &path).await?;
        let messages = page["messages"].as_array().with_context(|| format!("{page}"))?;
        for message in messages {
            times.push(millis(message["createdAt"].as_str().context("no time")?)?);
            bound = format!("after={}", message["id"].as_str().context("no id")?);
        }
        if messages.is_empty() {
            return Ok(times);
        }
    }
}

/// How many are in the fullest window.
pub fn fullest(times: &[u64], window: Duration) -> usize {
    let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    let count =
        |(at, first): (usize, &u64)| times[at..].iter().take_while(|time| **time < first + window).count();
    times.iter().enumerate().map(count).max().unwrap_or(0)
}

/// Milliseconds of an ISO 8601 time with them of a month.
fn millis(iso: &str) -> Result<u64> {
    let (date, time) = iso.trim_end_matches('Z').split_once('T').with_context(|| iso.to_owned())?;
    let day: u64 = date.rsplit_once('-').context("no day")?.1.parse()?;
    let parts: Vec<u64> = time.split([':', '.']).map(str::parse).collect::<Result<_, _>>()?;
    let [hours, minutes, seconds, millis] = parts[..] else { bail!("{iso}") };
    Ok((((day * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + millis)
}
