//! SeChat and SocialHub in one conversation, both directions.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options, Ws};
use serde_json::{Value, json};

struct Pair {
    gateway: Gateway,
    /// On sechat.
    alice: Ws,
    /// On socialhub, subscribed to the conversation and to presence.
    bob: Ws,
}

fn to_bob(id: &str, body: &str) -> Value {
    json!({"type": "message:send", "messageId": id, "conversationId": "both", "toUserIds": ["bob"], "body": body})
}

/// alice has opened the conversation with a first message; bob listens.
async fn pair() -> Result<Pair> {
    let gateway = Gateway::start(Options::default()).await?;
    let mut alice = gateway.connect("/sechat", "alice").await?;
    alice.send(&to_bob("first", "opening")).await?;
    alice.expect("message:acked").await?;
    let mut bob = gateway.connect("/ws", "bob").await?;
    for (ack, channel) in [("1", "conversation:both"), ("2", "presence")] {
        bob.send(&json!({"type": "subscribe", "payload": {"channel": channel}, "ack_id": ack})).await?;
        ensure!(bob.expect("ack").await?["payload"]["success"] == true, "subscribed to {channel}");
    }
    alice.expect("presence:update").await?;
    Ok(Pair { gateway, alice, bob })
}

#[tokio::test]
async fn a_body_goes_both_ways_with_ids_that_mean_the_same() -> Result<()> {
    let mut p = pair().await?;
    p.alice.send(&to_bob("m-1", "grüße 👋 <b>&\"\\")).await?;
    p.alice.expect("message:acked").await?;
    let heard = p.bob.expect("message").await?;
    ensure!(heard["payload"]["content"] == "grüße 👋 <b>&\"\\", "unchanged: {heard}");
    ensure!(heard["payload"]["sender_id"] == "alice" && heard["payload"]["client_id"] == "m-1", "{heard}");
    ensure!(heard["seq"].is_u64(), "an integer of bob's own: {heard}");

    p.bob
        .send(&json!({"type": "message", "channel": "conversation:both", "payload": {"content": "back"}, "ack_id": "9"}))
        .await?;
    let acked = p.bob.expect("ack").await?;
    let received = p.alice.expect("message:received").await?;
    ensure!(received["body"] == "back" && received["fromUserId"] == "bob", "{received}");
    ensure!(
        received["messageId"].as_str().is_some_and(|id| id.starts_with("msg_")),
        "a server id: {received}"
    );
    ensure!(acked["payload"]["data"]["message_id"].is_string(), "{acked}");
    p.alice.expect("message:delivered").await?;
    Ok(())
}

#[tokio::test]
async fn ticks_cross_over() -> Result<()> {
    let mut p = pair().await?;
    p.alice.send(&to_bob("m-1", "read me")).await?;
    p.alice.expect("message:acked").await?;
    let id = p.bob.expect("message").await?["payload"]["id"].clone();
    p.bob
        .send(&json!({"type": "read_receipt", "payload": {"conversation_id": "both", "message_ids": [id]}}))
        .await?;
    // Reading implies delivery: the author hears both, in order, for the opening message too.
    for message in ["first", "m-1"] {
        let tick = p.alice.expect("message:delivered").await?;
        ensure!(tick["messageId"] == message && tick["byUserId"] == "bob", "{tick}");
    }
    for message in ["first", "m-1"] {
        let tick = p.alice.expect("message:read").await?;
        ensure!(tick["messageId"] == message && tick["byUserId"] == "bob", "{tick}");
    }

    p.bob
        .send(&json!({"type": "message", "channel": "conversation:both", "payload": {"content": "x"}}))
        .await?;
    let received = p.alice.expect("message:received").await?;
    p.alice
        .send(&json!({"type": "receipt:read", "messageId": received["messageId"], "toUserId": "bob"}))
        .await?;
    let receipt = p.bob.expect("read_receipt").await?;
    ensure!(receipt["payload"]["user_id"] == "alice", "{receipt}");
    ensure!(receipt["payload"]["message_ids"].as_array().is_some_and(|ids| ids.len() == 1), "{receipt}");
    Ok(())
}

#[tokio::test]
async fn typing_crosses_over_and_ends_by_itself() -> Result<()> {
    let mut p = pair().await?;
    p.alice.send(&json!({"type": "typing", "conversationId": "both", "isTyping": true})).await?;
    let started = p.bob.expect("typing_start").await?;
    ensure!(started["payload"]["user_id"] == "alice" && started["payload"]["is_typing"] == true, "{started}");
    let stopped = p.bob.expect("typing_stop").await?;
    ensure!(stopped["payload"]["is_typing"] == false, "{stopped}");

    p.bob.send(&json!({"type": "typing_start", "payload": {"conversation_id": "both"}})).await?;
    ensure!(p.alice.expect("typing:update").await?["isTyping"] == true, "started");
    p.bob.send(&json!({"type": "typing_stop", "payload": {"conversation_id": "both"}})).await?;
    ensure!(p.alice.expect("typing:update").await?["isTyping"] == false, "stopped");
    p.alice.assert_silent(Duration::from_millis(300)).await
}

#[tokio::test]
async fn presence_crosses_over() -> Result<()> {
    let mut p = pair().await?;
    let carol = p.gateway.connect("/sechat", "carol").await?;
    let online = p.bob.expect("presence").await?;
    ensure!(online["payload"]["user_id"] == "carol" && online["payload"]["status"] == "online", "{online}");
    carol.close(1000).await?;
    let offline = p.bob.expect("presence").await?;
    ensure!(offline["payload"]["status"] == "offline", "socialhub hears at once: {offline}");

    p.alice.expect("presence:update").await?;
    let dave = p.gateway.connect("/ws", "dave").await?;
    let seen = p.alice.expect("presence:update").await?;
    ensure!(seen["sessionId"] == "dave" && seen["isOnline"] == true, "{seen}");
    dave.close(1000).await
}

#[tokio::test]
async fn one_user_with_devices_in_both_dialects() -> Result<()> {
    let mut p = pair().await?;
    let mut phone = p.gateway.connect("/sechat", "bob").await?;
    let backlog = phone.expect("message:received").await?;
    ensure!(backlog["messageId"] == "first" && backlog["wasQueued"] == true, "{backlog}");
    p.alice.send(&to_bob("m-1", "to both")).await?;
    ensure!(phone.expect("message:received").await?["messageId"] == "m-1", "the phone");
    ensure!(p.bob.expect("message").await?["payload"]["client_id"] == "m-1", "the browser");
    // What the phone says, the browser shows too, and the phone hears no echo.
    phone
        .send(&json!({"type": "message:send", "messageId": "p-1", "conversationId": "both", "body": "from the phone"}))
        .await?;
    ensure!(p.bob.expect("message").await?["payload"]["sender_id"] == "bob", "the browser shows it");
    phone.expect("message:acked").await?;
    phone.assert_silent(Duration::from_millis(300)).await
}
