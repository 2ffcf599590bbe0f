//! Clients with one purpose each, beside the load: resends on several nodes at once, and too much at once.
//!
//! Both speak Famly and know each node by its own address.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::actor::Phase;
use super::door::Targets;
use super::history::{Device, Recorder, What};
use crate::{IoClient, token};

/// The user whose messages are sent on all nodes at once.
pub const TWIN: &str = "twin";
/// The user who sends too much, and where.
pub const FLOOD: &str = "flood";
/// The conversation of [`FLOOD`].
pub const FLOODED: &str = "1999";
/// How many messages Famly takes within ten seconds.
pub const FLOOD_LIMIT: usize = 10;
/// In milliseconds.
pub const FLOOD_WINDOW: u64 = 10_000;

/// What a probe is given.
#[derive(Clone)]
pub struct Probe {
    /// The nodes.
    pub targets: Targets,
    /// Where it writes down.
    pub notes: Recorder,
    /// What everybody does.
    pub phase: watch::Receiver<Phase>,
}

impl Probe {
    async fn begin(&mut self, user: &str, conversation: &str) -> Result<()> {
        self.notes.note(What::Device(Device {
            user: user.to_owned(),
            dialect: "probe".to_owned(),
            conversations: vec![conversation.to_owned()],
        }));
        self.phase.wait_for(|phase| *phase != Phase::Enter).await?;
        Ok(())
    }

    fn is_on(&self) -> bool {
        *self.phase.borrow() == Phase::Load
    }

    /// Sends each message on every node at the same time, under one id of the client's.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn twins(mut self, conversation: String) -> Result<()> {
        self.begin(TWIN, &conversation).await?;
        let mut n = 0;
        while self.is_on() {
            n += 1;
            let body = format!("m~{conversation}~{TWIN}~{n}");
            let id = format!("twin-{n}");
            self.notes.note(What::Sent {
                conversation: conversation.clone(),
                body: body.clone(),
                client_id: id.clone(),
            });
            let all = self.targets.all();
            let sent = all.iter().map(|target| once(&target.address, TWIN, (&conversation, &body, &id)));
            for answer in futures_util::future::join_all(sent).await {
                match answer {
                    Ok(Ok(id)) => self.notes.note(What::Acked { body: body.clone(), id: Some(id) }),
                    Ok(Err(refusal)) => {
                        self.notes.note(What::Refused { code: "twin".to_owned(), message: refusal });
                    }
                    Err(error) => {
                        self.notes
                            .note(What::Refused { code: "twin".to_owned(), message: format!("{error:#}") });
                    }
                }
            }
            sleep(Duration::from_millis(1500)).await;
        }
        self.notes.finish()
    }

    /// Sends five times as much as is allowed, in turn on all nodes.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn flood(mut self) -> Result<()> {
        self.begin(FLOOD, FLOODED).await?;
        let mut n = 0_usize;
        while self.is_on() {
            let all = self.targets.all();
            if let Some(target) = all.get(n % all.len().max(1)) {
                n += 1;
                let (body, id) = (format!("m~{FLOODED}~{FLOOD}~{n}"), format!("flood-{n}"));
                match once(&target.address, FLOOD, (FLOODED, &body, &id)).await {
                    Ok(Ok(id)) => self.notes.note(What::Acked { body, id: Some(id) }),
                    Ok(Err(code)) => self.notes.note(What::Refused { code, message: body }),
                    Err(error) => {
                        let message = format!("{error:#}");
                        self.notes.note(What::Refused { code: "lost".to_owned(), message });
                    }
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
        self.notes.finish()
    }
}

/// Connects to a node, sends one message and leaves: the server's id, or the error code.
async fn once(
    address: &str,
    user: &str,
    (conversation, body, id): (&str, &str, &str),
) -> Result<Result<String, String>> {
    let sent = async {
        let auth = json!({ "token": token(user)? });
        let mut io = IoClient::connect(&format!("ws://{address}/socket.io/"), &auth).await?;
        let message = json!({ "chatId": conversation, "body": body, "clientId": id });
        let ack = io.ask("message:send", &[message]).await?;
        let ack = ack.into_iter().next().unwrap_or_default();
        // It leaves on purpose: whether the farewell arrives is of no interest.
        drop(io.close().await);
        if ack["ok"] == Value::Bool(true) {
            let id = ack["data"]["serverId"].as_str().context("no id")?;
            return Ok(Ok(id.to_owned()));
        }
        Ok(Err(ack["error"].as_str().unwrap_or("unknown").to_owned()))
    };
    timeout(Duration::from_secs(4), sent).await.context("no answer in time")?
}
