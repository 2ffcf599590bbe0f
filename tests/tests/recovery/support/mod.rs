//! What the tests of state recovery share: a node, stock sockets in three dialects, sessions by hand, what was said.
//!
//! Must not know: the gateway's code.

pub mod session;

use anyhow::{Context, Result, ensure};
use parlance_tests::stock::{Connected, Report};
use parlance_tests::{ConnectOptions, Gateway, Options, Stock, StockSocket, Transports, token};
use serde_json::{Value, json};

/// The dialects a recovering client speaks here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    Famly,
    Lingochat,
    Chatgenius,
}

impl App {
    pub const fn path(self) -> &'static str {
        match self {
            Self::Famly => "/socket.io/",
            Self::Lingochat => "/lingochat/socket.io/",
            Self::Chatgenius => "/api/socket.io/",
        }
    }
}

/// How a test breaks a transport off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As a network does.
    Abrupt,
    /// `engine.close()`.
    Close,
}

impl Cut {
    pub const ALL: [Self; 2] = [Self::Abrupt, Self::Close];

    pub fn cut(self, socket: &StockSocket) -> Result<()> {
        match self {
            Self::Abrupt => socket.drop_transport(),
            Self::Close => socket.close_engine(),
        }
    }
}

/// A node without rate limits and the process of its stock clients.
pub struct World {
    pub gateway: Gateway,
    pub stock: Stock,
}

impl World {
    /// As it is shipped, but keeps nothing over a restart: quicker.
    pub async fn start() -> Result<Self> {
        Self::with(Options::brief()).await
    }

    pub async fn with(options: Options) -> Result<Self> {
        let gateway = Gateway::start(options.env("PARLANCE_NO_LIMITS", "true")).await?;
        Ok(Self { gateway, stock: Stock::start()? })
    }

    /// Creates a conversation and returns its number.
    pub async fn room(&self, id: &str, members: &[&str]) -> Result<u64> {
        self.gateway.conversation(id, members).await
    }

    pub async fn change(&self, id: &str, what: &str, user: &str) -> Result<()> {
        let body = json!({ what: [user] });
        self.gateway.call("PATCH", &format!("/api/v1/conversations/{id}"), Some(&body)).await.map(drop)
    }

    pub async fn delete(&self, id: &str) -> Result<()> {
        let path = format!("/api/v1/conversations/{id}");
        let answer = self.gateway.internal("DELETE", &path, Some(parlance_tests::API_KEY), None).await?;
        ensure!(answer.status == 204, "{} {}", answer.status, answer.body);
        Ok(())
    }

    /// Lets alice say something over the server API.
    pub async fn say(&self, room: &str, body: &str) -> Result<()> {
        let message = json!({ "senderId": "alice", "body": body });
        self.gateway
            .call("POST", &format!("/api/v1/conversations/{room}/messages"), Some(&message))
            .await
            .map(drop)
    }

    /// A connected socket with a fresh session, on the transport it is to stay on.
    pub async fn socket(&self, app: App, user: &str, transports: Transports) -> Result<StockSocket> {
        self.opened(options(app, user, transports)?, transports).await
    }

    pub async fn opened(&self, options: ConnectOptions, transports: Transports) -> Result<StockSocket> {
        let socket = self.stock.connect(self.gateway.address(), options)?;
        ensure!(!socket.expect_connect().await?.recovered, "a fresh session");
        if transports == Transports::Upgrade {
            ensure!(socket.expect_upgrade().await? == "websocket");
        }
        Ok(socket)
    }

    /// Bodies of a conversation's messages as history has them.
    pub async fn history(&self, user: &str, room: &str) -> Result<Vec<String>> {
        let path = format!("/api/v1/conversations/{room}/messages?limit=200");
        let page = self.gateway.read(user, &path).await?;
        let messages = page["messages"].as_array().with_context(|| format!("{page}"))?;
        Ok(messages.iter().filter_map(|m| m["body"].as_str()).map(str::to_owned).collect())
    }

    /// Connections the node believes to have.
    pub async fn connections(&self) -> Result<u64> {
        let nodes = self.gateway.call("GET", "/api/v1/nodes", None).await?;
        nodes["nodes"][0]["connections"].as_u64().with_context(|| format!("{nodes}"))
    }
}

pub fn options(app: App, user: &str, transports: Transports) -> Result<ConnectOptions> {
    Ok(ConnectOptions::new(transports).path(app.path()).auth(json!({ "token": token(user)? })))
}

/// Joins a room and waits until it is done.
pub async fn enter(socket: &StockSocket, app: App, event: &str, room: &str) -> Result<()> {
    let (args, yes) = match app {
        App::Famly => (json!({ "chatId": room }), json!({ "ok": true })),
        App::Lingochat => (json!(room), json!({ "success": true })),
        App::Chatgenius => (json!({ "channelId": room }), json!({ "success": true })),
    };
    let answer = socket.emit_ack(event, &[args]).await?;
    ensure!(answer == [yes], "{event} {room}: {answer:?}");
    Ok(())
}

/// A message as a recipient was told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub event: String,
    pub body: String,
    pub offset: String,
}

/// The message an event tells of.
pub fn said(name: &str, args: &[Value]) -> Option<Said> {
    let event = args.first()?;
    let body = match name {
        "message:new" | "room:message" => event["text"].as_str().or(event["body"].as_str()),
        "message:created" => event["message"]["content"].as_str(),
        "message:notification" => event["message"]["body"].as_str(),
        _ => None,
    }?;
    let offset = args.get(1).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Said { event: name.to_owned(), body: body.to_owned(), offset })
}

fn reported(report: &Report) -> Option<Said> {
    if let Report::Event(event) = report { said(&event.name, &event.args) } else { None }
}

/// What the socket hears from now on up to a message with this body, that one included: `event body`, in order.
pub async fn heard_until(socket: &StockSocket, last: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    loop {
        let report = socket.next().await.with_context(|| format!("waiting for {last}, heard {all:?}"))?;
        if let Some(said) = reported(&report) {
            all.push(format!("{} {}", said.event, said.body));
            if said.body == last {
                return Ok(all);
            }
        }
    }
}

/// The same, without the names of the events.
pub async fn bodies_until(socket: &StockSocket, last: &str) -> Result<Vec<String>> {
    let all = heard_until(socket, last).await?;
    Ok(all.iter().filter_map(|said| said.split_once(' ')).map(|(_, body)| body.to_owned()).collect())
}

/// What is waiting to be looked at, as `event body`: after a recovered connect, all that was missed.
pub async fn waiting(socket: &StockSocket) -> Result<Vec<String>> {
    let reports = socket.queued().await?;
    Ok(reports.iter().filter_map(reported).map(|s| format!("{} {}", s.event, s.body)).collect())
}

/// Waits for the connection to break and to be made again.
pub async fn back(socket: &StockSocket) -> Result<Connected> {
    socket.expect_disconnect().await?;
    socket.expect_connect().await
}

/// Cuts, lets things happen meanwhile (the server may or may not have noticed), and waits until it is back.
pub async fn away(
    socket: &StockSocket,
    cut: Cut,
    meanwhile: impl AsyncFnOnce() -> Result<()>,
) -> Result<Connected> {
    cut.cut(socket)?;
    socket.expect_disconnect().await?;
    meanwhile().await?;
    socket.expect_connect().await
}
