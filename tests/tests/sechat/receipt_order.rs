//! Whoever reconnects while receipts of the own messages keep coming is told of each only forward: what is told again
//! and what is heard live do not overtake each other.

use std::collections::HashMap;

use crate::support::{arrive, message, pair, receipt, send};
use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options, Ws};
use serde_json::Value;

/// Messages that are confirmed one by one; fewer than are looked back over.
const MESSAGES: usize = 40;

/// How far each message came: delivered is 1, read is 2.
#[derive(Default)]
struct Told {
    messages: HashMap<String, u8>,
    read: usize,
}

impl Told {
    fn note(&mut self, frame: &Value) -> Result<()> {
        let state = match frame["type"].as_str() {
            Some("receipt:delivered") => 1,
            Some("receipt:read") => 2,
            _ => return Ok(()),
        };
        let id = frame["messageId"].as_str().context("no id")?;
        let Some(number) = id.strip_prefix("m-").map(str::parse::<usize>).transpose()? else { return Ok(()) };
        let before = self.messages.insert(id.to_owned(), state).unwrap_or_default();
        ensure!(before <= state, "{id} was read, and is then delivered");
        if state == 2 {
            ensure!(self.read <= number, "{} was read, and then {id}", self.read);
            self.read = number;
        }
        Ok(())
    }
}

/// Confirms everything, one after the other.
async fn confirms(mut socket: Ws) -> Result<Ws> {
    for number in 0..MESSAGES {
        for kind in ["receipt:delivered", "receipt:read"] {
            socket.send(&receipt(kind, &format!("m-{number}"), "alice")).await?;
        }
    }
    Ok(socket)
}

/// Comes back again and again while the receipts come, each time to the next node; the last time until all are read.
async fn comes_back(nodes: &[Gateway]) -> Result<()> {
    let last = format!("m-{}", MESSAGES - 1);
    for attempt in 0.. {
        let mut told = Told::default();
        let mut socket = arrive(&nodes[attempt % nodes.len()], "alice").await?;
        // It stays a little longer each time.
        for _ in 0..10 + 3 * attempt {
            let frame = socket.next().await?;
            told.note(&frame).with_context(|| format!("connection {attempt}"))?;
            if frame["type"] == "receipt:read" && frame["messageId"] == last.as_str() {
                return Ok(());
            }
        }
        drop(socket);
    }
    Ok(())
}

fn unlimited() -> Options {
    Options::default().env("PARLANCE_NO_LIMITS", "true")
}

async fn only_forward(nodes: &[Gateway]) -> Result<()> {
    let (mut alice, bob) = pair(&nodes[0]).await?;
    for number in 0..MESSAGES {
        send(&mut alice, &message(&format!("m-{number}"), "c", &["bob"])).await?;
    }
    drop(alice);
    tokio::try_join!(confirms(bob), comes_back(nodes)).map(drop)
}

#[tokio::test]
async fn receipts_only_go_forward_for_whoever_comes_back() -> Result<()> {
    only_forward(&[Gateway::start(unlimited()).await?]).await
}

#[tokio::test]
async fn receipts_only_go_forward_for_whoever_comes_back_to_another_node() -> Result<()> {
    let redis = Server::standalone().await?;
    let start = || Gateway::start(unlimited().env("PARLANCE_REDIS_URL", &redis.url()));
    only_forward(&[start().await?, start().await?]).await
}
