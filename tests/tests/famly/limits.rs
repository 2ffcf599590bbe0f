//! famly: how many messages, in which time, and what counts.

use std::time::Duration;

use crate::support::{CHAT, OTHER, World, done, heard, message, send};
use anyhow::{Result, ensure};
use parlance_tests::{PATIENCE, StockSocket};
use serde_json::json;
use tokio::time::Instant;

/// A window no test outlives.
const LONG: &str = "messages = { limit = 3, window_ms = 60000 }";

/// Sends new messages until one is accepted: when that was asked and when it was answered, and how often it was
/// refused before.
async fn insist(socket: &StockSocket, name: &str) -> Result<(Instant, Instant, usize)> {
    let begun = Instant::now();
    for attempt in 0.. {
        let asked = Instant::now();
        let acks = socket.emit_ack("message:send", &[message(&format!("{name}-{attempt}"))]).await?;
        if acks[0]["ok"] == true {
            return Ok((asked, Instant::now(), attempt));
        }
        ensure!(acks[0]["error"] == "RATE_LIMITED", "{acks:?}");
        ensure!(begun.elapsed() < PATIENCE, "refused for ever");
    }
    unreachable!("attempts do not end")
}

#[tokio::test]
async fn rate_limited_beyond_10_messages_per_10_seconds() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let tags: Vec<_> = (0..15)
        .map(|n| alice.emit_tagged("message:send", &[message(&format!("m{n}"))]))
        .collect::<Result<_>>()?;
    for (n, tag) in tags.into_iter().enumerate() {
        let acks = alice.acked(tag).await?;
        if n < 10 {
            done(&acks)?;
            assert_eq!(heard(&bob, "message:new").await?["clientId"], format!("m{n}"));
        } else {
            let said = world.is_refusal(&acks, "message:send", "RATE_LIMITED").await?;
            assert_eq!(said, "Maximum 10 messages per 10 seconds");
        }
    }
    // What was refused was not said.
    send(&bob, &message("from bob")).await?;
    assert_eq!(
        heard(&bob, "message:new").await?["clientId"],
        "from bob",
        "and others have budgets of their own"
    );
    Ok(())
}

#[tokio::test]
async fn the_budget_is_one_over_all_sockets_and_chats_of_a_user() -> Result<()> {
    let world = World::mounted(LONG).await?;
    let (phone, tablet) = (world.user("alice").await?, world.user("alice").await?);
    send(&phone, &message("m0")).await?;
    send(&tablet, &message("m1")).await?;
    send(&phone, &json!({ "chatId": OTHER, "body": "b", "clientId": "m2" })).await?;
    for socket in [&phone, &tablet] {
        let said = world.refused(socket, "message:send", &[message("m3")], "RATE_LIMITED").await?;
        assert_eq!(said, "Maximum 3 messages per 60 seconds");
    }
    // A new connection is no new budget.
    let third = world.user("alice").await?;
    world.refused(&third, "message:send", &[message("m3")], "RATE_LIMITED").await?;
    Ok(())
}

#[tokio::test]
async fn a_resend_with_a_known_client_id_consumes_no_budget() -> Result<()> {
    let world = World::mounted(LONG).await?;
    let alice = world.user("alice").await?;
    let first = send(&alice, &message("m0")).await?;
    for _ in 0..10 {
        assert_eq!(send(&alice, &message("m0")).await?, first);
    }
    send(&alice, &message("m1")).await?;
    send(&alice, &message("m2")).await?;
    world.refused(&alice, "message:send", &[message("m3")], "RATE_LIMITED").await?;
    // And is no refusal when there is none left.
    assert_eq!(send(&alice, &message("m0")).await?, first);
    world.refused(&alice, "message:send", &[message("m3")], "RATE_LIMITED").await?;
    Ok(())
}

#[tokio::test]
async fn message_send_is_validated_first_then_limited_then_membership_counts() -> Result<()> {
    let world = World::mounted(LONG).await?;
    let alice = world.user("alice").await?;
    let ill_formed = json!({ "chatId": "nowhere", "body": "", "clientId": "x" });
    let foreign = json!({ "chatId": "nowhere", "body": "b", "clientId": "x" });
    for _ in 0..5 {
        world.refused(&alice, "message:send", std::slice::from_ref(&ill_formed), "VALIDATION_ERROR").await?;
    }
    world.refused(&alice, "message:send", std::slice::from_ref(&foreign), "FORBIDDEN").await?;
    for n in 0..3 {
        send(&alice, &message(&format!("m{n}"))).await?;
    }
    world.refused(&alice, "message:send", &[foreign], "RATE_LIMITED").await?;
    world.refused(&alice, "message:send", &[ill_formed], "VALIDATION_ERROR").await?;
    Ok(())
}

#[tokio::test]
async fn refused_attempts_do_not_extend_the_window() -> Result<()> {
    const WINDOW: Duration = Duration::from_millis(1200);
    let world = World::mounted("messages = { limit = 2, window_ms = 1200 }").await?;
    let alice = world.user("alice").await?;
    let begun = Instant::now();
    send(&alice, &message("m0")).await?;
    send(&alice, &message("m1")).await?;
    // Refused all the time, and yet let through when the window has passed.
    let (_, accepted, refused) = insist(&alice, "more").await?;
    ensure!(refused >= 5, "only {refused} attempts were refused: this shows nothing");
    let waited = accepted - begun;
    ensure!(waited >= WINDOW, "accepted after {waited:?}");
    ensure!(waited < WINDOW * 2, "extended to {waited:?}");
    Ok(())
}

#[tokio::test]
async fn the_window_slides() -> Result<()> {
    const WINDOW: Duration = Duration::from_millis(1000);
    let world = World::mounted("messages = { limit = 2, window_ms = 1000 }").await?;
    let (alice, bob) = (world.user("alice").await?, world.inside("bob").await?);
    let (first, ..) = insist(&alice, "first").await?;
    // Time is what is tested here.
    tokio::time::sleep(WINDOW / 2).await;
    let (second, ..) = insist(&alice, "second").await?;
    let (_, third, refused) = insist(&alice, "third").await?;
    ensure!(refused > 0 && third - first >= WINDOW, "the third came {:?} after the first", third - first);
    let (_, fourth, refused) = insist(&alice, "fourth").await?;
    ensure!(
        refused > 0 && fourth - second >= WINDOW,
        "the fourth came {:?} after the second",
        fourth - second
    );
    for name in ["first", "second", "third", "fourth"] {
        let new = heard(&bob, "message:new").await?;
        ensure!(
            new["chatId"] == CHAT && new["clientId"].as_str().is_some_and(|id| id.starts_with(name)),
            "{new}"
        );
    }
    Ok(())
}
