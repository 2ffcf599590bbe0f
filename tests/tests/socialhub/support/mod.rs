//! A SocialHub client for tests: asks and awaits the answer, keeps everything else that arrives in order.
//!
//! Must not know: what is tested with it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, Options, SECRET, Ws};
use serde_json::{Value, json};

/// The type of the notification that marks the end of what a test looks at.
const FENCE: &str = "fence";

/// A node that keeps nothing over a restart: quicker, for tests that do not restart.
pub async fn gateway() -> Result<Gateway> {
    Gateway::start(Options::brief()).await
}

/// Creates a conversation through the server API.
pub async fn conversation(gateway: &Gateway, id: &str, members: &[&str]) -> Result<()> {
    gateway.conversation(id, members).await.map(drop)
}

/// Publishes a notification to one user and returns its id.
pub async fn notify(gateway: &Gateway, user: &str, kind: &str, payload: &Value) -> Result<String> {
    let body = json!({ "channel": "notifications", "user_id": user, "type": kind, "payload": payload });
    publish(gateway, &body).await
}

/// Publishes an event and returns its id.
pub async fn publish(gateway: &Gateway, body: &Value) -> Result<String> {
    let (status, answer) = gateway.api("POST", "/api/v1/publish", Some(body)).await?;
    ensure!(status == 201, "publishing {body}: {status} {answer}");
    Ok(answer["id"].as_str().context("no id")?.to_owned())
}

/// Waits until a user has so many connections.
pub async fn until_devices(gateway: &Gateway, user: &str, devices: u64) -> Result<()> {
    gateway.until_presence(user, "devices", devices).await
}

/// Waits until a user has this status.
pub async fn until_status(gateway: &Gateway, user: &str, status: &str) -> Result<()> {
    gateway.until_presence(user, "status", status).await
}

/// A token like no other, valid for an hour.
pub fn fresh_token(user: &str) -> Result<String> {
    static TOKENS: AtomicUsize = AtomicUsize::new(0);
    let number = TOKENS.fetch_add(1, Ordering::Relaxed);
    let exp = expiry(Duration::from_secs(3600));
    sign(&json!({ "user_id": user, "exp": exp, "jti": format!("token-{number}") }), SECRET)
}

/// One connection of a user.
pub struct Client {
    /// Whose.
    pub user: String,
    /// With which token.
    pub token: String,
    /// The socket below.
    pub ws: Ws,
    seen: VecDeque<Value>,
    asked: usize,
}

impl Client {
    /// Connects with a token of its own: a shared one would take up what another connection subscribed.
    pub async fn connect(gateway: &Gateway, user: &str) -> Result<Self> {
        Self::with_token(gateway, user, fresh_token(user)?).await
    }

    /// Connects with this token.
    pub async fn with_token(gateway: &Gateway, user: &str, token: String) -> Result<Self> {
        let ws = Ws::connect(&gateway.url(&format!("/ws?token={token}"))).await?;
        Ok(Self { user: user.to_owned(), token, ws, seen: VecDeque::new(), asked: 0 })
    }

    /// Connects and subscribes.
    pub async fn on(gateway: &Gateway, user: &str, channel: &str) -> Result<Self> {
        let mut client = Self::connect(gateway, user).await?;
        client.subscribe(channel).await?;
        Ok(client)
    }

    /// Another connection with the same token.
    pub async fn again(&self, gateway: &Gateway) -> Result<Self> {
        Self::with_token(gateway, &self.user, self.token.clone()).await
    }

    /// Sends a frame without asking for an answer.
    pub async fn tell(&mut self, kind: &str, payload: Value) -> Result<()> {
        self.ws.send(&json!({ "type": kind, "payload": payload })).await
    }

