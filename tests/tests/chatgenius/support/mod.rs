//! What the ChatGenius tests share: channels, stock clients that are in, and what they are told.
//!
//! Must not know: the gateway's code.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parlance_tests::stock::{Event, Report};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{ConnectOptions, Gateway, Options, SECRET, Stock, StockSocket, Transports, token};
use serde_json::{Value, json};

pub const PATH: &str = "/api/socket.io/";

/// Fields of what an emitted event carries, the offset of state recovery left out.
pub type Payload = Value;

/// A node as it is shipped, but for the disk.
pub async fn gateway() -> Result<Gateway> {
    Gateway::start(Options::brief()).await
}

/// A node whose only mount is chatgenius with further settings.
pub fn mount(settings: &str) -> Options {
    Options::brief().config(&format!(
        "[[mounts]]\nname = \"chatgenius\"\npath = \"{PATH}\"\ndialect = \"chatgenius\"\n\
         framing = \"socketio\"\n{settings}\n"
    ))
}

/// A channel with these members.
pub async fn channel(gateway: &Gateway, id: &str, members: &[&str]) -> Result<()> {
    gateway.conversation(id, members).await.map(drop)
}

/// A token with further claims.
pub fn token_with(user: &str, more: &Value) -> Result<String> {
    let mut claims = json!({ "sub": user, "exp": expiry(Duration::from_secs(3600)) });
    for (name, value) in more.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    sign(&claims, SECRET)
}

/// How the documented client opens its socket.
pub fn options(transports: Transports, user: &str) -> Result<ConnectOptions> {
    Ok(with_auth(transports, json!({ "token": format!("Bearer {}", token(user)?), "userId": user })))
}

pub fn with_auth(transports: Transports, auth: Value) -> ConnectOptions {
    ConnectOptions::new(transports).path(PATH).auth(auth)
}

/// A socket that is in all channels of its user.
pub async fn connect(stock: &Stock, gateway: &Gateway, user: &str) -> Result<StockSocket> {
    over(stock, gateway, user, Transports::Websocket).await
}

pub async fn over(
    stock: &Stock,
    gateway: &Gateway,
    user: &str,
    transports: Transports,
) -> Result<StockSocket> {
    let socket = stock.connect(gateway.address(), options(transports, user)?)?;
    let success = socket.expect("connection:success").await?;
    ensure!(success[0]["userId"] == user, "{success:?}");
    socket.expect_connect().await?;
    if transports == Transports::Upgrade {
        ensure!(socket.expect_upgrade().await? == "websocket");
    }
    Ok(socket)
}

/// alice and bob, both in the channel `room`.
pub async fn pair(stock: &Stock, gateway: &Gateway) -> Result<(StockSocket, StockSocket)> {
    channel(gateway, "room", &["alice", "bob"]).await?;
    Ok((connect(stock, gateway, "alice").await?, connect(stock, gateway, "bob").await?))
}

pub fn message(content: &str, temp_id: &str) -> Value {
    json!({ "content": content, "channelId": "room", "tempId": temp_id })
}

/// Emits with an acknowledgement and returns its one object.
pub async fn ask(socket: &StockSocket, event: &str, payload: Value) -> Result<Payload> {
    let answer = socket.emit_ack(event, &[payload]).await?;
    ensure!(answer.len() == 1, "{answer:?}");
    Ok(answer[0].clone())
}

/// As [`ask`], for what must succeed.
pub async fn done(socket: &StockSocket, event: &str, payload: Value) -> Result<Payload> {
    let answer = ask(socket, event, payload).await?;
    ensure!(answer["success"] == true, "{event}: {answer}");
    Ok(answer)
}

/// As [`ask`], for what must be refused with that text.
pub async fn refused(socket: &StockSocket, event: &str, payload: Value, error: &str) -> Result<Payload> {
    let shown = payload.to_string();
    let answer = ask(socket, event, payload).await?;
    ensure!(answer["success"] == false && answer["error"] == error, "{event} {shown:.200}: {answer}");
    Ok(answer)
}

/// Sends into `room` and returns the message's id.
pub async fn say(socket: &StockSocket, content: &str) -> Result<String> {
    let answer = done(socket, "message:send", message(content, content)).await?;
    text(&answer["data"]["messageId"])
}

/// Waits for the message with that content; returns it and every event that came before it.
pub async fn until_said(socket: &StockSocket, content: &str) -> Result<(Payload, Vec<Event>)> {
    let mut before = Vec::new();
    loop {
        let event = socket.next_event().await.with_context(|| format!("until {content} came {before:?}"))?;
        if event.name == "message:created" && event.args[0]["message"]["content"] == content {
            return Ok((event.args[0].clone(), before));
        }
        before.push(event);
    }
}

/// What all of `events` with that name carry.
pub fn of<'a>(events: &'a [Event], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event.name == name).map(|event| &event.args[0]).collect()
}

/// The payload of the next event of that name.
pub async fn expect(socket: &StockSocket, event: &str) -> Result<Payload> {
    let args = socket.expect(event).await?;
    args.into_iter().next().with_context(|| format!("{event} without payload"))
}

/// The socket was connected, told why it may not stay, and then to go, in this order: never refused as a namespace is.
pub async fn turned_away(socket: &StockSocket) -> Result<Payload> {
    let mut came = Vec::new();
    while came.len() < 3 {
        let report = socket.next().await.with_context(|| format!("came {came:?}"))?;
        // When the transport is upgraded is another matter.
        if !matches!(report, Report::Upgrade { .. }) {
            came.push(report);
        }
    }
    let [Report::Connect(_), Report::Event(error), Report::Disconnect { reason }] = &came[..] else {
        bail!("not turned away: {came:?}")
    };
    ensure!(error.name == "connection:error" && error.args.len() == 1, "{came:?}");
    ensure!(reason == "io server disconnect", "{came:?}");
    Ok(error.args[0].clone())
}

pub fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("not a text: {value}"))
}
