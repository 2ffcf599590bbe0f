//! What the LingoChat tests share: a node with its stock clients, rooms, messages, packets by hand.
//!
//! Must not know: the gateway's code.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{
    ConnectOptions, Gateway, IoClient, Options, SECRET, Stock, StockSocket, Transports, token,
};
use serde_json::{Value, json};

/// Where the dialect is mounted as shipped.
pub const PATH: &str = "/lingochat/socket.io/";

/// A node and the process of its stock clients.
pub struct World {
    pub gateway: Gateway,
    pub stock: Stock,
}

impl World {
    /// A node that keeps nothing over a restart: quicker.
    pub async fn start() -> Result<Self> {
        Self::with(Options::brief()).await
    }

    /// The same without rate limits.
    pub async fn unlimited() -> Result<Self> {
        Self::with(Options::brief().env("PARLANCE_NO_LIMITS", "true")).await
    }

    pub async fn with(options: Options) -> Result<Self> {
        Ok(Self { gateway: Gateway::start(options).await?, stock: Stock::start()? })
    }

    /// Creates a conversation and returns its number.
    pub async fn room(&self, id: &str, members: &[&str]) -> Result<u64> {
        self.gateway.conversation(id, members).await
    }

    /// Adds or removes members.
    pub async fn change(&self, id: &str, change: &Value) -> Result<()> {
        let path = format!("/api/v1/conversations/{id}");
        self.gateway.call("PATCH", &path, Some(change)).await.map(drop)
    }

    pub fn open(&self, options: ConnectOptions) -> Result<StockSocket> {
        self.stock.connect(self.gateway.address(), options)
    }

    /// A connected socket of `user` over a WebSocket.
    pub async fn connect(&self, user: &str) -> Result<StockSocket> {
        let socket = self.open(options(user, Transports::Websocket)?)?;
        ensure!(!socket.expect_connect().await?.recovered, "a fresh session");
        Ok(socket)
    }

    /// A connected socket of `user` in a room.
    pub async fn joined(&self, user: &str, room: &str) -> Result<StockSocket> {
        let socket = self.connect(user).await?;
        join(&socket, &json!(room)).await?;
        Ok(socket)
    }

    /// alice and bob in a room of their own; each has heard of the other.
    pub async fn pair(&self, room: &str) -> Result<(StockSocket, StockSocket)> {
        self.room(room, &["alice", "bob"]).await?;
        let alice = self.joined("alice", room).await?;
        let bob = self.joined("bob", room).await?;
        ensure!(alice.expect("user:online").await?[0] == "bob", "alice was not told of bob");
        ensure!(bob.expect("user:online").await?[0] == "alice", "bob was not told of alice");
        Ok((alice, bob))
    }

    /// A conversation's history over HTTP, as the dialect tells it.
    pub async fn history(&self, user: &str, conversation: &str, query: &str) -> Result<Value> {
        let path = format!("/api/v1/conversations/{conversation}/messages?dialect=lingochat{query}");
        self.gateway.read(user, &path).await
    }

    /// A session whose packets are written and read by hand; it has joined no namespace.
    pub async fn unconnected(&self) -> Result<IoClient> {
        IoClient::open(&self.gateway.url(PATH)).await
    }

    /// The same in the namespace, as a user.
    pub async fn by_hand(&self, user: &str) -> Result<IoClient> {
        IoClient::connect(&self.gateway.url(PATH), &json!({ "token": token(user)? })).await
    }
}

/// The options of a user's client.
pub fn options(user: &str, transports: Transports) -> Result<ConnectOptions> {
    Ok(bearer(&token(user)?, transports))
}

/// The options of a client with any token.
pub fn bearer(token: &str, transports: Transports) -> ConnectOptions {
    ConnectOptions::new(transports).path(PATH).auth(json!({ "token": token }))
}

