//! A node on free ports over the memory engine, and plain sockets to talk to it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::SocketAddr;
use std::time::Duration;

use parlance_backplane::embedded::{Embedded, Options};
use parlance_gateway::Running;
use parlance_gateway::auth::sign_dev_token;
use parlance_gateway::clock::Clock;
use parlance_gateway::config::Config;
use parlance_model::{NodeId, Time, UserId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const SECRET: &str = "a-secret-of-these-tests-of-32-bytes-or-more";
pub const API_KEY: &str = "test-api-key-of-a-decent-length-1234567890";
const PATIENCE: Duration = Duration::from_secs(20);

/// A running node.
pub struct Server {
    pub running: Running,
    engine: Embedded,
}

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Server {
    /// Starts a node; `change` adapts its configuration.
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            internal_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ack_level: "memory".to_owned(),
            api_keys: vec!["another-key-during-rotation-123456789012".to_owned(), API_KEY.to_owned()],
            ..Config::default()
        };
        config.auth.secrets = vec![SECRET.to_owned()];
        change(&mut config);
        let clock = Clock::system();
        let id = NodeId::parse("n1").unwrap();
        let engine = Embedded::open(Options::default(), clock.for_engine()).unwrap();
        let running = Running::start(config, engine.attach(id.clone()), id, clock).await.unwrap();
        Self { running, engine }
    }

    pub async fn stop(self) {
        assert!(self.running.stop().await, "every task ended");
        self.engine.close().await;
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.running.public_addr()).await.unwrap()
    }

    /// Sends bytes to the public listener and reads until it closes.
    pub async fn raw(&self, request: &str) -> Reply {
        exchange(self.running.public_addr(), request.as_bytes()).await
    }

    /// A WebSocket handshake with further header lines.
    pub async fn upgrade(&self, target: &str, more: &str) -> Reply {
        self.raw(&handshake(target, more)).await
    }

    /// A call of the internal listener.
    pub async fn call(&self, method: &str, target: &str, key: &str, body: &str) -> Reply {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(self.running.internal_addr(), request.as_bytes()).await
    }

    /// A call of the server API that is let in.
    pub async fn api(&self, method: &str, target: &str, body: &str) -> Reply {
        self.call(method, target, API_KEY, body).await
    }
}

/// A good token.
pub fn token(user: &str, ttl: Duration) -> String {
    token_at(user, ttl, Clock::system().now())
}

/// A token issued at a time of the caller's choosing.
pub fn token_at(user: &str, ttl: Duration, now: Time) -> String {
    sign_dev_token(SECRET, &UserId::parse(user).unwrap(), None, ttl, now).unwrap()
}

pub fn handshake(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: rt.example\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// Sends a request, reads one answer.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    answer(&mut stream).await
}

/// Reads one answer: its head, and as much body as it states.
pub async fn answer(stream: &mut TcpStream) -> Reply {
    tokio::time::timeout(PATIENCE, read_answer(stream)).await.expect("an answer in time")
}

async fn read_answer(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        let count = stream.read_buf(&mut bytes).await.unwrap();
        assert!(count > 0, "closed without an answer: {:?}", String::from_utf8_lossy(&bytes));
    };
    let mut body = bytes.split_off(head + 4);
    let head = String::from_utf8(bytes).unwrap().trim_end().to_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply { status, head, body: String::new() };
    let length = reply.header("content-length").map_or(0, |l| l.parse().unwrap());
    while body.len() < length && stream.read_buf(&mut body).await.unwrap() > 0 {}
    body.truncate(length);
    reply.body = String::from_utf8(body).unwrap();
    reply
}
