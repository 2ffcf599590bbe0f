//! famly: who is told that somebody types, and for how long.

use std::time::Duration;

use crate::support::{CHAT, World, caught_up, heard, heard_until, message, send};
use anyhow::{Result, ensure};
use parlance_tests::Options;
use serde_json::{Value, json};
use tokio::time::Instant;

fn chat() -> [Value; 1] {
    [json!({ "chatId": CHAT })]
}

fn update(user: &str, state: &str) -> Value {
    json!({ "chatId": CHAT, "userId": user, "state": state })
}

#[tokio::test]
async fn typing_start_and_stop_are_told_to_the_room_but_not_to_the_sender() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let carol = world.user("carol").await?;
    alice.emit("typing:start", &chat())?;
    assert_eq!(heard(&bob, "typing:update").await?, update("alice", "start"));
    alice.emit("typing:stop", &chat())?;
    assert_eq!(heard(&bob, "typing:update").await?, update("alice", "stop"));
    bob.emit("typing:start", &chat())?;
    assert_eq!(
        heard(&alice, "typing:update").await?,
        update("bob", "start"),
        "and nothing of its own before"
    );
    for socket in [&alice, &carol] {
        caught_up(&world, socket, (CHAT, "bob")).await?;
        socket.assert_none("typing:update").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stop_without_a_start_and_a_repeated_start_are_not_told() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    alice.emit("typing:stop", &chat())?;
    for _ in 0..5 {
        alice.emit("typing:start", &chat())?;
    }
    alice.emit("typing:stop", &chat())?;
    let heard = heard_until(&bob, "typing:update", |u| u["state"] == "stop").await?;
    assert_eq!(heard, [update("alice", "start"), update("alice", "stop")]);
    Ok(())
}

#[tokio::test]
async fn typing_of_a_non_member_is_silently_ignored() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob, mallory) =
        (world.user("alice").await?, world.inside("bob").await?, world.user("mallory").await?);
    for event in ["typing:start", "typing:stop"] {
        mallory.emit(event, &chat())?;
        // Who asks for an ack is not told either that this did nothing.
        assert_eq!(mallory.emit_ack(event, &chat()).await?, [json!({ "ok": true })]);
        let unknown = mallory.emit_ack(event, &[json!({ "chatId": "nowhere" })]).await?;
        assert_eq!(unknown, [json!({ "ok": true })]);
    }
    send(&alice, &message("m")).await?;
    heard(&bob, "message:new").await?;
    bob.assert_none("typing:update").await?;
    assert_eq!(mallory.queued().await?, [], "nothing was said to who is no member");
    Ok(())
}

#[tokio::test]
async fn typing_stops_by_itself_after_the_ttl() -> Result<()> {
    const TTL: Duration = Duration::from_millis(700);
    let world = World::start(Options::brief().config("[timings]\ntyping_ttl_ms = 700\n")).await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let begun = Instant::now();
    alice.emit("typing:start", &chat())?;
    assert_eq!(heard(&bob, "typing:update").await?, update("alice", "start"));
    let told = Instant::now();
    assert_eq!(heard(&bob, "typing:update").await?, update("alice", "stop"));
    let (at_least, at_most) = (begun.elapsed(), told.elapsed());
    ensure!(at_least >= TTL && at_most < TTL + Duration::from_millis(1500), "{at_least:?} {at_most:?}");
    // The stop that comes late is not told twice, and the next start is a new one.
    alice.emit("typing:stop", &chat())?;
    alice.emit("typing:start", &chat())?;
    assert_eq!(heard(&bob, "typing:update").await?, update("alice", "start"));
    Ok(())
}

#[tokio::test]
async fn typing_of_somebody_whose_connection_breaks_stops_by_itself() -> Result<()> {
    let world = World::start(Options::brief().config("[timings]\ntyping_ttl_ms = 700\n")).await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    alice.emit("typing:start", &chat())?;
    assert_eq!(heard(&bob, "typing:update").await?, update("alice", "start"));
    alice.disconnect()?;
    assert_eq!(heard(&bob, "typing:update").await?, update("alice", "stop"));
    Ok(())
}
