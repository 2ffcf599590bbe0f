//! What attackers do. Each kind does one thing again and again until its time is up; none of them waits for long.

use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::Ws;

/// How long an attacker waits for an answer.
const BRIEF: Duration = Duration::from_millis(500);
/// Connections one attacker keeps open.
const HELD: usize = 40;

/// What an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Connects and says nothing, many times.
    Connects,
    /// Leaves handshakes half done.
    HalfHandshakes,
    /// Sends heads and bodies byte by byte.
    Trickles,
    /// Asks and asks, and takes no answer.
    Deaf,
    /// Sends random bytes.
    Bytes,
    /// Sends heads that can be read in two ways.
    Smuggles,
    /// Sends large bodies and long heads.
    Floods,
    /// Cuts connections in the middle of good requests.
    Cuts,
    /// Presents tokens that are none.
    Tokens,
    /// Opens WebSockets and sends no frames.
    BadFrames,
    /// Sends broken words of the raw dialects, let in by a good token.
    BadWords,
    /// Sends broken packets to Socket.IO, on every mount.
    BadPackets,
    /// Begins polling sessions, and breaks the rules of polling.
    BadPolls,
    /// Does the like on the internal listener.
    Inside,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Connects,
        Self::HalfHandshakes,
        Self::Trickles,
        Self::Deaf,
        Self::Bytes,
        Self::Smuggles,
        Self::Floods,
        Self::Cuts,
        Self::Tokens,
        Self::BadFrames,
        Self::BadWords,
        Self::BadPackets,
        Self::BadPolls,
        Self::Inside,
    ];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connects => "connects",
            Self::HalfHandshakes => "half-handshakes",
            Self::Trickles => "trickles",
            Self::Deaf => "deaf",
            Self::Bytes => "bytes",
            Self::Smuggles => "smuggles",
            Self::Floods => "floods",
            Self::Cuts => "cuts",
            Self::Tokens => "tokens",
            Self::BadFrames => "bad-frames",
            Self::BadWords => "bad-words",
            Self::BadPackets => "bad-packets",
            Self::BadPolls => "bad-polls",
            Self::Inside => "inside",
        }
    }
}

/// At whom, with what, for how long.
pub struct Aim {
    /// Public and internal listener.
    pub address: [String; 2],
    /// A good token, of somebody in no conversation.
    pub token: String,
    pub until: Instant,
}

/// Attacks until the time is up; how many times. What becomes of an attempt is nobody's concern here.
pub async fn attack(kind: Kind, aim: &Aim, mut dice: StdRng) -> u64 {
    let mut held = Vec::new();
    let mut tries = 0;
    while Instant::now() < aim.until {
        let left = aim.until.saturating_duration_since(Instant::now());
        // A node that is slow with a stranger is not judged by that: what counts is the talk of others.
        if let Ok(Ok(open)) = timeout(left, attempt(kind, aim, &mut dice)).await {
            held.extend(open);
        }
        tries += 1;
        if held.len() > HELD {
            held.swap_remove(dice.random_range(0..HELD));
        }
        sleep(Duration::from_millis(dice.random_range(20..80))).await;
    }
    tries
}

/// One attempt; a connection that is to be kept open for a while.
async fn attempt(kind: Kind, aim: &Aim, dice: &mut StdRng) -> Result<Option<TcpStream>> {
    let [public, internal] = &aim.address;
    match kind {
        Kind::Connects => Ok(Some(TcpStream::connect(public).await?)),
        Kind::HalfHandshakes => {
            let whole = handshake(pick(dice, SOCKETS), &aim.token);
            let part = whole.get(..dice.random_range(0..whole.len())).unwrap_or_default();
            Ok(Some(said(public, part.as_bytes()).await?))
        }
        Kind::Trickles => trickle(public, dice, &aim.token).await.map(|()| None),
        Kind::Deaf => {
            let stream = said(public, get(pick(dice, PATHS)).repeat(50).as_bytes()).await?;
            Ok(Some(stream))
        }
        Kind::Bytes => answered(public, &bytes(dice, 2_000)).await,
        Kind::Smuggles => answered(public, smuggled(dice).as_bytes()).await,
        Kind::Floods => answered(public, &flood(dice)).await,
        Kind::Cuts => {
            let whole = get(pick(dice, PATHS));
            let part = whole.get(..dice.random_range(0..whole.len())).unwrap_or_default();
            said(public, part.as_bytes()).await?.set_zero_linger()?;
            Ok(None)
        }
        Kind::Tokens => {
            let token: String =
                (0..dice.random_range(0..300)).map(|_| pick(dice, &["a", ".", "%", "e", "="])).collect();
            answered(public, handshake(pick(dice, SOCKETS), &token).as_bytes()).await
        }
        Kind::BadFrames => {
            let shake = handshake(pick(dice, SOCKETS), &aim.token);
            answered(public, &[shake.as_bytes(), &bytes(dice, 200)].concat()).await
        }
        Kind::BadWords => words(public, aim, dice).await.map(|()| None),
        Kind::BadPackets => packets(public, aim, dice).await.map(|()| None),
        Kind::BadPolls => polls(public, dice).await.map(|()| None),
        Kind::Inside => {
            let said = match dice.random_range(0..4) {
                0 => bytes(dice, 500),
                1 => flood(dice),
                2 => smuggled(dice).into_bytes(),
                _ => get(pick(dice, INSIDE)).into_bytes(),
            };
            answered(internal, &said).await
        }
    }
}

