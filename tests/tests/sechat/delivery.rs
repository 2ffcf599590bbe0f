//! SeChat: receipts, and what waits for users who are away.

use crate::support::{
    arrive, connect, gateway, ids, is_message, message, pair, receipt, refused, send, until,
};
use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options, Ws};
use serde_json::{Value, json};

/// Types, ids and users of what an author hears of receipts.
fn told(frames: &[Value]) -> Vec<String> {
    let of = |f: &Value| {
        let by = f["byUserId"].as_str().or(f["fromUserId"].as_str()).unwrap_or("-").to_owned();
        format!("{} {} {by}", f["type"].as_str().unwrap_or("-"), f["messageId"].as_str().unwrap_or("-"))
    };
    let about = |f: &&Value| {
        let kind = f["type"].as_str().unwrap_or_default();
        kind.starts_with("receipt:") || kind == "message:read" || kind == "message:delivered"
    };
    frames.iter().filter(about).map(of).collect()
}

/// All that alice hears up to a message of bob's that is sent now: what was caused before it comes before it.
async fn heard_so_far(alice: &mut Ws, bob: &mut Ws, fence: &str) -> Result<Vec<Value>> {
    send(bob, &message(fence, "c", &[])).await?;
    let mut frames = until(alice, |f| is_message(f, fence)).await?;
    let compact = alice.next().await?;
    ensure!(compact["type"] == "message:delivered" && compact["messageId"] == fence, "{compact}");
    frames.pop();
    Ok(frames)
}

#[tokio::test]
async fn a_receipt_is_told_to_the_author_once_however_often_it_is_sent() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    for kind in
        ["receipt:delivered", "receipt:delivered", "receipt:read", "receipt:read", "receipt:delivered"]
    {
        bob.send(&receipt(kind, "first", "alice")).await?;
    }
    let heard = heard_so_far(&mut alice, &mut bob, "fence").await?;
    let expected = [
        "message:delivered first bob",
        "receipt:delivered first bob",
        "message:read first bob",
        "receipt:read first bob",
    ];
    ensure!(told(&heard) == expected, "{heard:?}");
    let forwarded = heard.iter().find(|f| f["type"] == "receipt:delivered");
    ensure!(forwarded.is_some_and(|f| f["toUserId"] == "alice" && f["timestamp"].is_string()), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_read_receipt_alone_says_delivered_first() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    bob.send(&receipt("receipt:read", "first", "alice")).await?;
    let heard = told(&heard_so_far(&mut alice, &mut bob, "fence").await?);
    let at = |what: &str| heard.iter().position(|t| t == what);
    ensure!(at("message:read first bob").is_some(), "{heard:?}");
    ensure!(at("message:delivered first bob") < at("message:read first bob"), "{heard:?}");
    ensure!(heard.iter().filter(|t| t.starts_with("message:read")).count() == 1, "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_receipt_covers_what_came_before_and_cursors_never_go_back() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    for id in ["m-1", "m-2"] {
        send(&mut alice, &message(id, "c", &[])).await?;
    }
    until(&mut bob, |f| is_message(f, "m-2")).await?;
    bob.send(&receipt("receipt:delivered", "m-2", "alice")).await?;
    let heard = heard_so_far(&mut alice, &mut bob, "fence").await?;
    ensure!(ids(&heard, "message:delivered") == ["first", "m-1", "m-2"], "{heard:?}");
    bob.send(&receipt("receipt:delivered", "m-1", "alice")).await?;
    let heard = heard_so_far(&mut alice, &mut bob, "fence-2").await?;
    ensure!(told(&heard).is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn receipts_that_come_while_the_author_still_joins_are_told_once() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_LIMITS_RATES", "false")).await?;
    let mut zoe = connect(&gateway, "zoe").await?;
    // So much that joining takes a while.
    for number in 0..200 {
        send(&mut zoe, &message(&format!("old-{number}"), &format!("old-{number}"), &["alice"])).await?;
    }
    let mut bob = connect(&gateway, "bob").await?;
    let mut alice = arrive(&gateway, "alice").await?;
    alice.send(&message("first", "c", &["bob"])).await?;
    let mut heard = until(&mut alice, |f| f["type"] == "message:acked").await?;
    until(&mut bob, |f| is_message(f, "first")).await?;
    bob.send(&receipt("receipt:delivered", "first", "alice")).await?;
    heard.extend(until(&mut alice, |f| f["type"] == "receipt:delivered").await?);
    while ids(&heard, "message:received").len() < 200 {
        heard.push(alice.next().await?);
    }
    // What is told again follows what was said, within a few rounds.
    for round in 0..20 {
        heard.extend(heard_so_far(&mut alice, &mut bob, &format!("fence-{round}")).await?);
    }
    let mut told = told(&heard);
    told.retain(|told| told.contains(" first "));
    ensure!(told == ["message:delivered first bob", "receipt:delivered first bob"], "{told:?}");
    Ok(())
}

#[tokio::test]
async fn every_device_of_the_author_hears_a_receipt_and_no_other_member() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut phone = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    let mut carol = connect(&gateway, "carol").await?;
    send(&mut alice, &message("m-1", "c", &["bob", "carol"])).await?;
    until(&mut bob, |f| is_message(f, "m-1")).await?;
    bob.send(&receipt("receipt:delivered", "m-1", "alice")).await?;
    for socket in [&mut alice, &mut phone] {
        let heard = until(socket, |f| f["type"] == "receipt:delivered").await?;
        ensure!(told(&heard).len() == 2, "{heard:?}");
    }
    send(&mut bob, &message("fence", "c", &[])).await?;
    let heard = until(&mut carol, |f| is_message(f, "fence")).await?;
    ensure!(told(&heard) == ["message:delivered m-1 -"], "only her own compact frame: {heard:?}");
    Ok(())
}

