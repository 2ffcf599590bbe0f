//! `ack_level = "archived"`: what is acknowledged is in PostgreSQL, though nothing but the acknowledgement writes there.

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::metrics::until;
use parlance_tests::{Gateway, Options, Postgres, Ws};
use serde_json::{Value, json};

use super::kept_in;
use crate::webhooks::{connect, say};

/// A node on which nobody writes but who acknowledges.
fn archived(postgres: &Postgres, redis: Option<&Server>) -> Options {
    let options = kept_in(postgres, "run = false").env("PARLANCE_ACK_LEVEL", "archived");
    match redis {
        Some(redis) => options.env("PARLANCE_REDIS_URL", &redis.url()),
        None => options,
    }
}

async fn count(postgres: &Postgres) -> Result<i64> {
    postgres.number("SELECT count(*) FROM parlance.messages").await
}

async fn has(postgres: &Postgres, id: &str) -> Result<bool> {
    let sql =
        format!("SELECT count(*) FROM parlance.messages WHERE client_id = '{id}' AND client_id_uses = 0");
    Ok(postgres.number(&sql).await? == 1)
}

/// Sends and returns the answer, whatever it is.
async fn answer(socket: &mut Ws, id: &str) -> Result<Value> {
    let message = json!({ "type": "message:send", "messageId": id, "conversationId": "c", "toUserIds": ["bob"], "body": id });
    socket.send(&message).await?;
    loop {
        let told = socket.next().await?;
        if told["type"] == "message:acked" || told["type"] == "error" {
            return Ok(told);
        }
    }
}

async fn each_is_there_when_it_is_acknowledged(redis: Option<&Server>) -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = Gateway::start(archived(&postgres, redis)).await?;
    let (_, ready) = gateway.api("GET", "/readyz", None).await?;
    ensure!(ready["ack_level"] == "archived", "{ready}");
    let survives = ready["acked_survives"].as_str().context("a text")?;
    ensure!(survives.ends_with("PostgreSQL has it first"), "{ready}");
    let (mut alice, mut bob) = (connect(&gateway, "alice").await?, connect(&gateway, "bob").await?);
    for n in 1..=20 {
        say(&mut alice, &format!("m-{n}"), "c", &["bob"]).await?;
        ensure!(count(&postgres).await? == n, "message {n} was acknowledged before it was there");
        ensure!(bob.expect("message:received").await?["body"] == format!("m-{n}"));
    }
    // A resend is acknowledged and changes nothing; so is what the backend sends.
    say(&mut alice, "m-7", "c", &["bob"]).await?;
    ensure!(count(&postgres).await? == 20);
    let sent = json!({ "senderId": "alice", "body": "by the backend", "clientId": "b-1" });
    let (status, told) = gateway.api("POST", "/api/v1/conversations/c/messages", Some(&sent)).await?;
    ensure!(status < 300 && has(&postgres, "b-1").await?, "{status} {told}");
    until(&gateway, |page| page.sum("parlance_archive_acks_total", &[]) >= 21.0).await?;
    Ok(())
}

#[tokio::test]
async fn each_message_is_there_when_it_is_acknowledged() -> Result<()> {
    each_is_there_when_it_is_acknowledged(None).await
}

#[tokio::test]
async fn each_message_is_there_when_it_is_acknowledged_on_redis() -> Result<()> {
    let redis = Server::standalone().await?;
    each_is_there_when_it_is_acknowledged(Some(&redis)).await
}