const SOCKETS: &[&str] = &[
    "/sechat?a=b",
    "/ws?a=b",
    "/socket.io/?EIO=4&transport=websocket",
    "/sechat/socket.io/?EIO=4&transport=websocket",
    "/lingochat/socket.io/?EIO=4&transport=websocket",
    "/api/socket.io/?EIO=4&transport=websocket",
];

const PATHS: &[&str] = &[
    "/livez",
    "/nothing",
    "/socket.io/?EIO=4&transport=polling&sid=nobody-nobody-nobody",
    "/api/v1/realtime/poll?user_id=alice",
    "/v1/chats/honest/messages",
    "/api/v1/conversations/honest/messages",
    "/../../etc/passwd",
    "/%00%ff",
];

const INSIDE: &[&str] = &[
    "/metrics",
    "/readyz",
    "/api/v1/nodes",
    "/api/v1/conversations/honest",
    "/internal/engine/socket.io/?EIO=4&transport=polling",
    "/internal/release/socket.io/",
];

/// Words that begin well.
const WORDS: &[&str] = &[
    "{",
    "[]",
    "null",
    "{\"type\":5}",
    "{\"type\":\"message:send\"}",
    "{\"type\":\"message:send\",\"messageId\":\"x\",\"conversationId\":\"honest\",\"toUserIds\":[\"bob\"],\"body\":\"x\"}",
    "{\"type\":\"message:send\",\"messageId\":{},\"conversationId\":[],\"toUserIds\":5,\"body\":null}",
    "{\"type\":\"receipt:read\",\"messageId\":\"m0\",\"toUserId\":\"alice\"}",
    "{\"type\":\"typing\",\"conversationId\":\"honest\",\"isTyping\":true}",
    "{\"type\":\"register_session\",\"sessionId\":\"alice\"}",
    "{\"type\":\"subscribe\",\"payload\":{\"channel\":\"conversation:honest\"},\"ack_id\":\"a\"}",
    "{\"type\":\"message\",\"channel\":\"conversation:honest\",\"payload\":{\"content\":\"x\"}}",
    "{\"type\":\"\\ud800\"}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

const PACKETS: &[&str] = &[
    "4",
    "40",
    "41",
    "42",
    "42{}",
    "42[]",
    "420[]",
    "43",
    "430[]",
    "44",
    "45",
    "46",
    "47",
    "49",
    "2",
    "3",
    "5",
    "6",
    "9",
    "42[\"connect\"]",
    "42[\"message:send\",{}]",
    "421[\"message:send\",{\"chatId\":\"honest\",\"body\":\"x\",\"clientId\":\"x\"}]",
    "422[\"room:join\",{\"chatId\":\"honest\"}]",
    "423[\"conversation:join\",\"honest\"]",
    "451-[\"x\",{\"_placeholder\":true,\"num\":0}]",
    "4599999-[]",
    "40/nowhere,",
    "42/nowhere,[\"x\"]",
    "b!!!",
    "42[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

fn pick<'a>(dice: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(dice).copied().unwrap_or_default()
}

fn bytes(dice: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; dice.random_range(1..most)];
    dice.fill_bytes(&mut bytes);
    bytes
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn handshake(target: &str, token: &str) -> String {
    format!(
        "GET {target}&token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn smuggled(dice: &mut StdRng) -> String {
    let lengths = pick(
        dice,
        &[
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 50\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Host: y\r\n",
            "Content-Encoding: gzip\r\nContent-Length: 5\r\n",
        ],
    );
    let target = pick(dice, PATHS);
    format!("POST {target} HTTP/1.1\r\nHost: x\r\n{lengths}\r\n0\r\n\r\n{}", get(target))
}

fn flood(dice: &mut StdRng) -> Vec<u8> {
    let size = dice.random_range(10_000..2_000_000);
    match dice.random_range(0..4) {
        0 => format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(size)).into_bytes(),
        1 => format!("GET /livez HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(size / 6)).into_bytes(),
        2 => {
            let head =
                format!("POST /api/v1/realtime/poll HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
            [head.as_bytes(), &vec![b'['; size]].concat()
        }
        _ => {
            let head = "POST /api/v1/publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;";
            [head.as_bytes(), &vec![b'x'; size]].concat()
        }
    }
}

/// Connects and says something.
async fn said(address: &str, bytes: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    // Who is not listened to is done; what was taken is taken.
    let _ = timeout(BRIEF, stream.write_all(bytes)).await;
    Ok(stream)
}

/// Says something and reads what comes for a while.
async fn answered(address: &str, bytes: &[u8]) -> Result<Option<TcpStream>> {
    let mut stream = said(address, bytes).await?;
    let mut some = vec![0; 4096];
    let read = timeout(BRIEF, stream.read(&mut some)).await;
    // Who gets no answer keeps the connection, to see how long it lasts.
    Ok(read.is_err().then_some(stream))
}

async fn trickle(address: &str, dice: &mut StdRng, token: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let whole = handshake(pick(dice, SOCKETS), token);
    for byte in whole.bytes().take(dice.random_range(1..60)) {
        stream.write_all(&[byte]).await?;
        sleep(Duration::from_millis(dice.random_range(5..50))).await;
    }
    Ok(())
}

async fn words(address: &str, aim: &Aim, dice: &mut StdRng) -> Result<()> {
    let path = pick(dice, &["/sechat", "/ws"]);
    let mut socket = Ws::connect(&format!("ws://{address}{path}?token={}", aim.token)).await?;
    for _ in 0..dice.random_range(1..30) {
        socket.send_message(spoilt(dice, WORDS)).await?;
    }
    Ok(())
}

async fn packets(address: &str, aim: &Aim, dice: &mut StdRng) -> Result<()> {
    let target = SOCKETS.iter().copied().filter(|target| target.contains("EIO")).collect::<Vec<_>>();
    let mut socket = Ws::connect(&format!("ws://{address}{}", pick(dice, &target))).await?;
    if dice.random_bool(0.7) {
        socket
            .send_message(Message::text(format!("40{{\"token\":\"{}\",\"userId\":\"mallory\"}}", aim.token)))
            .await?;
    }
    for _ in 0..dice.random_range(1..30) {
        socket.send_message(spoilt(dice, PACKETS)).await?;
    }
    Ok(())
}

/// One of these, with a change in some of its bytes, or cut.
fn spoilt(dice: &mut StdRng, from: &[&str]) -> Message {
    let mut text = pick(dice, from).to_owned();
    match dice.random_range(0..5) {
        0 => text.truncate(dice.random_range(0..=text.len())),
        1 => text.push_str(&"x".repeat(dice.random_range(0..100_000))),
        2 => return Message::binary(bytes(dice, 1_000)),
        3 => {
            text = text
                .replace(pick(dice, &["\"", ":", "{", "[", "0"]), pick(dice, &["", "\0", "\u{202e}", "[["]))
        }
        _ => {}
    }
    Message::text(text)
}

async fn polls(address: &str, dice: &mut StdRng) -> Result<()> {
    let path = pick(dice, &["/socket.io/", "/sechat/socket.io/", "/lingochat/socket.io/", "/api/socket.io/"]);
    let mut stream = said(address, get(&format!("{path}?EIO=4&transport=polling")).as_bytes()).await?;
    let mut answer = vec![0; 4096];
    let read = timeout(BRIEF, stream.read(&mut answer)).await??;
    let answer = String::from_utf8_lossy(answer.get(..read).unwrap_or_default()).into_owned();
    let (_, rest) = answer.split_once("\"sid\":\"").context("no sid")?;
    let (sid, _) = rest.split_once('"').context("no sid")?;
    let target = format!("{path}?EIO=4&transport=polling&sid={sid}");
    let body: String =
        (0..dice.random_range(0..5)).map(|_| pick(dice, PACKETS)).collect::<Vec<_>>().join("\u{1e}");
    let post = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (first, second) = match dice.random_range(0..4) {
        0 => (get(&target), get(&target)),
        1 => (post.clone(), post),
        2 => (get(&target), post),
        _ => (get(&target), handshake(&target.replace("=polling", "=websocket"), "x")),
    };
    let (one, two) = (said(address, first.as_bytes()).await?, answered(address, second.as_bytes()).await?);
    drop((one, two));
    Ok(())
}
