//! The node all of this is tried on, and what it must be like afterwards.

use anyhow::{Context, Result, ensure};
use parlance_tests::hostile::{metric, quiet};
use parlance_tests::{API_KEY, Gateway, Options, Raw, Response, SECRET, token};
use serde_json::{Value, json};

use super::calls::{Call, Side, Who};

/// RFC 6455, section 1.3.
pub const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// All shipped addresses; whoever comes and says nothing leaves soon, so that a test sees the end of it.
const MOUNTS: &[(&str, &str, &str, &str)] = &[
    ("sechat", "/sechat", "sechat", "raw"),
    ("sechat-io", "/sechat/socket.io/", "sechat", "socketio"),
    ("lingochat", "/lingochat/socket.io/", "lingochat", "socketio"),
    ("famly", "/socket.io/", "famly", "socketio"),
    ("chatgenius", "/api/socket.io/", "chatgenius", "socketio"),
    ("socialhub", "/ws", "socialhub", "raw"),
];

/// What a test wants otherwise, as lines of TOML.
#[derive(Default)]
pub struct Setting {
    pub top: &'static str,
    pub limits: &'static str,
    pub mounts: &'static str,
}

impl Setting {
    pub fn text(&self) -> String {
        let Self { top, limits, mounts } = self;
        let shipped = MOUNTS.iter().map(|(name, path, dialect, framing)| {
            let size = if *framing == "raw" { 262_144 } else { 1_000_000 };
            format!(
                "[[mounts]]\nname = \"{name}\"\npath = \"{path}\"\ndialect = \"{dialect}\"\n\
                 framing = \"{framing}\"\nmax_frame_bytes = {size}\nconnect_timeout_ms = 1000\n"
            )
        });
        let shipped: String = shipped.collect();
        format!("{top}\n[limits]\nunauthenticated_ms = 1000\n{limits}\n{shipped}{mounts}")
    }
}

/// A node and a user.
pub struct Stage {
    pub gateway: Gateway,
    alice: String,
}

impl Stage {
    /// A node without rate limits.
    pub async fn plain() -> Result<Self> {
        Self::start(&Setting::default()).await
    }

    /// The same with other settings.
    pub async fn start(setting: &Setting) -> Result<Self> {
        let options = Options::brief().env("PARLANCE_NO_LIMITS", "true").config(&setting.text());
        Self::of(Gateway::start(options).await?).await
    }

    /// The same of a node that runs.
    pub async fn of(gateway: Gateway) -> Result<Self> {
        for (id, members) in [("c1", ["alice", "bob"]), ("c2", ["bob", "carol"])] {
            let call = json!({ "id": id, "type": "group", "members": members });
            let (status, answer) = gateway.api("POST", "/api/v1/conversations", Some(&call)).await?;
            ensure!(status == 201, "{answer}");
        }
        Ok(Self { gateway, alice: token("alice")? })
    }

    pub fn address(&self, side: Side) -> &str {
        match side {
            Side::Public => self.gateway.address(),
            Side::Internal => self.gateway.internal_address(),
        }
    }

    pub async fn raw(&self, side: Side) -> Result<Raw> {
        Raw::connect(self.address(side)).await
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, side: Side, bytes: impl AsRef<[u8]>) -> Result<Response> {
        self.raw(side).await?.ask(bytes).await
    }

    /// The headers by which somebody is known.
    pub fn credentials(&self, who: Who) -> String {
        match who {
            Who::Anybody => String::new(),
            Who::Alice => format!("Authorization: Bearer {}\r\n", self.alice),
            Who::Backend => format!("Authorization: Bearer {API_KEY}\r\n"),
        }
    }

    /// A call's head without what concerns its body; `more` are further header lines.
    pub fn head(&self, call: &Call, more: &str) -> String {
        let upgrade = if call.socket { UPGRADE } else { "" };
        let Call { method, target, who, .. } = call;
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{}{upgrade}{more}\r\n", self.credentials(*who))
    }

    /// A whole call.
    pub fn whole(&self, call: &Call) -> String {
        match call.body {
            Some(body) => self.with_body(call, body),
            None => self.head(call, ""),
        }
    }

    /// A call with another body.
    pub fn with_body(&self, call: &Call, body: &str) -> String {
        let about = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        self.head(call, &about) + body
    }

    /// The sum of a metric over its labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        metric(&self.gateway, name).await
    }

    /// Waits until nobody is connected any more, and makes sure that nothing was stored, nothing broke, and the node
    /// serves as before.
    pub async fn left_as_before(self) -> Result<()> {
        self.is_quiet().await?;
        ensure!(self.metric("parlance_messages_accepted_total").await? == 0.0, "a message was stored");
        let (status, page) =
            self.gateway.api("GET", "/api/v1/conversations/c1/messages?limit=100", None).await?;
        ensure!(status == 200 && page["messages"] == json!([]), "{page}");
        for call in super::calls::CALLS {
            let answer = self.ask(call.side, self.whole(call)).await.with_context(|| format!("{call:?}"))?;
            ensure!(answer.status == call.status, "{call:?} afterwards: {answer:?}");
        }
        self.said_nothing_wrong()
    }

    /// Waits until nobody is connected any more.
    pub async fn is_quiet(&self) -> Result<()> {
        quiet(&self.gateway).await
    }

    /// No panic, no secret in the log.
    pub fn said_nothing_wrong(&self) -> Result<()> {
        let log = self.gateway.log();
        for word in ["panicked", SECRET, API_KEY, self.alice.as_str()] {
            ensure!(!log.contains(word), "{word:?} in the log:\n{log}");
        }
        Ok(())
    }
}

/// Makes sure of an answer's status, and that its body is JSON if there is one.
pub fn expect(answer: &Response, status: u16) -> Result<Value> {
    ensure!(answer.status == status, "{status} expected, got {answer:?}");
    answer.json()
}