#[tokio::test]
async fn each_recipient_is_told_of_separately() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    let mut carol = connect(&gateway, "carol").await?;
    send(&mut alice, &message("m-1", "c", &["bob", "carol"])).await?;
    for (socket, by) in [(&mut bob, "bob"), (&mut carol, "carol")] {
        until(socket, |f| is_message(f, "m-1")).await?;
        socket.send(&receipt("receipt:read", "m-1", "alice")).await?;
        until(&mut alice, |f| f["type"] == "message:read" && f["byUserId"] == by).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_author_of_a_message_cannot_receipt_it() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    alice.send(&receipt("receipt:delivered", "first", "alice")).await?;
    refused(&mut alice, "FORBIDDEN", "receipt:delivered").await?;
    let heard = heard_so_far(&mut alice, &mut bob, "fence").await?;
    ensure!(told(&heard).is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_stranger_cannot_receipt_nor_learn_that_a_message_exists() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut mallory = connect(&gateway, "mallory").await?;
    let mut errors = Vec::new();
    for id in ["first", "never-sent"] {
        mallory.send(&receipt("receipt:read", id, "alice")).await?;
        let error = refused(&mut mallory, "INVALID_FIELD", "receipt:read").await?;
        errors.push(error["message"].clone());
    }
    ensure!(errors[0] == errors[1], "the same answer for both: {errors:?}");
    let heard = heard_so_far(&mut alice, &mut bob, "fence").await?;
    ensure!(told(&heard).is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn receipts_that_came_while_the_author_was_away_are_told_on_return_and_only_then() -> Result<()> {
    let gateway = gateway().await?;
    let (alice, mut bob) = pair(&gateway).await?;
    alice.close(1000).await?;
    gateway.until_gone("alice").await?;
    bob.send(&receipt("receipt:delivered", "first", "alice")).await?;
    bob.send(&receipt("receipt:read", "first", "alice")).await?;
    send(&mut bob, &message("b-1", "c", &[])).await?;
    let mut alice = arrive(&gateway, "alice").await?;
    let heard = until(&mut alice, |f| f["type"] == "receipt:read").await?;
    let told: Vec<String> = told(&heard).into_iter().filter(|t| t.contains("first")).collect();
    let expected = [
        "message:delivered first bob",
        "receipt:delivered first bob",
        "message:read first bob",
        "receipt:read first bob",
    ];
    ensure!(told == expected, "{heard:?}");
    alice.send(&receipt("receipt:delivered", "b-1", "bob")).await?;
    until(&mut bob, |f| f["type"] == "receipt:delivered").await?;
    alice.close(1000).await?;
    gateway.until_gone("alice").await?;
    let mut alice = arrive(&gateway, "alice").await?;
    crate::support::settled(&mut alice, "alice").await?;
    send(&mut bob, &message("b-2", "c", &[])).await?;
    let heard = until(&mut alice, |f| is_message(f, "b-2")).await?;
    ensure!(ids(&heard, "message:read").is_empty(), "told before: {heard:?}");
    Ok(())
}

#[tokio::test]
async fn what_waited_comes_in_order_and_marked_before_anything_live() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_NO_LIMITS", "true")).await?;
    let (mut alice, bob) = pair(&gateway).await?;
    bob.close(1000).await?;
    gateway.until_gone("bob").await?;
    for n in 0..150 {
        let conversation = if n % 2 == 0 { "c" } else { "d" };
        send(&mut alice, &message(&format!("q-{n}"), conversation, &["bob"])).await?;
    }
    let mut bob = arrive(&gateway, "bob").await?;
    // Sent while the backlog is on its way: neither lost, nor doubled, nor ahead of it.
    for n in 150..200 {
        alice.send(&message(&format!("q-{n}"), "c", &[])).await?;
    }
    let heard = until(&mut bob, |f| is_message(f, "q-199")).await?;
    let messages: Vec<&Value> = heard.iter().filter(|f| f["type"] == "message:received").collect();
    for conversation in ["c", "d"] {
        let own: Vec<&&Value> = messages.iter().filter(|f| f["conversationId"] == conversation).collect();
        let expected: Vec<String> = std::iter::once("first".to_owned())
            .chain((0..200).map(|n| format!("q-{n}")))
            .enumerate()
            .filter(|(at, _)| {
                if conversation == "c" {
                    *at == 0 || at % 2 == 1 || *at > 150
                } else {
                    at % 2 == 0 && *at > 0 && *at <= 150
                }
            })
            .map(|(_, id)| id)
            .collect();
        let ids: Vec<&str> = own.iter().filter_map(|f| f["messageId"].as_str()).collect();
        ensure!(ids == expected, "{conversation}: {ids:?}");
        let live = own.iter().position(|f| f.get("wasQueued").is_none()).unwrap_or(own.len());
        ensure!(own[live..].iter().all(|f| f.get("wasQueued").is_none()), "queued after live");
        ensure!(own[..live].iter().all(|f| f["wasQueued"] == true), "{conversation}");
        ensure!(
            live >= if conversation == "c" { 76 } else { 75 },
            "what was there at connect is marked: {live}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_was_written_but_never_receipted_comes_again() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    send(&mut alice, &message("m-1", "c", &[])).await?;
    until(&mut bob, |f| is_message(f, "m-1")).await?;
    drop(bob);
    let mut bob = arrive(&gateway, "bob").await?;
    let heard = until(&mut bob, |f| is_message(f, "m-1")).await?;
    ensure!(ids(&heard, "message:received") == ["first", "m-1"], "{heard:?}");
    ensure!(
        heard.iter().filter(|f| f["type"] == "message:received").all(|f| f["wasQueued"] == true),
        "{heard:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_receipted_does_not_come_again() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    bob.send(&receipt("receipt:delivered", "first", "alice")).await?;
    until(&mut alice, |f| f["type"] == "receipt:delivered").await?;
    drop(bob);
    let mut bob = connect(&gateway, "bob").await?;
    send(&mut alice, &message("m-2", "c", &[])).await?;
    let heard = until(&mut bob, |f| is_message(f, "m-2")).await?;
    ensure!(ids(&heard, "message:received") == ["m-2"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn the_first_message_waits_for_a_recipient_who_was_never_there() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    alice.close(1000).await?;
    let mut bob = arrive(&gateway, "bob").await?;
    let heard = bob.next().await?;
    ensure!(is_message(&heard, "m-1") && heard["wasQueued"] == true, "{heard}");
    ensure!(heard["body"] == "text of m-1" && heard["fromUserId"] == "alice", "{heard}");
    Ok(())
}

#[tokio::test]
async fn queued_events_are_what_is_not_receipted_and_shrink_with_receipts() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    send(&mut alice, &message("m-1", "c", &[])).await?;
    send(&mut bob, &message("own", "c", &[])).await?;
    let ask = json!({"type": "request_queued_events", "sessionId": "bob"});
    for expected in [vec!["first", "m-1"], vec!["m-1"], vec![]] {
        bob.send(&ask).await?;
        let answer = bob.expect("queued_events").await?;
        ensure!(answer["sessionId"] == "bob", "{answer}");
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        let data: Vec<Value> = events.iter().map(|e| e["data"].clone()).collect();
        ensure!(ids(&data, "message:received") == expected && data.len() == expected.len(), "{answer}");
        ensure!(events.iter().all(|e| e["type"] == "message:received"), "{answer}");
        ensure!(data.iter().all(|d| d["wasQueued"] == true && d["fromUserId"] == "alice"), "{answer}");
        if let Some(id) = expected.first() {
            bob.send(&receipt("receipt:delivered", id, "alice")).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn queued_events_of_somebody_else_are_not_given_out() -> Result<()> {
    let gateway = gateway().await?;
    let (_alice, mut bob) = pair(&gateway).await?;
    bob.send(&json!({"type": "request_queued_events", "sessionId": "alice"})).await?;
    refused(&mut bob, "FORBIDDEN", "request_queued_events").await?;
    Ok(())
}
