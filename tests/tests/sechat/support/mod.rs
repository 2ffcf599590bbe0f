//! What the SeChat tests share: frames, pairs of users, exact looks at what arrived, a bare TCP connection.
//!
//! Must not know: the gateway's code.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parlance_tests::{Gateway, Options, PATIENCE, Ws, token};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Whoever has just connected and hears nothing for so long has joined everything.
const QUIET: Duration = Duration::from_millis(200);

/// A node as it is shipped.
pub async fn gateway() -> Result<Gateway> {
    Gateway::start(Options::default()).await
}

/// A node whose only mount is sechat with further settings.
pub fn mount(settings: &str) -> Options {
    Options::default().config(&format!(
        "[[mounts]]\nname = \"sechat\"\npath = \"/sechat\"\ndialect = \"sechat\"\n{settings}\n"
    ))
}

/// A connection that hears everything from here on. Nothing waited for it.
pub async fn connect(gateway: &Gateway, user: &str) -> Result<Ws> {
    let mut socket = arrive(gateway, user).await?;
    let mut frames = settled(&mut socket, user).await?;
    // Joining goes on beside requests, and no frame says that it is done: the quiet does.
    while let Ok(frame) = timeout(QUIET, socket.next()).await {
        frames.push(frame?);
    }
    ensure!(ids(&frames, "message:received").is_empty(), "something waited: {frames:?}");
    Ok(socket)
}

/// A connection that has just been opened: what waits for it is on its way.
pub async fn arrive(gateway: &Gateway, user: &str) -> Result<Ws> {
    gateway.connect("/sechat", user).await
}

/// A `message:send`; its body is `text of <id>`.
pub fn message(id: &str, conversation: &str, to: &[&str]) -> Value {
    json!({
        "type": "message:send", "messageId": id, "conversationId": conversation, "toUserIds": to,
        "body": format!("text of {id}"), "timestamp": "2025-08-19T22:00:00.123456",
    })
}

pub fn receipt(kind: &str, id: &str, author: &str) -> Value {
    json!({ "type": kind, "messageId": id, "toUserId": author })
}

/// Sends a message and waits until it is acknowledged.
pub async fn send(socket: &mut Ws, message: &Value) -> Result<Value> {
    socket.send(message).await?;
    let ack = socket.expect("message:acked").await?;
    ensure!(ack["messageId"] == message["messageId"], "another message was acknowledged: {ack}");
    Ok(ack)
}

/// alice and bob, both connected, in conversation `c`; what its first message `first` caused has been heard.
pub async fn pair(gateway: &Gateway) -> Result<(Ws, Ws)> {
    let mut alice = connect(gateway, "alice").await?;
    let mut bob = connect(gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await.context("alice was not told that bob came")?;
    send(&mut alice, &message("first", "c", &["bob"])).await?;
    let first = until(&mut bob, |f| f["type"] == "message:delivered" && f["messageId"] == "first").await;
    first.context("bob did not hear the first message")?;
    Ok((alice, bob))
}

/// Everything that arrives up to and with the first frame `last` is true of.
pub async fn until(socket: &mut Ws, last: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
    within(socket, PATIENCE, last).await
}

/// As [`until`], for what takes its time.
pub async fn within(socket: &mut Ws, span: Duration, last: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
    let end = Instant::now() + span;
    let mut frames = Vec::new();
    loop {
        let asked = Instant::now();
        match socket.next().await {
            Ok(frame) => {
                let found = last(&frame);
                frames.push(frame);
                if found {
                    return Ok(frames);
                }
            }
            // The harness has a shorter patience than some promises take; an ended socket fails at once.
            Err(_) if asked.elapsed() + Duration::from_secs(1) > PATIENCE && Instant::now() < end => {}
            Err(error) => return Err(error.context(format!("until then came {frames:?}"))),
        }
        ensure!(Instant::now() < end, "what is waited for did not come; instead {frames:?}");
    }
}

/// The message ids of the frames of one type, in order.
pub fn ids<'a>(frames: &'a [Value], kind: &str) -> Vec<&'a str> {
    frames.iter().filter(|f| f["type"] == kind).filter_map(|f| f["messageId"].as_str()).collect()
}

pub fn is_presence(frame: &Value, user: &str, online: bool) -> bool {
    frame["type"] == "presence:update" && frame["sessionId"] == user && frame["isOnline"] == online
}

pub fn is_message(frame: &Value, id: &str) -> bool {
    frame["type"] == "message:received" && frame["messageId"] == id
}

/// The next frame is an error with this code; it names the event it answers.
pub async fn refused(socket: &mut Ws, code: &str, event: &str) -> Result<Value> {
    let error = socket.expect("error").await?;
    ensure!(error["code"] == code, "expected {code}, got {error}");
    ensure!(error["details"]["event"] == event, "the error is about another event: {error}");
    ensure!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "no message: {error}");
    ensure!(error["details"]["timestamp"].is_string(), "no timestamp: {error}");
    Ok(error)
}

/// Comes back once the socket's earlier frames have been carried out.
pub async fn settled(socket: &mut Ws, user: &str) -> Result<Vec<Value>> {
    socket.send(&json!({ "type": "register_session", "sessionId": user })).await?;
    until(socket, |f| f["type"] == "session_registered").await
}

/// A WebSocket of which a test writes every byte itself, and which answers nothing by itself.
pub struct Bare {
    stream: TcpStream,
}

impl Bare {
    pub async fn connect(gateway: &Gateway, user: &str) -> Result<Self> {
        let url = gateway.url("/sechat");
        let address = url.trim_start_matches("ws://").trim_end_matches("/sechat").to_owned();
        let mut stream = TcpStream::connect(&address).await?;
        let request = format!(
            "GET /sechat?token={} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            token(user)?
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await??);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        ensure!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the accept key of RFC 6455: {head}");
        Ok(Self { stream })
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.context("the server does not read")??;
        Ok(())
    }

    /// The next frame of the server: first byte and payload.
    pub async fn frame(&mut self) -> Result<(u8, Vec<u8>)> {
        timeout(PATIENCE, self.read_frame()).await.context("no frame in time")?
    }

    /// The close code; what came before is passed over.
    pub async fn closed(&mut self) -> Result<u16> {
        loop {
            match self.frame().await? {
                (0x88, payload) if payload.len() >= 2 => {
                    return Ok(u16::from_be_bytes([payload[0], payload[1]]));
                }
                (0x88, _) => bail!("a close frame without code"),
                _ => {}
            }
        }
    }

    async fn read_frame(&mut self) -> Result<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await?;
        let length = match self.stream.read_u8().await? {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            masked if masked >= 128 => bail!("a server does not mask"),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length)?];
        self.stream.read_exact(&mut payload).await?;
        Ok((first, payload))
    }
}

/// A masked frame; the mask is zero, so that the payload stays readable.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(short) if short < 126 => bytes.push(0x80 | payload.len() as u8),
        Ok(medium) => {
            bytes.push(0x80 | 126);
            bytes.extend(medium.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}
