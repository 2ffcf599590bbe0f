//! What the tests of SeChat over Socket.IO share: stock clients as the application uses them, and exact looks at
//! what they are told.
//!
//! Must not know: the gateway's code.

use anyhow::{Context, Result, ensure};
use parlance_tests::exact::is_time;
use parlance_tests::{ConnectOptions, Gateway, Options, Stock, StockSocket, Transports, token};
use serde_json::{Value, json};

pub const PATH: &str = "/sechat/socket.io/";

/// A node as it is shipped, but for the disk.
pub async fn gateway() -> Result<Gateway> {
    Gateway::start(Options::brief()).await
}

/// A node whose only mount is sechat over Socket.IO with further settings.
pub fn mount(settings: &str) -> Options {
    Options::brief().config(&format!(
        "[[mounts]]\nname = \"sechat-io\"\npath = \"{PATH}\"\ndialect = \"sechat\"\nframing = \"socketio\"\n{settings}\n"
    ))
}

/// As the application's client connects: without a word of who it is.
pub fn options(transports: Transports) -> ConnectOptions {
    ConnectOptions::new(transports).path(PATH)
}

/// A socket that has not registered.
pub async fn nobody(stock: &Stock, gateway: &Gateway, transports: Transports) -> Result<StockSocket> {
    let socket = stock.connect(gateway.address(), options(transports))?;
    socket.expect_connect().await?;
    if transports == Transports::Upgrade {
        ensure!(socket.expect_upgrade().await? == "websocket");
    }
    Ok(socket)
}

pub fn registration(session: &str, token: Option<&str>) -> Value {
    json!({ "sessionId": session, "token": token, "timestamp": "2025-08-19T22:00:00.123456" })
}

/// A socket that has registered as the application's does.
pub async fn over(
    stock: &Stock,
    gateway: &Gateway,
    user: &str,
    transports: Transports,
) -> Result<StockSocket> {
    let socket = nobody(stock, gateway, transports).await?;
    socket.emit("register_session", &[registration(user, Some(&token(user)?))])?;
    let registered = expect(&socket, "session_registered").await?;
    ensure!(registered["status"] == "success" && registered["sessionId"] == user, "{registered}");
    Ok(socket)
}

pub async fn connect(stock: &Stock, gateway: &Gateway, user: &str) -> Result<StockSocket> {
    over(stock, gateway, user, Transports::Websocket).await
}

/// alice and bob in the conversation `c`: what is said there from here on is heard live.
pub async fn pair(stock: &Stock, gateway: &Gateway) -> Result<(StockSocket, StockSocket)> {
    let alice = connect(stock, gateway, "alice").await?;
    let bob = connect(stock, gateway, "bob").await?;
    acquaint(&alice, &bob, "first").await?;
    expect(&alice, "presence:update").await?;
    Ok((alice, bob))
}

/// Lets alice write to bob until he hears it live: before that, his connection is still joining.
pub async fn acquaint(alice: &StockSocket, bob: &StockSocket, id: &str) -> Result<()> {
    for n in 0..20 {
        let id = if n == 0 { id.to_owned() } else { format!("{id}-{n}") };
        send(alice, &message(&id, "c", &["bob"])).await?;
        let heard =
            until(bob, |name, p| name == "message:delivered" && p["messageId"] == id.as_str()).await?;
        if payload(&heard, "message:received").is_some_and(|received| received.get("wasQueued").is_none()) {
            return Ok(());
        }
    }
    anyhow::bail!("bob never hears anything live")
}

/// A `message:send`; its body is `text of <id>`.
pub fn message(id: &str, conversation: &str, to: &[&str]) -> Value {
    json!({
        "type": "message:send", "messageId": id, "conversationId": conversation, "toUserIds": to,
        "body": format!("text of {id}"), "timestamp": "2025-08-19T22:00:00.123456",
    })
}

pub fn receipt(id: &str, from: &str, author: &str) -> Value {
    json!({ "messageId": id, "fromUserId": from, "toUserId": author })
}

/// Sends a message and waits until it is acknowledged, by event.
pub async fn send(socket: &StockSocket, message: &Value) -> Result<Value> {
    socket.emit("message:send", std::slice::from_ref(message))?;
    let acked = expect(socket, "message:acked").await?;
    ensure!(acked["messageId"] == message["messageId"], "another message was acknowledged: {acked}");
    Ok(acked)
}

/// The payload of the next event of that name; its `type` repeats the name.
pub async fn expect(socket: &StockSocket, event: &str) -> Result<Value> {
    let args = socket.expect(event).await?;
    let payload = args.into_iter().next().with_context(|| format!("{event} without payload"))?;
    ensure!(payload["type"] == event, "the type is another than the event's name {event}: {payload}");
    Ok(payload)
}

/// The next error, which must have this code; it names the event it answers.
pub async fn refused(socket: &StockSocket, code: &str, event: &str) -> Result<Value> {
    let error = expect(socket, "error").await?;
    ensure!(error["code"] == code, "expected {code}, got {error}");
    ensure!(error["details"]["event"] == event, "the error is about another event: {error}");
    ensure!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "no message: {error}");
    ensure!(is_time(&error["details"]["timestamp"]), "no timestamp: {error}");
    Ok(error)
}

/// Every event up to and with the first that `last` is true of: name and payload.
pub async fn until(
    socket: &StockSocket,
    last: impl Fn(&str, &Value) -> bool,
) -> Result<Vec<(String, Value)>> {
    let mut events = Vec::new();
    loop {
        let event = socket.next_event().await.with_context(|| format!("until then came {events:?}"))?;
        let payload = event.args.into_iter().next().unwrap_or_default();
        let found = last(&event.name, &payload);
        events.push((event.name, payload));
        if found {
            return Ok(events);
        }
    }
}

/// Everything up to and with the body of that message.
pub async fn until_heard(socket: &StockSocket, id: &str) -> Result<Vec<(String, Value)>> {
    until(socket, |name, payload| name == "message:received" && payload["messageId"] == id).await
}

/// The first event of that name.
pub fn payload<'a>(events: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    events.iter().find(|(came, _)| came == name).map(|(_, payload)| payload)
}

/// The message ids of the events of that name, in order.
pub fn ids<'a>(events: &'a [(String, Value)], name: &str) -> Vec<&'a str> {
    events.iter().filter(|(came, _)| came == name).filter_map(|(_, p)| p["messageId"].as_str()).collect()
}
