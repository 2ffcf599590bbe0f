//! famly: who is told that somebody came or went, and how often.

use std::time::Duration;

use crate::support::{CHAT, World, as_user, heard, left_over, ok, settled};
use anyhow::{Result, ensure};
use parlance_tests::exact::{is_time, keys};
use parlance_tests::{Options, StockSocket, Transports};
use serde_json::{Value, json};
use tokio::time::Instant;

const BRIEF: &str = "presence_throttle_ms = 50";

/// The next word of somebody's presence: whose and what.
async fn told(socket: &StockSocket) -> Result<(String, String)> {
    let update = heard(socket, "presence:update").await?;
    ensure!(keys(&update) == ["status", "timestamp", "userId"] && is_time(&update["timestamp"]), "{update}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok((text(&update["userId"]), text(&update["status"])))
}

fn is(user: &str, status: &str) -> (String, String) {
    (user.to_owned(), status.to_owned())
}

#[tokio::test]
async fn presence_update_goes_to_contacts_only() -> Result<()> {
    let world = World::mounted(BRIEF).await?;
    world.chat("c3", &["mallory", "dave"]).await?;
    let (bob, mallory) = (world.user("bob").await?, world.user("mallory").await?);
    // Joined in a room or not makes no difference.
    let carol = world.inside("carol").await?;
    assert_eq!(told(&bob).await?, is("carol", "online"));
    let alice = world.inside("alice").await?;
    for contact in [&bob, &carol] {
        assert_eq!(told(contact).await?, is("alice", "online"));
    }
    alice.disconnect()?;
    for contact in [&bob, &carol] {
        assert_eq!(told(contact).await?, is("alice", "offline"));
    }
    ensure!(left_over(&alice).await?.is_empty(), "nobody is told of oneself, and nothing is told on connect");
    // Mallory shares no chat with alice, and one with dave.
    let _dave = world.user("dave").await?;
    assert_eq!(told(&mallory).await?, is("dave", "online"), "the first she hears");
    bob.assert_none("presence:update").await?;
    Ok(())
}

#[tokio::test]
async fn a_contact_of_two_chats_is_told_once() -> Result<()> {
    let world = World::mounted(BRIEF).await?;
    world.chat("c3", &["alice", "bob"]).await?;
    let bob = world.user("bob").await?;
    let alice = world.user("alice").await?;
    assert_eq!(told(&bob).await?, is("alice", "online"));
    alice.disconnect()?;
    assert_eq!(told(&bob).await?, is("alice", "offline"), "and not online twice");
    Ok(())
}

#[tokio::test]
async fn a_user_is_online_while_any_device_is_connected() -> Result<()> {
    let world = World::mounted(BRIEF).await?;
    let bob = world.user("bob").await?;
    let phone = world.user("alice").await?;
    let tablet = world.open(as_user("alice", Transports::Polling)?)?;
    tablet.expect_connect().await?;
    settled(&tablet).await?;
    assert_eq!(told(&bob).await?, is("alice", "online"));
    phone.disconnect()?;
    world.gateway.until_presence("alice", "devices", 1).await?;
    // Later than what would have been said of alice by now.
    let carol = world.user("carol").await?;
    assert_eq!(
        told(&bob).await?,
        is("carol", "online"),
        "the second device and the end of the first are no news"
    );
    tablet.disconnect()?;
    world.gateway.until_presence("alice", "devices", 0).await?;
    assert_eq!(told(&bob).await?, is("alice", "offline"));
    drop(carol);
    Ok(())
}

#[tokio::test]
async fn presence_is_told_once_in_2_seconds_first_at_once_and_last_at_the_end() -> Result<()> {
    const THROTTLE: Duration = Duration::from_secs(2);
    let world = World::shipped().await?;
    let bob = world.user("bob").await?;
    let before = Instant::now();
    let alice = world.user("alice").await?;
    assert_eq!(told(&bob).await?, is("alice", "online"));
    let online = Instant::now();
    ensure!(online - before < Duration::from_millis(1500), "the leading edge waits for nothing");
    alice.disconnect()?;
    assert_eq!(told(&bob).await?, is("alice", "offline"), "the final state is never dropped");
    let (at_least, at_most) = (before.elapsed(), online.elapsed());
    ensure!(at_least >= THROTTLE, "only {at_least:?} after the last word");
    ensure!(at_most < THROTTLE * 2, "{at_most:?} is no trailing edge");
    Ok(())
}

#[tokio::test]
async fn rapid_connects_and_disconnects_are_one_word_and_the_last_state() -> Result<()> {
    let world = World::mounted("presence_throttle_ms = 1500").await?;
    let bob = world.user("bob").await?;
    for round in 0..3 {
        let alice = world.user("alice").await?;
        if round == 0 {
            assert_eq!(told(&bob).await?, is("alice", "online"));
        }
        alice.disconnect()?;
        world.gateway.until_presence("alice", "devices", 0).await?;
    }
    bob.assert_none("presence:update").await?;
    assert_eq!(told(&bob).await?, is("alice", "offline"));
    // A flap that ends where it began is no news at all.
    let alice = world.user("alice").await?;
    assert_eq!(told(&bob).await?, is("alice", "online"));
    alice.disconnect()?;
    world.gateway.until_presence("alice", "devices", 0).await?;
    let alice = world.user("alice").await?;
    let begun = Instant::now();
    let carol = world.user("carol").await?;
    assert_eq!(told(&bob).await?, is("carol", "online"), "each user has a throttle of its own");
    carol.disconnect()?;
    assert_eq!(
        told(&bob).await?,
        is("carol", "offline"),
        "at the end of carol's time, which is later than alice's"
    );
    ensure!(begun.elapsed() > Duration::from_millis(1000), "carol's time was not waited for");
    bob.assert_none("presence:update").await?;
    drop(alice);
    Ok(())
}

#[tokio::test]
async fn presence_ping_is_acked_with_the_servers_time() -> Result<()> {
    let world = World::shipped().await?;
    let alice = world.user("alice").await?;
    for args in [&[json!({})] as &[Value], &[], &[json!({ "x": 1 })]] {
        let acks = alice.emit_ack("presence:ping", args).await?;
        let data = crate::support::done(&acks)?;
        ensure!(keys(&data) == ["serverTime"] && is_time(&data["serverTime"]), "{data}");
    }
    let first = ok(&alice, "presence:ping", json!({})).await?;
    // The times are compared to the millisecond.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = ok(&alice, "presence:ping", json!({})).await?;
    let (_, known) = world.gateway.api("GET", "/api/v1/users/alice/presence", None).await?;
    ensure!(known["lastSeen"].as_str() > first["serverTime"].as_str(), "the ping was seen: {known}");
    ensure!(first["serverTime"].as_str() < second["serverTime"].as_str(), "{first} {second}");
    let sent = crate::support::send(&alice, &crate::support::message("m")).await?;
    let (_, page) = world.backfill("alice", "c1/messages").await?;
    let stored = &page["messages"][0];
    ensure!(stored["_id"] == sent.as_str(), "{page}");
    ensure!(stored["createdAt"].as_str() >= second["serverTime"].as_str(), "the clock of messages: {stored}");
    Ok(())
}

#[tokio::test]
async fn a_silent_connection_goes_offline_and_presence_ping_brings_it_back() -> Result<()> {
    let timings = "[timings]\npresence_ttl_ms = 1000\npresence_refresh_ms = 300\nsweep_ms = 100\n";
    let config = format!("{}{timings}", crate::support::mount(&format!("{BRIEF}\nping_interval_ms = 300")));
    let world = World::start(Options::brief().config(&config)).await?;
    let (bob, alice) = (world.user("bob").await?, world.inside("alice").await?);
    assert_eq!(told(&bob).await?, is("alice", "online"));
    // It answers no heartbeat any more, and has far longer than its presence lasts before that closes it.
    alice.pause()?;
    assert_eq!(told(&bob).await?, is("alice", "offline"));
    let ping = alice.emit_tagged("presence:ping", &[json!({})])?;
    assert_eq!(told(&bob).await?, is("alice", "online"));
    alice.resume()?;
    crate::support::done(&alice.acked(ping).await?)?;
    // It was the same connection all the time.
    world.say(CHAT, "carol", "still heard").await?;
    assert_eq!(heard(&alice, "message:new").await?["body"], "still heard");
    Ok(())
}

#[tokio::test]
async fn a_new_contact_is_heard_of_from_then_on() -> Result<()> {
    let world = World::mounted(BRIEF).await?;
    let (bob, dave) = (world.user("bob").await?, world.user("dave").await?);
    bob.assert_none("presence:update").await?;
    world.change(&json!({ "addMembers": ["dave"] })).await?;
    for socket in [&bob, &dave] {
        heard(socket, "chat:member-added").await?;
        // Becoming contacts goes on beside the telling: a chat's join waits for it.
        crate::support::join(socket, CHAT).await?;
        settled(socket).await?;
    }
    dave.disconnect()?;
    assert_eq!(told(&bob).await?, is("dave", "offline"));
    let _carol = world.user("carol").await?;
    assert_eq!(told(&bob).await?, is("carol", "online"));
    Ok(())
}
