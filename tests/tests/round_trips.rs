//! What a node asks of Redis, and how often one after the other: over a proxy that makes every round trip long, so that
//! the time something takes tells how many it was.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Faults, Proxy, Server};
use parlance_tests::{Gateway, IoClient, Options, token};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Each way.
const DELAY: Duration = Duration::from_millis(60);
const CONVERSATIONS: usize = 20;

/// A node beside its Redis, and one that is far away from it.
struct Far {
    _redis: Server,
    proxy: Proxy,
    near: Gateway,
    far: Gateway,
}

impl Far {
    async fn start() -> Result<Self> {
        let redis = Server::standalone().await?;
        let proxy = Proxy::start(redis.port(), 1).await?;
        let near = Gateway::start(Options::default().env("PARLANCE_REDIS_URL", &redis.url())).await?;
        let far = Gateway::start(Options::default().env("PARLANCE_REDIS_URL", &proxy.url())).await?;
        for number in 0..CONVERSATIONS {
            near.conversation(&format!("c{number}"), &["alice", "bob"]).await?;
        }
        Ok(Self { _redis: redis, proxy, near, far })
    }

    /// Round trips one after the other that `asked` takes: those that fit into its time.
    async fn trips<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<(f64, T)> {
        self.proxy.set(Faults { delay: DELAY, ..Faults::default() });
        let began = Instant::now();
        let done = asked.await;
        let took = began.elapsed();
        self.proxy.heal();
        Ok((took.as_secs_f64() / (2.0 * DELAY.as_secs_f64()), done?))
    }
}

async fn famly(gateway: &Gateway, auth: Value) -> Result<IoClient> {
    let mut io = IoClient::connect(&gateway.url("/socket.io/"), &auth).await?;
    if auth["pid"].is_null() {
        let ack = io.ask("room:join", &[json!({ "chatId": "c0" })]).await?;
        ensure!(ack == [json!({ "ok": true })], "{ack:?}");
    }
    Ok(io)
}

async fn say(io: &mut IoClient, text: &str) -> Result<()> {
    let message = json!({ "chatId": "c0", "body": text, "clientId": text });
    let ack = io.ask("message:send", &[message]).await?;
    ensure!(ack.first().is_some_and(|a| a["ok"] == true), "{ack:?}");
    Ok(())
}

#[tokio::test]
async fn a_message_takes_two_round_trips_and_a_recovery_few_however_many_conversations() -> Result<()> {
    let nodes = Far::start().await?;
    let mut bob = famly(&nodes.far, json!({ "token": token("bob")? })).await?;
    let mut alice = famly(&nodes.near, json!({ "token": token("alice")? })).await?;
    say(&mut bob, "first").await?;
    let offset = alice.expect("message:new").await?.args.last().cloned().context("no offset")?;
    drop(bob);
    let mut bob = famly(&nodes.near, json!({ "token": token("bob")? })).await?;
    say(&mut bob, "missed").await?;

    // None of the rooms but one is open on the far node.
    let again = json!({ "token": token("alice")?, "pid": alice.joined["pid"], "offset": offset });
    drop(alice);
    let (trips, mut alice) = nodes.trips(famly(&nodes.far, again.clone())).await?;
    ensure!(alice.joined["pid"] == again["pid"], "recovered");
    ensure!(alice.expect("message:new").await?.args[0]["body"] == "missed");
    eprintln!("recovery in {CONVERSATIONS} conversations: {trips:.1} round trips");
    ensure!(trips < 30.0, "a recovery takes {trips} round trips");

    let (trips, ()) = nodes.trips(say(&mut alice, "second")).await?;
    eprintln!("message: {trips:.1} round trips");
    ensure!(trips < 3.0, "a message takes {trips} round trips");
    Ok(())
}