/// A token with these claims besides its end, which is in an hour.
pub fn claims(mut claims: Value) -> Result<String> {
    claims["exp"] = json!(expiry(Duration::from_secs(3600)));
    sign(&claims, SECRET)
}

/// Joins a conversation and waits until it is done.
pub async fn join(socket: &StockSocket, room: &Value) -> Result<()> {
    accepted(socket, "conversation:join", std::slice::from_ref(room)).await
}

/// A command that is acknowledged with success and nothing else.
pub async fn accepted(socket: &StockSocket, event: &str, args: &[Value]) -> Result<()> {
    let answer = socket.emit_ack(event, args).await?;
    ensure!(answer == [json!({ "success": true })], "{event} {args:?}: {answer:?}");
    Ok(())
}

/// A command that is refused with this sentence, in the event and in the acknowledgement.
pub async fn refused(socket: &StockSocket, event: &str, args: &[Value], sentence: &str) -> Result<()> {
    let answer = socket.emit_ack(event, args).await?;
    ensure!(answer == [json!({ "success": false, "error": sentence })], "{event} {args:?}: {answer:?}");
    let error = socket.expect("error").await?;
    ensure!(error[0] == sentence, "{event} {args:?}: {error:?}");
    Ok(())
}

/// Sends a message, waits for both of its acknowledgements, and returns its id.
pub async fn send(socket: &StockSocket, room: &str, client_id: &str, text: &str) -> Result<u64> {
    let message = json!({ "text": text, "clientMessageId": client_id });
    let answer = socket.emit_ack("message:send", &[json!(room), message]).await?;
    let id = answer[0]["messageId"].as_u64().with_context(|| format!("{client_id}: {answer:?}"))?;
    ensure!(answer == [json!({ "success": true, "messageId": id })], "{answer:?}");
    let ack = socket.expect("message:ack").await?;
    let told = json!({ "clientMessageId": client_id, "conversationId": room, "duplicate": false });
    ensure!(ack == [json!(id), told], "{ack:?}");
    Ok(id)
}

/// The texts of the next so many messages.
pub async fn texts(socket: &StockSocket, count: usize) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for _ in 0..count {
        let message = socket.expect("message:new").await?;
        texts.push(message[0]["text"].as_str().context("no text")?.to_owned());
    }
    Ok(texts)
}

/// A client id that no other message of the test program has.
pub fn fresh_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("fresh-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Sends a message whose arrival shows that everything before it has arrived, or never will.
pub async fn fence(from: &StockSocket, room: &str, to: &[&StockSocket]) -> Result<()> {
    let id = send(from, room, &fresh_id(), "fence").await?;
    for socket in to {
        while socket.expect("message:new").await?[0]["id"] != id {}
    }
    Ok(())
}

/// Whether a stranger to a room has heard nothing: what alice says now, in a room of theirs, comes after it all.
pub async fn heard_nothing(world: &World, alice: &StockSocket, stranger: (&str, &StockSocket)) -> Result<()> {
    let (user, socket) = stranger;
    world.room("apart", &["alice", user]).await?;
    join(socket, &json!("apart")).await?;
    let id = send(alice, "apart", &fresh_id(), "apart").await?;
    ensure!(socket.expect("message:new").await?[0]["id"] == id, "{user} heard something else before");
    for event in ["user:online", "user:offline", "typing:start", "typing:stop", "message:read"] {
        socket.assert_none(event).await.context("a stranger")?;
    }
    Ok(())
}

/// Whether it is what a recovering server puts behind an event.
pub fn is_offset(value: &Value) -> bool {
    value.as_str().and_then(|text| text.split_once('-')).is_some_and(|(number, seq)| {
        [number, seq].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// An event's only argument of its own; a string, or what comes from the log, is followed by an offset.
pub fn only(args: &[Value]) -> Result<&Value> {
    match args {
        [own] if !own.is_string() => Ok(own),
        [own, offset] if is_offset(offset) => Ok(own),
        other => anyhow::bail!("not one argument: {other:?}"),
    }
}
