//! SocialHub: coming back. The stock client does not subscribe again after a reconnect, so the gateway does.

use crate::support::{
    Client, conversation, fresh_token, gateway, notify, publish, until_devices, until_status,
};
use anyhow::{Context, Result, ensure};
use parlance_tests::{Gateway, Options};
use serde_json::{Value, json};

const ROOM: &str = "conversation:room";

/// Ends a connection without a goodbye, and waits until the node has noticed.
async fn cut(gateway: &Gateway, client: Client) -> Result<String> {
    let Client { user, token, ws, .. } = client;
    drop(ws);
    until_devices(gateway, &user, 0).await?;
    Ok(token)
}

/// What a client shows of these frames: each id once. A repetition must be the same event.
fn shown(frames: Vec<Value>) -> Result<Vec<Value>> {
    let mut unique: Vec<Value> = Vec::new();
    for frame in frames {
        match unique.iter().find(|known| known["id"] == frame["id"]) {
            Some(known) => ensure!(*known == frame, "{known} came back as {frame}"),
            None => unique.push(frame),
        }
    }
    Ok(unique)
}

fn ids(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["id"].as_str()).collect()
}

#[tokio::test]
async fn what_was_missed_comes_in_order_each_once_and_then_what_is_new() -> Result<()> {
    let options = Options::brief().env("PARLANCE_LIMITS_RATES", "false");
    let gateway = Gateway::start(options).await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let mut sent = Vec::new();
    for n in 0..3 {
        sent.push(bob.say("room", &format!("before {n}")).await?);
    }
    let mut frames = alice.all_before_now(&gateway).await?;
    assert_eq!(ids(&frames), sent);

    let token = cut(&gateway, alice).await?;
    for n in 0..250 {
        // More than is read from the log at once.
        sent.push(bob.say("room", &format!("missed {n}")).await?);
    }
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    sent.push(bob.say("room", "live").await?);
    while frames.last().is_none_or(|frame| frame["payload"]["content"] != "live") {
        frames.push(alice.hear("message").await?);
    }
    let frames = shown(frames)?;
    assert_eq!(ids(&frames), sent);
    let seqs: Vec<u64> = frames.iter().filter_map(|frame| frame["seq"].as_u64()).collect();
    assert_eq!(seqs.len(), frames.len());
    ensure!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
    Ok(())
}

#[tokio::test]
async fn what_was_replayed_but_never_read_is_replayed_again_also_when_subscribed_to_again() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let token = cut(&gateway, Client::on(&gateway, "alice", ROOM).await?).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let mut sent = Vec::new();
    for n in 0..3 {
        sent.push(bob.say("room", &format!("{n}")).await?);
    }
    notify(&gateway, "alice", "notification", &json!({})).await?;
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    alice.tell("subscribe", json!({ "channel": ROOM })).await?;
    alice.tell("subscribe", json!({ "channel": "notifications" })).await?;
    // Done in order: what the API shows comes after the subscriptions.
    alice.tell("presence", json!({ "status": "away" })).await?;
    until_status(&gateway, "alice", "away").await?;
    let token = cut(&gateway, alice).await?;
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    let frames = alice.all_before_now(&gateway).await?;
    let (messages, others): (Vec<_>, Vec<_>) = frames.into_iter().partition(|f| f["type"] == "message");
    assert_eq!(ids(&messages), sent);
    assert_eq!(others.len(), 1, "{others:?}");
    Ok(())
}

#[tokio::test]
async fn every_kind_of_subscription_is_taken_up_again() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    alice.subscribe("feed:updates").await?;
    alice.subscribe("presence:bob").await?;
    alice.hear("presence").await?;
    let token = cut(&gateway, alice).await?;

    let missed_notification = notify(&gateway, "alice", "notification", &json!({ "n": 1 })).await?;
    let update = json!({ "channel": "feed:updates", "type": "feed_update", "payload": { "n": 2 } });
    let missed_update = publish(&gateway, &update).await?;
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    assert_eq!(alice.hear("notification").await?["id"], missed_notification);
    assert_eq!(alice.hear("feed_update").await?["id"], missed_update);

    // How things stand, for changes of presence are in no log.
    assert_eq!(alice.hear("presence").await?["payload"]["status"], "offline");
    // And live from here on.
    let mut bob = Client::connect(&gateway, "bob").await?;
    assert_eq!(alice.hear("presence").await?["payload"]["status"], "online");
    bob.accepted(json!({ "type": "typing_start", "channel": ROOM })).await?;
    alice.hear("typing_start").await?;
    let live = publish(&gateway, &update).await?;
    assert_eq!(alice.hear("feed_update").await?["id"], live);
    Ok(())
}

#[tokio::test]
async fn a_taken_up_subscription_can_be_given_up() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let token = cut(&gateway, Client::on(&gateway, "alice", ROOM).await?).await?;
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    alice.accepted(json!({ "type": "unsubscribe", "payload": ROOM })).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    bob.say("room", "one").await?;
    alice.heard_nothing(&gateway).await?;
    // For good.
    let token = cut(&gateway, alice).await?;
    bob.say("room", "two").await?;
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    let frames = alice.all_before_now(&gateway).await?;
    ensure!(frames.iter().all(|frame| frame["type"] != "message"), "{frames:?}");
    Ok(())
}

