//! What a node asks of Redis, and how often one after the other: over a proxy that makes every round trip long, so that
//! the time something takes tells how many it was.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Faults, Proxy, Server};
use parlance_tests::{Gateway, IoClient, Options, token};
use serde_json::json;
use tokio::time::Instant;

/// Each way.
const DELAY: Duration = Duration::from_millis(60);
const CONVERSATIONS: usize = 20;
/// How often each thing is measured: who speaks for it may say ten things in ten seconds.
const TIMES: usize = 4;

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
        for user in users() {
            for number in 0..CONVERSATIONS {
                near.conversation(&format!("{user}-{number}"), &[&user, "bob"]).await?;
            }
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

/// Everybody whose recovery is measured, each in conversations of their own: none of them is open on the far node.
fn users() -> impl Iterator<Item = String> {
    (0..TIMES).map(|number| format!("u{number}"))
}

async fn famly(gateway: &Gateway, user: &str) -> Result<IoClient> {
    IoClient::connect(&gateway.url("/socket.io/"), &json!({ "token": token(user)? })).await
}

async fn enter(io: &mut IoClient, room: &str) -> Result<()> {
    let ack = io.ask("room:join", &[json!({ "chatId": room })]).await?;
    ensure!(ack == [json!({ "ok": true })], "{ack:?}");
    Ok(())
}

async fn say(io: &mut IoClient, room: &str, text: &str) -> Result<()> {
    let message = json!({ "chatId": room, "body": text, "clientId": text });
    let ack = io.ask("message:send", &[message]).await?;
    ensure!(ack.first().is_some_and(|a| a["ok"] == true), "{ack:?}");
    Ok(())
}

/// Round trips of a recovery at the far node, of a client that has missed a message in its first conversation.
async fn recovery(nodes: &Far, bob: &mut IoClient, user: &str) -> Result<f64> {
    let room = format!("{user}-0");
    let mut io = famly(&nodes.near, user).await?;
    for io in [&mut io, bob] {
        enter(io, &room).await?;
    }
    say(bob, &room, "first").await?;
    let offset = io.expect("message:new").await?.args.last().cloned().context("no offset")?;
    let again = json!({ "token": token(user)?, "pid": io.joined["pid"], "offset": offset });
    drop(io);
    nodes.near.until_gone(user).await?;
    say(bob, &room, "missed").await?;
    let url = nodes.far.url("/socket.io/");
    let (trips, mut io) = nodes.trips(IoClient::connect(&url, &again)).await?;
    ensure!(io.joined["pid"] == again["pid"], "recovered");
    ensure!(io.expect("message:new").await?.args[0]["body"] == "missed");
    Ok(trips)
}

/// The least of several: what else there is to do on the machine only ever adds time.
fn least(all: &[f64]) -> f64 {
    all.iter().copied().fold(f64::INFINITY, f64::min)
}

#[tokio::test]
async fn a_message_takes_two_round_trips_and_a_recovery_three_however_many_conversations() -> Result<()> {
    let nodes = Far::start().await?;
    let mut bob = famly(&nodes.near, "bob").await?;
    let mut all = Vec::new();
    for user in users() {
        all.push(recovery(&nodes, &mut bob, &user).await?);
    }
    eprintln!("recovery in {CONVERSATIONS} conversations: {all:.1?} round trips");
    ensure!(least(&all) < 4.0, "a recovery takes {all:?} round trips");

    let mut alice = famly(&nodes.far, "u0").await?;
    enter(&mut alice, "u0-0").await?;
    let mut all = Vec::new();
    for number in 0..TIMES {
        let text = format!("m{number}");
        all.push(nodes.trips(say(&mut alice, "u0-0", &text)).await?.0);
    }
    eprintln!("message: {all:.1?} round trips");
    ensure!(least(&all) < 3.0, "a message takes {all:?} round trips");
    Ok(())
}
