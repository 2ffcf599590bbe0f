//! A WebSocket over which CONNECT and everything else is spoken by hand: what a stock client never would.

use anyhow::{Context, Result, bail, ensure};
use parlance_tests::{Ws, token};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{App, Said, World, said};

/// A session as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub sid: String,
    pub pid: String,
}

pub struct Raw {
    ws: Ws,
}

/// What came before the answer to CONNECT, and the answer.
pub struct Back {
    pub raw: Raw,
    pub missed: Vec<Said>,
    pub session: Session,
}

impl Raw {
    /// An open Engine.IO session, in no namespace.
    pub async fn open(world: &World, app: App) -> Result<Self> {
        let url = world.gateway.url(&format!("{}?EIO=4&transport=websocket", app.path()));
        let mut raw = Self { ws: Ws::connect(&url).await? };
        let open = raw.packet().await?;
        ensure!(open.starts_with('0'), "{open}");
        Ok(raw)
    }

    pub async fn send(&mut self, packet: &str) -> Result<()> {
        self.ws.send_message(Message::text(packet)).await
    }

    /// The next packet but a ping, which is answered.
    pub async fn packet(&mut self) -> Result<String> {
        loop {
            let packet = self.ws.packet().await?;
            if packet != "2" {
                return Ok(packet);
            }
            self.send("3").await?;
        }
    }

    /// The next message, whatever else comes before it.
    pub async fn said(&mut self) -> Result<Said> {
        loop {
            let packet = self.packet().await?;
            if let Some(said) = message(&packet)? {
                return Ok(said);
            }
        }
    }

    /// Emits with an acknowledgement and waits for it; events that come before it are passed over.
    pub async fn ask(&mut self, event: &str, arg: Value) -> Result<Value> {
        self.send(&format!("427{}", json!([event, arg]))).await?;
        loop {
            if let Some(answer) = self.packet().await?.strip_prefix("437") {
                return Ok(serde_json::from_str(answer)?);
            }
        }
    }

    /// Waits for the end.
    pub async fn closed(&mut self) -> Result<Option<u16>> {
        self.ws.closed().await
    }

    /// Joins the namespace `/`.
    pub async fn connect(mut self, auth: &Value) -> Result<Back> {
        self.send(&format!("40{auth}")).await?;
        let mut missed = Vec::new();
        loop {
            let packet = self.packet().await?;
            if let Some(answer) = packet.strip_prefix("40") {
                let answer: Value = serde_json::from_str(answer)?;
                let id = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
                return Ok(Back { raw: self, missed, session: Session { sid: id("sid"), pid: id("pid") } });
            }
            ensure!(packet.starts_with("42"), "refused: {packet}");
            missed.extend(message(&packet)?);
        }
    }
}

impl Back {
    /// Whether the session from before goes on.
    pub fn recovers(&self, session: &Session) -> bool {
        self.session == *session
    }

    pub fn bodies(&self) -> Vec<&str> {
        self.missed.iter().map(|said| said.body.as_str()).collect()
    }
}

/// Connects as a user, asking for a session.
pub async fn come(world: &World, app: App, user: &str, session: (&str, Option<&str>)) -> Result<Back> {
    let mut auth = json!({ "token": token(user)?, "pid": session.0 });
    if let Some(offset) = session.1 {
        auth["offset"] = json!(offset);
    }
    Raw::open(world, app).await?.connect(&auth).await
}

/// Connects as a user with a fresh session.
pub async fn fresh(world: &World, app: App, user: &str) -> Result<Back> {
    let back = Raw::open(world, app).await?.connect(&json!({ "token": token(user)? })).await?;
    if back.session.pid.is_empty() { bail!("no private id") } else { Ok(back) }
}

fn message(packet: &str) -> Result<Option<Said>> {
    let Some(array) = packet.strip_prefix("42") else { return Ok(None) };
    let mut args: Vec<Value> = serde_json::from_str(array).with_context(|| packet.to_owned())?;
    let name = args.remove(0).as_str().context("no name")?.to_owned();
    Ok(said(&name, &args))
}
