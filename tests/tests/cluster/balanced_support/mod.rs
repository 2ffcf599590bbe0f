//! What the tests behind a balancer share: three nodes on one Redis, and how each Socket.IO dialect talks.
//!
//! Must not know: the gateway's code.

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::stock::Report;
use parlance_tests::{Balancer, ConnectOptions, Gateway, Options, Stock, StockSocket, Transports, token};
use serde_json::{Value, json};

/// Nodes that share a Redis, behind a balancer without stickiness.
pub struct Cluster {
    pub nodes: Vec<Gateway>,
    pub balancer: Balancer,
    pub stock: Stock,
    _redis: Server,
}

impl Cluster {
    /// Three nodes as they are shipped, without rate limits.
    pub async fn start() -> Result<Self> {
        let redis = Server::standalone().await?;
        let options = Options::default().env("PARLANCE_REDIS_URL", &redis.url());
        let options = options.env("PARLANCE_NO_LIMITS", "true");
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(Gateway::start(options.clone()).await?);
        }
        let balancer = Balancer::start(nodes.iter().map(Gateway::address)).await?;
        Ok(Self { nodes, balancer, stock: Stock::start()?, _redis: redis })
    }

    /// A client's socket, in its room.
    pub async fn enter(&self, client: &Client) -> Result<StockSocket> {
        let socket = self.stock.connect(self.balancer.address(), client.options()?)?;
        ensure!(!socket.expect_connect().await?.recovered, "a fresh session");
        if client.transports == Transports::Upgrade {
            ensure!(socket.expect_upgrade().await? == "websocket");
        }
        client.settle(&socket).await.with_context(|| format!("{client:?}"))?;
        Ok(socket)
    }

    /// A conversation of these clients, made over the server API of the last node.
    pub async fn room(&self, room: &str, members: &[&str]) -> Result<()> {
        let node = self.nodes.last().context("no node")?;
        node.conversation(room, members).await.map(drop)
    }

    /// Lets carol say something over the server API of the last node.
    pub async fn say(&self, room: &str, body: &str) -> Result<()> {
        let message = json!({ "senderId": "carol", "body": body });
        let path = format!("/api/v1/conversations/{room}/messages");
        self.nodes.last().context("no node")?.call("POST", &path, Some(&message)).await.map(drop)
    }

    /// A client's requests around those that were refused, for a failure to show.
    pub fn trouble(&self, client: &Client) -> String {
        let mine = format!("who={}", client.user);
        let turns: Vec<_> =
            self.balancer.turns().into_iter().filter(|turn| turn.request.contains(&mine)).collect();
        let bad = |at: usize| turns.iter().skip(at.saturating_sub(3)).take(6).any(|turn| turn.status >= 400);
        let around = turns.iter().enumerate().filter(|(at, _)| bad(*at)).map(|(_, turn)| turn);
        let shown: Vec<String> =
            around.map(|turn| format!("{} {} at {}", turn.status, turn.request, turn.node)).collect();
        shown.join("\n")
    }

    /// The address of the node that owns a client's newest session: it answered its last handshake.
    pub fn owner(&self, client: &Client) -> Option<String> {
        let mine = format!("who={}", client.user);
        let turns = self.balancer.turns();
        let begins = |request: &str| request.contains(&mine) && !request.contains("sid=");
        turns.into_iter().rev().find(|turn| turn.status == 200 && begins(&turn.request)).map(|turn| turn.node)
    }
}

/// A dialect over Socket.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    Famly,
    Lingochat,
    Chatgenius,
    Sechat,
}

impl Talk {
    pub const ALL: [Self; 4] = [Self::Famly, Self::Lingochat, Self::Chatgenius, Self::Sechat];

    const fn path(self) -> &'static str {
        match self {
            Self::Famly => "/socket.io/",
            Self::Lingochat => "/lingochat/socket.io/",
            Self::Chatgenius => "/api/socket.io/",
            Self::Sechat => "/sechat/socket.io/",
        }
    }

    /// The text of a message that this event tells of.
    pub fn body(self, report: &Report) -> Option<&str> {
        let Report::Event(event) = report else { return None };
        let said = event.args.first()?;
        match (self, event.name.as_str()) {
            (Self::Famly, "message:new") | (Self::Sechat, "message:received") => said["body"].as_str(),
            (Self::Lingochat, "message:new") => said["text"].as_str(),
            (Self::Chatgenius, "message:created") => said["message"]["content"].as_str(),
            _ => None,
        }
    }
}

/// Somebody in a room of their own.
#[derive(Debug, Clone)]
pub struct Client {
    pub talk: Talk,
    pub transports: Transports,
    pub user: String,
    pub room: String,
}

impl Client {
    pub fn options(&self) -> Result<ConnectOptions> {
        let token = token(&self.user)?;
        let auth = match self.talk {
            Talk::Chatgenius => json!({ "token": format!("Bearer {token}"), "userId": self.user }),
            _ => json!({ "token": token }),
        };
        let options = ConnectOptions::new(self.transports).path(self.talk.path());
        Ok(options.auth(auth).query("who", &self.user))
    }

    /// Does what the application's client does after it is connected.
    pub async fn settle(&self, socket: &StockSocket) -> Result<()> {
        match self.talk {
            Talk::Famly => self.join(socket, "room:join", json!({ "chatId": self.room })).await,
            Talk::Lingochat => self.join(socket, "conversation:join", json!(self.room)).await,
            Talk::Chatgenius => socket.expect("connection:success").await.map(drop),
            Talk::Sechat => {
                let registration = json!({ "sessionId": self.user, "token": token(&self.user)? });
                socket.emit("register_session", &[registration])?;
                socket.expect("session_registered").await.map(drop)
            }
        }
    }

    async fn join(&self, socket: &StockSocket, event: &str, room: Value) -> Result<()> {
        let answer = socket.emit_ack(event, &[room]).await?;
        ensure!(answer[0]["ok"] == true || answer[0]["success"] == true, "{answer:?}");
        Ok(())
    }

    /// Sends a message; its acknowledgement is waited for under the number returned.
    pub fn send(&self, socket: &StockSocket, body: &str) -> Result<u64> {
        let args = match self.talk {
            Talk::Famly => vec![json!({ "chatId": self.room, "body": body, "clientId": body })],
            Talk::Lingochat => vec![json!(self.room), json!({ "text": body })],
            Talk::Chatgenius => vec![json!({ "channelId": self.room, "content": body })],
            Talk::Sechat => vec![json!({
                "messageId": body, "conversationId": self.room, "fromUserId": self.user, "body": body,
            })],
        };
        socket.emit_tagged("message:send", &args)
    }
}

/// So many numbered bodies.
pub fn numbered(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{what}-{n:03}")).collect()
}
