//! What is in no log: read receipts between two polls, the presence of who polls, connections that are to be closed.
#![allow(clippy::disallowed_methods, reason = "a poll waits beside what it waits for, and is awaited")]

use crate::poll_support::{Poller, nodes, say, unlimited, until_listening, until_waiting};
use crate::support::{Client, conversation, until_devices, until_status};
use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options};
use serde_json::{Value, json};

/// Presence that ends soon.
const QUICK: &str = r#"
timings.presence_ttl_ms = 3000
timings.presence_refresh_ms = 1000

[[mounts]]
name = "socialhub"
dialect = "socialhub"
path = "/ws"
ping_interval_ms = 1000
ping_timeout_ms = 1000
"#;

async fn read(reader: &mut Client, conversation: &str, message: &Value) -> Result<()> {
    let payload = json!({ "conversation_id": conversation, "message_ids": [message] });
    reader.accepted(json!({ "type": "read_receipt", "payload": payload })).await.map(drop)
}

#[tokio::test]
async fn what_was_read_between_two_polls_is_told_by_whichever_node_is_asked_next() -> Result<()> {
    let redis = Server::standalone().await?;
    let [a, b] = nodes::<2>(&redis, &unlimited()).await?;
    a.conversation("c", &["alice", "bob"]).await?;
    let mut alice = Poller::new("alice")?;
    alice.poll(a.address(), 0.0).await?;
    let mut bob = Client::on(&b, "bob", "conversation:c").await?;
    for text in ["one", "two", "three"] {
        say(&a, "c", "alice", text).await?;
    }
    alice.until(a.address(), 3).await?;
    let ids: Vec<Value> = alice.events.iter().map(|event| event["payload"]["id"].clone()).collect();
    // Nobody of this user waits.
    read(&mut bob, "c", &ids[1]).await?;
    let before = alice.clone();
    let events = alice.poll(b.address(), 5.0).await?;
    ensure!(events.len() == 1 && events[0]["type"] == "read_receipt", "{events:?}");
    ensure!(events[0]["payload"]["user_id"] == "bob" && events[0]["id"] == 4, "{events:?}");
    ensure!(events[0]["payload"]["message_ids"] == json!(ids[..2]), "{events:?}");
    ensure!(events[0]["channel"] == "conversation:c", "{events:?}");
    // Asked again, elsewhere: the same.
    let mut again = before.clone();
    ensure!(again.poll(a.address(), 0.0).await? == events, "{:?}", again.events);
    // While a poll waits it is told at once, and once.
    let waiting = {
        let (poller, address) = (alice.clone(), a.address().to_owned());
        tokio::spawn(async move { poller.ask(&address, 8.0).await })
    };
    until_listening(&a).await?;
    read(&mut bob, "c", &ids[2]).await?;
    let events = alice.take(&waiting.await??)?;
    ensure!(events.len() == 1 && events[0]["payload"]["message_ids"] == json!([ids[2]]), "{events:?}");
    ensure!(alice.poll(b.address(), 0.0).await?.is_empty(), "told twice: {:?}", alice.events.last());
    ensure!(alice.ids() == (1..=5).collect::<Vec<_>>(), "{:?}", alice.ids());
    Ok(())
}

#[tokio::test]
async fn what_was_read_before_the_first_poll_is_no_news() -> Result<()> {
    let node = Gateway::start(Options::brief().env("PARLANCE_NO_LIMITS", "true")).await?;
    conversation(&node, "c", &["alice", "bob"]).await?;
    let mut bob = Client::on(&node, "bob", "conversation:c").await?;
    say(&node, "c", "alice", "one").await?;
    let id = bob.hear("message").await?["id"].clone();
    read(&mut bob, "c", &id).await?;
    let mut alice = Poller::new("alice")?;
    alice.poll(node.address(), 0.0).await?;
    ensure!(alice.texts() == ["one"] && alice.events.len() == 1, "{:?}", alice.events);
    Ok(())
}

#[tokio::test]
async fn who_polls_is_online_and_a_status_set_on_a_socket_stands() -> Result<()> {
    let short = Options::brief().env("PARLANCE_NO_LIMITS", "true").config(QUICK);
    let node = Gateway::start(short).await?;
    let mut alice = Poller::new("alice")?;
    until_status(&node, "alice", "offline").await?;
    alice.poll(node.address(), 0.0).await?;
    until_status(&node, "alice", "online").await?;
    until_devices(&node, "alice", 1).await?;
    // Polls are one device, however many they are.
    alice.poll(node.address(), 0.0).await?;
    until_devices(&node, "alice", 1).await?;
    // Five seconds without another poll.
    until_status(&node, "alice", "offline").await?;
    let mut socket = Client::connect(&node, "alice").await?;
    socket.be("away").await?;
    alice.poll(node.address(), 0.0).await?;
    until_status(&node, "alice", "away").await?;
    until_devices(&node, "alice", 1).await?;
    Ok(())
}

#[tokio::test]
async fn closing_a_users_connections_ends_the_polls_that_wait_on_every_node() -> Result<()> {
    let redis = Server::standalone().await?;
    let [a, b] = nodes::<2>(&redis, &unlimited()).await?;
    let alice = Poller::new("alice")?;
    let wait = |node: &Gateway| {
        let (poller, address) = (alice.clone(), node.address().to_owned());
        tokio::spawn(async move { poller.ask(&address, 9.0).await })
    };
    let waiting = [wait(&a), wait(&b)];
    until_listening(&a).await?;
    until_listening(&b).await?;
    until_status(&a, "alice", "online").await?;
    let asked = std::time::Instant::now();
    a.call("POST", "/api/v1/users/alice/disconnect", Some(&json!({ "reason": "enough" }))).await?;
    for waiting in waiting {
        let answer = waiting.await??;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(answer.json()?["events"].as_array().context("no events")?.is_empty(), "{answer:?}");
    }
    ensure!(asked.elapsed() < std::time::Duration::from_secs(4), "it took {:?}", asked.elapsed());
    until_waiting(&a, 0).await?;
    until_status(&b, "alice", "offline").await
}