#[tokio::test]
async fn subscriptions_belong_to_user_and_token() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    cut(&gateway, Client::on(&gateway, "alice", ROOM).await?).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    bob.say("room", "missed").await?;
    notify(&gateway, "alice", "notification", &json!({})).await?;
    let mut alice = Client::with_token(&gateway, "alice", fresh_token("alice")?).await?;
    bob.say("room", "live").await?;
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn after_restore_ms_nothing_is_taken_up_any_more() -> Result<()> {
    let options = Options::brief().env("PARLANCE_TIMINGS_RESTORE_MS", "1000");
    let gateway = Gateway::start(options).await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    // Not while the connection lives, however long.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let token = cut(&gateway, alice).await?;
    let id = bob.say("room", "in time").await?;
    alice = Client::with_token(&gateway, "alice", token).await?;
    assert_eq!(alice.hear("message").await?["id"], id);

    let token = cut(&gateway, alice).await?;
    bob.say("room", "too late").await?;
    // The time itself is what is tested.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    bob.say("room", "live").await?;
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn a_conversation_the_user_was_removed_from_meanwhile_is_not_taken_up() -> Result<()> {
    let gateway = gateway().await?;
    for room in ["room", "other"] {
        conversation(&gateway, room, &["alice", "bob"]).await?;
    }
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    alice.subscribe("conversation:other").await?;
    let token = cut(&gateway, alice).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let remove = json!({ "removeMembers": ["alice"] });
    let (status, _) = gateway.api("PATCH", "/api/v1/conversations/room", Some(&remove)).await?;
    assert_eq!(status, 200);
    bob.say("room", "secret").await?;
    let id = bob.say("other", "fine").await?;
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    assert_eq!(ids(&alice.all_before_now(&gateway).await?), [id]);
    Ok(())
}

#[tokio::test]
async fn of_a_conversation_the_user_came_back_to_nothing_of_the_time_between_is_told() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let token = cut(&gateway, Client::on(&gateway, "alice", ROOM).await?).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let change = async |body: Value| {
        let (status, answer) = gateway.api("PATCH", "/api/v1/conversations/room", Some(&body)).await?;
        ensure!(status == 200, "{answer}");
        Ok(())
    };
    change(json!({ "removeMembers": ["alice"] })).await?;
    bob.say("room", "without alice").await?;
    change(json!({ "addMembers": ["alice"] })).await?;
    let id = bob.say("room", "with alice").await?;
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    let frames = alice.all_before_now(&gateway).await?;
    assert_eq!(ids(&frames), [id]);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_ends_after_its_successor_came_changes_nothing() -> Result<()> {
    let gateway = gateway().await?;
    let first = Client::on(&gateway, "alice", "feed:old").await?;
    let mut second = first.again(&gateway).await?;
    second.accepted(json!({ "type": "unsubscribe", "payload": "feed:old" })).await?;
    second.subscribe("feed:new").await?;
    drop(first);
    until_devices(&gateway, "alice", 1).await?;
    let Client { token, ws, .. } = second;
    // The second has no time to say again what it wants.
    drop(ws);
    until_devices(&gateway, "alice", 0).await?;
    let mut third = Client::with_token(&gateway, "alice", token).await?;
    let post = |channel: &str| json!({ "channel": channel, "type": "feed_update", "payload": {} });
    publish(&gateway, &post("feed:old")).await?;
    let id = publish(&gateway, &post("feed:new")).await?;
    let frames = third.all_before_now(&gateway).await?;
    assert_eq!(ids(&frames), [id]);
    Ok(())
}

#[tokio::test]
async fn a_node_that_was_killed_takes_up_subscriptions_all_the_same() -> Result<()> {
    let mut gateway = Gateway::start(Options::default()).await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(bob.say("room", &format!("{n}")).await?);
    }
    gateway.restart().await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    sent.push(bob.say("room", "after").await?);
    // None of it was read before the kill: all of it must come.
    let mut alice = alice.again(&gateway).await?;
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &Value| frame["payload"]["content"] != "after") {
        frames.push(alice.hear("message").await?);
    }
    assert_eq!(ids(&shown(frames)?), sent);
    Ok(())
}

#[tokio::test]
async fn what_the_history_no_longer_holds_is_told() -> Result<()> {
    let options = Options::brief().env("PARLANCE_RETENTION_ENTRIES", "10");
    let gateway = Gateway::start(options).await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let token = cut(&gateway, Client::on(&gateway, "alice", ROOM).await?).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let mut sent = Vec::new();
    for n in 0..40 {
        sent.push(bob.say("room", &format!("{n}")).await?);
    }
    let mut alice = Client::with_token(&gateway, "alice", token).await?;
    let mut frames = alice.all_before_now(&gateway).await?;
    ensure!(!frames.is_empty(), "nothing was taken up");
    let gap = frames.remove(0);
    assert_eq!(gap["type"], "error", "before the rest: {gap}");
    let payload = &gap["payload"];
    assert_eq!(payload["code"], "INTERNAL_ERROR");
    assert_eq!((&payload["details"]["resync"], &payload["details"]["channel"]), (&json!(true), &json!(ROOM)));
    // What is left is told without a further gap.
    let told = ids(&frames);
    let from =
        sent.iter().position(|id| Some(id.as_str()) == told.first().copied()).context("none is left")?;
    assert_eq!(told, sent[from..]);
    ensure!(from > 0, "nothing was lost: the test shows nothing");
    Ok(())
}
