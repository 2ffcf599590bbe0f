//! What the famly tests share: a node with its mount, users on stock sockets, exact looks at acks and events.
//!
//! Must not know: the gateway's code.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::exact::keys;
use parlance_tests::stock::Report;
use parlance_tests::{
    ConnectOptions, Gateway, IoClient, Options, PATIENCE, Stock, StockSocket, Transports, token,
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// The chat of alice, bob and carol.
pub const CHAT: &str = "c1";
/// A chat alice shares with dave, and bob does not know.
pub const OTHER: &str = "c2";
/// An id of the right form that no message has.
pub const NO_MESSAGE: &str = "0123456789abcdef01234567";

/// A node, its stock client, and the chats [`CHAT`] and [`OTHER`].
pub struct World {
    pub gateway: Gateway,
    pub stock: Stock,
}

impl World {
    /// A node as it is shipped.
    pub async fn shipped() -> Result<Self> {
        Self::start(Options::brief()).await
    }

    /// A node whose only mount is famly with further settings.
    pub async fn mounted(settings: &str) -> Result<Self> {
        Self::start(Options::brief().config(&mount(settings))).await
    }

    pub async fn start(options: Options) -> Result<Self> {
        let stock = Stock::start()?;
        let gateway = Gateway::start(options).await?;
        let world = Self { gateway, stock };
        world.chat(CHAT, &["alice", "bob", "carol"]).await?;
        world.chat(OTHER, &["alice", "dave"]).await?;
        Ok(world)
    }

    /// Creates a chat.
    pub async fn chat(&self, id: &str, members: &[&str]) -> Result<()> {
        let body = json!({ "id": id, "type": "group", "members": members, "createdBy": members[0] });
        self.gateway.call("POST", "/api/v1/conversations", Some(&body)).await.map(drop)
    }

    /// Changes [`CHAT`].
    pub async fn change(&self, change: &Value) -> Result<()> {
        self.gateway.call("PATCH", &format!("/api/v1/conversations/{CHAT}"), Some(change)).await.map(drop)
    }

    /// Sends on a user's behalf: what a test lets be said so that something must be heard.
    pub async fn say(&self, chat: &str, user: &str, body: &str) -> Result<()> {
        let message = json!({ "senderId": user, "body": body });
        self.gateway
            .call("POST", &format!("/api/v1/conversations/{chat}/messages"), Some(&message))
            .await
            .map(drop)
    }

    /// Opens a socket, with whatever auth.
    pub fn open(&self, options: ConnectOptions) -> Result<StockSocket> {
        self.stock.connect(self.gateway.address(), options)
    }

    /// A connected socket of a user, in no room, that hears all it is to hear.
    pub async fn user(&self, user: &str) -> Result<StockSocket> {
        let socket = self.open(as_user(user, Transports::Websocket)?)?;
        socket.expect_connect().await?;
        settled(&socket).await?;
        Ok(socket)
    }

    /// A session whose packets are written and read by hand; it has joined no namespace.
    pub async fn unconnected(&self) -> Result<IoClient> {
        IoClient::open(&self.gateway.url("/socket.io/")).await
    }

    /// The same in the namespace, as a user.
    pub async fn by_hand(&self, user: &str) -> Result<IoClient> {
        IoClient::connect(&self.gateway.url("/socket.io/"), &json!({ "token": token(user)? })).await
    }

    /// A connected socket of a user in the room of [`CHAT`].
    pub async fn inside(&self, user: &str) -> Result<StockSocket> {
        let socket = self.user(user).await?;
        join(&socket, CHAT).await?;
        Ok(socket)
    }

    /// Asks for what must be refused with `code`; the message. Whoever is refused can find the refusal in the log.
    pub async fn refused(
        &self,
        socket: &StockSocket,
        event: &str,
        args: &[Value],
        code: &str,
    ) -> Result<String> {
        let acks = socket.emit_ack(event, args).await?;
        self.is_refusal(&acks, event, code).await.with_context(|| format!("{event} {args:?}"))
    }

    /// Whether an ack is a refusal with `code`; the message.
    pub async fn is_refusal(&self, acks: &[Value], event: &str, code: &str) -> Result<String> {
        let ack = only(acks)?;
        ensure!(keys(ack) == ["correlationId", "error", "message", "ok"], "{ack}");
        ensure!(ack["ok"] == false && ack["error"] == code, "expected {code}: {ack}");
        let message = ack["message"].as_str().filter(|message| !message.is_empty()).context("no message")?;
        let id = ack["correlationId"].as_str().context("no correlation id")?;
        ensure!(is_uuid(id), "no UUID: {id}");
        let line = self.logged(id).await?;
        ensure!(line.contains(event), "the log line of another event: {line}");
        Ok(message.to_owned())
    }

    /// The line of the node's log in which this stands.
    pub async fn logged(&self, what: &str) -> Result<String> {
        let found = async {
            loop {
                // The log is read in a thread of its own, which may be behind.
                if let Some(line) = self.gateway.log().lines().find(|line| line.contains(what)) {
                    return line.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, found).await.with_context(|| format!("{what} is not in the log"))
    }

    /// A page of a chat's backfill: status and body.
    pub async fn backfill(&self, user: &str, what: &str) -> Result<(u16, Value)> {
        let answer = self.gateway.public("GET", &format!("/v1/chats/{what}"), Some(&token(user)?)).await?;
        Ok((answer.status, answer.json()?))
    }
}

/// A configuration file whose only mount is famly with further settings.
pub fn mount(settings: &str) -> String {
    format!(
        "[[mounts]]\nname = \"famly\"\npath = \"/socket.io/\"\ndialect = \"famly\"\nframing = \"socketio\"\n{settings}\n"
    )
}

/// How a user connects.
pub fn as_user(user: &str, transports: Transports) -> Result<ConnectOptions> {
    Ok(ConnectOptions::new(transports).auth(json!({ "token": token(user)? })))
}

/// Comes back once the socket hears all that it is to hear: what a socket hears is changed only after that.
pub async fn settled(socket: &StockSocket) -> Result<()> {
    ok(socket, "room:leave", json!({ "chatId": "nowhere" })).await.map(drop)
}

/// Enters a chat's room.
pub async fn join(socket: &StockSocket, chat: &str) -> Result<()> {
    let data = ok(socket, "room:join", json!({ "chatId": chat })).await?;
    ensure!(data.is_null(), "room:join has no data: {data}");
    Ok(())
}

/// Asks for what must be done; the ack's data.
pub async fn ok(socket: &StockSocket, event: &str, payload: Value) -> Result<Value> {
    let acks = socket.emit_ack(event, &[payload]).await?;
    done(&acks).with_context(|| event.to_owned())
}

/// The data of an ack that says that it was done.
pub fn done(acks: &[Value]) -> Result<Value> {
    let ack = only(acks)?;
    ensure!(ack["ok"] == true, "refused: {ack}");
    ensure!(keys(ack).iter().all(|key| *key == "ok" || *key == "data"), "{ack}");
    Ok(ack["data"].clone())
}

/// A `message:send` to [`CHAT`]; its body is `text of <id>`.
pub fn message(client_id: &str) -> Value {
    json!({ "chatId": CHAT, "body": format!("text of {client_id}"), "clientId": client_id })
}

/// Sends `message`; the id the server gave it.
pub async fn send(socket: &StockSocket, message: &Value) -> Result<String> {
    let data = ok(socket, "message:send", message.clone()).await?;
    server_id(&data, message)
}

/// The server's id in the data of a send's ack.
pub fn server_id(data: &Value, message: &Value) -> Result<String> {
    ensure!(keys(data) == ["clientId", "serverId"], "{data}");
    ensure!(data["clientId"] == message["clientId"], "another message was acknowledged: {data}");
    let id = data["serverId"].as_str().context("no serverId")?;
    ensure!(is_message_id(id), "not 24 hex digits: {id}");
    Ok(id.to_owned())
}

/// The next event of that name: its payload.
pub async fn heard(socket: &StockSocket, event: &str) -> Result<Value> {
    let mut args = socket.expect(event).await?;
    // A server with state recovery adds the event's offset.
    ensure!(args.len() == 1 || (args.len() == 2 && args[1].is_string()), "{event}: {args:?}");
    Ok(args.swap_remove(0))
}

/// The payloads of events of that name up to and with the first `last` is true of.
pub async fn heard_until(
    socket: &StockSocket,
    event: &str,
    last: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    loop {
        let payload = heard(socket, event).await.with_context(|| format!("before came {all:?}"))?;
        let found = last(&payload);
        all.push(payload);
        if found {
            return Ok(all);
        }
    }
}

/// The names of the events that came and were not taken.
pub async fn left_over(socket: &StockSocket) -> Result<Vec<String>> {
    let reports = socket.queued().await?;
    let names = reports.into_iter().filter_map(|report| match report {
        Report::Event(event) => Some(event.name),
        _ => None,
    });
    Ok(names.collect())
}

/// Lets a message be said in a chat and waits until the socket, a member, has heard of it: of what was published
/// there before, nothing is still on its way.
pub async fn caught_up(world: &World, socket: &StockSocket, (chat, author): (&str, &str)) -> Result<()> {
    let body = format!("marker {}", fresh_number());
    world.say(chat, author, &body).await?;
    let told = heard_until(socket, "message:notification", |n| n["message"]["body"] == body.as_str()).await;
    told.context("the marker was not heard").map(drop)
}

fn fresh_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn only(args: &[Value]) -> Result<&Value> {
    ensure!(args.len() == 1, "an ack is one object: {args:?}");
    Ok(&args[0])
}

pub fn is_message_id(id: &str) -> bool {
    id.len() == 24 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub fn is_uuid(id: &str) -> bool {
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}