    /// Sends a frame with an `ack_id` and returns the payload of its `ack`.
    pub async fn ask(&mut self, mut frame: Value) -> Result<Value> {
        self.asked += 1;
        let id = format!("ask-{}", self.asked);
        frame["ack_id"] = json!(id);
        self.ws.send(&frame).await?;
        loop {
            let came = self.ws.next().await.with_context(|| format!("no ack of {frame}"))?;
            if came["type"] == "ack" && came["ack_id"] == id {
                ensure!(came["payload"]["ack_id"] == id, "two ack_ids: {came}");
                return Ok(came["payload"].clone());
            }
            self.seen.push_back(came);
        }
    }

    /// Asks, expects success, and returns `data`.
    pub async fn accepted(&mut self, frame: Value) -> Result<Value> {
        let ack = self.ask(frame).await?;
        ensure!(ack["status"] == "success" && ack["success"] == true, "refused: {ack}");
        ensure!(ack.get("error").is_none(), "an error beside success: {ack}");
        Ok(ack["data"].clone())
    }

    /// Asks, expects a refusal, and returns `error`.
    pub async fn refused(&mut self, frame: Value) -> Result<Value> {
        let ack = self.ask(frame).await?;
        ensure!(ack["status"] == "error" && ack["success"] == false, "accepted: {ack}");
        ensure!(ack.get("data").is_none(), "data beside an error: {ack}");
        Ok(ack["error"].clone())
    }

    /// Subscribes to a channel.
    pub async fn subscribe(&mut self, channel: &str) -> Result<()> {
        let data = self.accepted(json!({ "type": "subscribe", "payload": { "channel": channel } })).await?;
        ensure!(data["channel"] == channel, "{data}");
        Ok(())
    }

    /// The code with which a subscription is refused.
    pub async fn not_subscribed(&mut self, channel: &str) -> Result<String> {
        let error = self.refused(json!({ "type": "subscribe", "payload": { "channel": channel } })).await?;
        Ok(error["code"].as_str().context("no code")?.to_owned())
    }

    /// Sends a message and returns its id.
    pub async fn say(&mut self, conversation: &str, text: &str) -> Result<String> {
        let payload = json!({ "conversation_id": conversation, "content": text });
        let data = self.accepted(json!({ "type": "message", "payload": payload })).await?;
        Ok(data["message_id"].as_str().context("no message_id")?.to_owned())
    }

    /// Sets the connection's presence status.
    pub async fn be(&mut self, status: &str) -> Result<()> {
        self.accepted(json!({ "type": "presence", "payload": { "status": status } })).await.map(drop)
    }

    /// The next frame of a type; others are kept.
    pub async fn hear(&mut self, kind: &str) -> Result<Value> {
        if let Some(index) = self.seen.iter().position(|frame| frame["type"] == kind) {
            return self.seen.remove(index).context("gone");
        }
        loop {
            let seen = &self.seen;
            let came = self.ws.next().await.with_context(|| format!("waiting for {kind}, got {seen:?}"))?;
            if came["type"] == kind {
                return Ok(came);
            }
            self.seen.push_back(came);
        }
    }

    /// The next message and its text.
    pub async fn hear_text(&mut self) -> Result<String> {
        let frame = self.hear("message").await?;
        Ok(frame["payload"]["content"].as_str().context("no content")?.to_owned())
    }

    /// Everything that arrived and everything that was on its way: a notification is published to the user,
    /// and what comes before it returned. A node tells what it hears in order.
    pub async fn all_before_now(&mut self, gateway: &Gateway) -> Result<Vec<Value>> {
        let id = notify(gateway, &self.user, FENCE, &json!({})).await?;
        loop {
            let came = self.ws.next().await.with_context(|| format!("no fence, got {:?}", self.seen))?;
            if came["id"] == id {
                break;
            }
            self.seen.push_back(came);
        }
        // Those of this user's other connections.
        Ok(self.seen.drain(..).filter(|frame| frame["type"] != FENCE).collect())
    }

    /// Nothing at all arrived and nothing is on its way.
    pub async fn heard_nothing(&mut self, gateway: &Gateway) -> Result<()> {
        let frames = self.all_before_now(gateway).await?;
        ensure!(frames.is_empty(), "{} heard {frames:?}", self.user);
        Ok(())
    }
}