#[tokio::test]
async fn while_postgresql_is_away_nothing_is_acknowledged_and_a_resend_brings_it_there_once() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let redis = Server::standalone().await?;
    let gateway = Gateway::start(archived(&postgres, Some(&redis))).await?;
    let (mut alice, mut bob) = (connect(&gateway, "alice").await?, connect(&gateway, "bob").await?);
    say(&mut alice, "m-0", "c", &["bob"]).await?;
    bob.expect("message:received").await?;
    postgres.kill9()?;
    let refused = answer(&mut alice, "m-1").await?;
    ensure!(refused["type"] == "error" && refused.to_string().contains("SERVICE_UNAVAILABLE"), "{refused}");
    // It is in the log, so its recipients have it; the sender is not told that it is safe.
    ensure!(bob.expect("message:received").await?["body"] == "m-1");
    postgres.restart().await?;
    say(&mut alice, "m-1", "c", &["bob"]).await?;
    ensure!(has(&postgres, "m-1").await? && count(&postgres).await? == 2);
    say(&mut alice, "m-2", "c", &["bob"]).await?;
    ensure!(bob.expect("message:received").await?["body"] == "m-2", "m-1 was heard twice");
    let log = gateway.log();
    ensure!(log.contains("messages are not acknowledged") && log.contains("acknowledged again"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_resend_that_is_answered_from_the_log_waits_as_well() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let limited = "[[mounts]]\nname = \"sechat\"\ndialect = \"sechat\"\npath = \"/sechat\"\nmembership = \"open\"\nmessages = { limit = 2, window_ms = 600000 }\n";
    let toml = format!("[archive]\nurl = \"{}\"\nrun = false\n{limited}", postgres.url());
    let options = Options::default().config(&toml).env("PARLANCE_ACK_LEVEL", "archived");
    let gateway = Gateway::start(options).await?;
    let mut alice = connect(&gateway, "alice").await?;
    say(&mut alice, "m-0", "c", &["bob"]).await?;
    postgres.kill9()?;
    ensure!(answer(&mut alice, "m-1").await?["type"] == "error");
    // Beyond the rate only what is in the log is acknowledged; and that only when it is there too.
    let again = answer(&mut alice, "m-1").await?;
    ensure!(again["type"] == "error" && again.to_string().contains("SERVICE_UNAVAILABLE"), "{again}");
    postgres.restart().await?;
    ensure!(answer(&mut alice, "m-1").await?["type"] == "message:acked");
    ensure!(has(&postgres, "m-1").await?);
    Ok(())
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_postgresql_and_a_node_were_killed() -> Result<()> {
    let (mut postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    let mut a = Gateway::start(archived(&postgres, Some(&redis))).await?;
    let b = Gateway::start(archived(&postgres, Some(&redis))).await?;
    let mut socket = connect(&a, "alice").await?;
    for n in 0..300 {
        match n {
            60 | 200 => postgres.restart().await?,
            130 => a.kill9()?,
            _ => {}
        }
        let id = format!("m-{n}");
        let acknowledged = async |socket: &mut Ws| -> Result<bool> {
            Ok(answer(socket, &id).await?["type"] == "message:acked")
        };
        while !acknowledged(&mut socket).await.unwrap_or(false) {
            socket = connect(&b, "alice").await?;
        }
        ensure!(has(&postgres, &id).await?, "{id}");
    }
    ensure!(count(&postgres).await? == 300);
    ensure!(postgres.number("SELECT count(*) FROM parlance.superseded_messages").await? == 0);
    Ok(())
}

#[tokio::test]
async fn another_dialect_waits_as_well() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let gateway = Gateway::start(archived(&postgres, None)).await?;
    let mut alice = connect(&gateway, "alice").await?;
    say(&mut alice, "m-0", "c", &["bob"]).await?;
    let mut bob = gateway.connect("/ws", "bob").await?;
    let said = |ack: &str| json!({ "type": "message", "channel": "conversation:c", "payload": { "content": "back", "client_id": "s-1" }, "ack_id": ack });
    postgres.kill9()?;
    bob.send(&said("1")).await?;
    let refused = bob.expect("ack").await?;
    ensure!(refused["payload"]["success"] == false, "{refused}");
    postgres.restart().await?;
    bob.send(&said("2")).await?;
    let acked = bob.expect("ack").await?;
    ensure!(acked["payload"]["success"] == true && has(&postgres, "s-1").await?, "{acked}");
    Ok(())
}
