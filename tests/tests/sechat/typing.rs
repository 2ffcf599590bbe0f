//! SeChat: who hears of typing, and when it ends by itself.

use std::time::Duration;

use crate::support::{connect, gateway, is_message, message, pair, refused, send, until, within};
use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options, Ws};
use serde_json::{Value, json};
use tokio::time::Instant;

fn typing(conversation: &str, on: bool, to: &[&str]) -> Value {
    json!({"type": "typing", "conversationId": conversation, "isTyping": on, "toUserIds": to})
}

/// The typing updates among frames, as `user on`.
fn updates(frames: &[Value]) -> Vec<String> {
    let told = frames.iter().filter(|f| f["type"] == "typing:update");
    told.map(|f| format!("{} {}", f["fromUserId"].as_str().unwrap_or("-"), f["isTyping"])).collect()
}

/// The typing updates a socket hears before a message that is sent now.
async fn before_message(from: &mut Ws, to: &mut Ws, id: &str) -> Result<Vec<String>> {
    send(from, &message(id, "c", &[])).await?;
    Ok(updates(&until(to, |f| is_message(f, id)).await?))
}

#[tokio::test]
async fn typing_is_told_to_the_others_with_its_conversation() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    alice.send(&typing("c", true, &[])).await?;
    let update = bob.next().await?;
    ensure!(update["type"] == "typing:update" && update["conversationId"] == "c", "{update}");
    ensure!(update["fromUserId"] == "alice" && update["isTyping"] == true, "{update}");
    ensure!(update["timestamp"].is_string(), "{update}");
    alice.send(&typing("c", false, &[])).await?;
    ensure!(bob.expect("typing:update").await?["isTyping"] == false);
    ensure!(
        before_message(&mut bob, &mut alice, "fence").await?.is_empty(),
        "the typist does not hear herself"
    );
    Ok(())
}

#[tokio::test]
async fn heartbeats_are_not_told_again_and_neither_is_a_second_stop() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    for on in [false, true, true, true, false, false] {
        alice.send(&typing("c", on, &[])).await?;
    }
    let heard = before_message(&mut alice, &mut bob, "fence").await?;
    ensure!(heard == ["alice true", "alice false"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn the_aliases_start_and_stop_mean_the_same() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    for kind in ["typing:start", "typing:stop"] {
        alice.send(&json!({"type": kind, "conversationId": "c", "fromUserId": "alice"})).await?;
    }
    let heard = before_message(&mut alice, &mut bob, "fence").await?;
    ensure!(heard == ["alice true", "alice false"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn typing_ends_four_seconds_after_the_last_heartbeat() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    alice.send(&typing("c", true, &[])).await?;
    ensure!(bob.expect("typing:update").await?["isTyping"] == true);
    bob.assert_silent(Duration::from_millis(2_000)).await?;
    let heartbeat = Instant::now();
    alice.send(&typing("c", true, &[])).await?;
    let stop = bob.expect("typing:update").await?;
    let took = heartbeat.elapsed();
    ensure!(stop["isTyping"] == false && stop["fromUserId"] == "alice", "{stop}");
    ensure!(took >= Duration::from_secs(4) && took <= Duration::from_secs(5), "{took:?}");
    bob.assert_silent(Duration::from_millis(700)).await?;
    Ok(())
}

#[tokio::test]
async fn typing_ends_when_the_typist_is_gone() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_TIMINGS_TYPING_TTL_MS", "800")).await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    alice.send(&typing("c", true, &[])).await?;
    ensure!(bob.expect("typing:update").await?["isTyping"] == true);
    drop(alice);
    let heard = until(&mut bob, |f| f["type"] == "typing:update").await?;
    ensure!(updates(&heard) == ["alice false"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn typing_before_the_first_message_reaches_those_it_names() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_TIMINGS_TYPING_TTL_MS", "1500")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    let mut carol = connect(&gateway, "carol").await?;
    let asked = Instant::now();
    alice.send(&typing("not-yet", true, &["bob"])).await?;
    let start = bob.expect("typing:update").await?;
    ensure!(start["conversationId"] == "not-yet" && start["isTyping"] == true, "{start}");
    let stop = bob.expect("typing:update").await?;
    ensure!(stop["isTyping"] == false && asked.elapsed() >= Duration::from_millis(1500), "by itself: {stop}");
    send(&mut alice, &message("hello", "other", &["carol"])).await?;
    let heard = until(&mut carol, |f| is_message(f, "hello")).await?;
    ensure!(updates(&heard).is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn in_a_conversation_only_the_named_members_hear_it() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut carol = connect(&gateway, "carol").await?;
    let mut mallory = connect(&gateway, "mallory").await?;
    let addition = json!({"addMembers": ["carol"]});
    let (status, body) = gateway.api("PATCH", "/api/v1/conversations/c", Some(&addition)).await?;
    ensure!(status == 200, "{status} {body}");
    send(&mut alice, &message("welcome", "c", &[])).await?;
    until(&mut carol, |f| is_message(f, "welcome")).await?;
    until(&mut bob, |f| is_message(f, "welcome")).await?;
    alice.send(&typing("c", true, &["bob", "mallory"])).await?;
    alice.send(&typing("c", false, &["bob", "mallory"])).await?;
    send(&mut alice, &message("fence", "c", &[])).await?;
    let heard = updates(&until(&mut bob, |f| is_message(f, "fence")).await?);
    ensure!(heard == ["alice true", "alice false"], "{heard:?}");
    let heard = updates(&until(&mut carol, |f| is_message(f, "fence")).await?);
    ensure!(heard.is_empty(), "not named: {heard:?}");
    send(&mut alice, &message("hello", "other", &["mallory"])).await?;
    let heard = updates(&until(&mut mallory, |f| is_message(f, "hello")).await?);
    ensure!(heard.is_empty(), "named, but not a member: {heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_stranger_may_not_type_in_a_conversation() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut mallory = connect(&gateway, "mallory").await?;
    mallory.send(&typing("c", true, &["bob"])).await?;
    refused(&mut mallory, "FORBIDDEN", "typing").await?;
    let heard = before_message(&mut alice, &mut bob, "fence").await?;
    ensure!(heard.is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn two_typists_are_told_and_end_apart() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_TIMINGS_TYPING_TTL_MS", "1000")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    let mut carol = connect(&gateway, "carol").await?;
    send(&mut alice, &message("m-1", "c", &["bob", "carol"])).await?;
    for socket in [&mut bob, &mut carol] {
        until(socket, |f| is_message(f, "m-1")).await?;
    }
    bob.send(&typing("c", true, &[])).await?;
    within(&mut alice, Duration::from_secs(5), |f| f["fromUserId"] == "bob" && f["isTyping"] == true).await?;
    carol.send(&typing("c", true, &[])).await?;
    carol.send(&typing("c", false, &[])).await?;
    let heard = until(&mut alice, |f| f["fromUserId"] == "bob" && f["isTyping"] == false).await?;
    ensure!(updates(&heard) == ["carol true", "carol false", "bob false"], "{heard:?}");
    Ok(())
}
