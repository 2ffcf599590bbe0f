//! SeChat over Socket.IO: messages, receipts, and what waits for users who are away.

use std::time::Duration;

use crate::socketio_support::*;
use anyhow::{Result, ensure};
use parlance_tests::exact::{has_only, is_time};
use parlance_tests::{Gateway, Stock, StockSocket, Transports};
use serde_json::{Value, json};
use tokio::time::Instant;

#[tokio::test]
async fn a_message_goes_from_acked_over_delivered_to_read_on_every_transport() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    for transports in Transports::ALL {
        let alice = over(&stock, &gateway, "alice", transports).await?;
        let bob = over(&stock, &gateway, "bob", transports).await?;
        let id = format!("m-{transports:?}");
        acquaint(&alice, &bob, &format!("hello-{transports:?}")).await?;

        let mut sent = message(&id, "c", &["bob"]);
        sent["metadata"] = json!({ "encrypted": true, "version": "1.0" });
        alice.emit("message:send", std::slice::from_ref(&sent))?;
        let acked = expect(&alice, "message:acked").await?;
        has_only(&acked, &["type", "messageId", "timestamp"])?;
        ensure!(acked["messageId"] == id.as_str() && is_time(&acked["timestamp"]), "{acked}");

        let received = bob.next_event().await?;
        assert_eq!(received.name, "message:received", "the body comes first");
        let expected = json!({
            "type": "message:received", "messageId": id, "fromUserId": "alice", "conversationId": "c",
            "body": sent["body"], "timestamp": acked["timestamp"], "metadata": sent["metadata"],
        });
        assert_eq!(received.args[0], expected);
        let compact = bob.next_event().await?;
        assert_eq!(compact.name, "message:delivered", "then the documented frame");
        let expected =
            json!({ "type": "message:delivered", "messageId": id, "timestamp": acked["timestamp"] });
        assert_eq!(compact.args[0], expected);

        for (event, tick) in [("receipt:delivered", "message:delivered"), ("receipt:read", "message:read")] {
            bob.emit(event, &[receipt(&id, "bob", "alice")])?;
            let heard = until(&alice, |name, p| name == event && p["messageId"] == id.as_str()).await?;
            let of_message: Vec<_> = heard.iter().filter(|(_, p)| p["messageId"] == id.as_str()).collect();
            let names: Vec<&str> = of_message.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, [tick, event], "{heard:?}");
            has_only(&of_message[0].1, &["type", "messageId", "timestamp", "byUserId"])?;
            has_only(&of_message[1].1, &["type", "messageId", "fromUserId", "toUserId", "timestamp"])?;
            ensure!(of_message[0].1["byUserId"] == "bob" && of_message[0].1["type"] == tick, "{heard:?}");
            ensure!(
                of_message[1].1["fromUserId"] == "bob" && of_message[1].1["toUserId"] == "alice",
                "{heard:?}"
            );
        }
        alice.assert_none("message:received").await?;
        alice.disconnect()?;
        bob.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn an_acknowledgement_that_was_asked_for_repeats_the_event_or_says_success() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let answer = alice.emit_ack("message:send", &[message("m-1", "c", &[])]).await?;
    assert_eq!(answer, [expect(&alice, "message:acked").await?]);
    let answer = bob.emit_ack("request_queued_events", &[json!({ "sessionId": "bob" })]).await?;
    assert_eq!(answer, [expect(&bob, "queued_events").await?]);
    for (event, payload) in [
        ("receipt:delivered", receipt("first", "bob", "alice")),
        ("receipt:read", receipt("first", "bob", "alice")),
        ("typing", json!({ "conversationId": "c", "isTyping": true })),
        ("presence:update", json!({ "isOnline": true })),
        ("presence:ping", json!({ "sessionId": "bob", "timestamp": "2025-08-19T20:00:00.000Z" })),
    ] {
        assert_eq!(bob.emit_ack(event, &[payload]).await?, [json!({ "status": "success" })], "{event}");
    }
    let answer = bob.emit_ack("nonsense", &[]).await?;
    assert_eq!(answer, [expect(&bob, "error").await?]);
    Ok(())
}

#[tokio::test]
async fn the_events_name_counts_whatever_type_the_payload_repeats() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mut untyped = message("m-1", "c", &[]);
    untyped.as_object_mut().map(|frame| frame.remove("type")).unwrap_or_default();
    let mut mistyped = message("m-2", "c", &[]);
    mistyped["type"] = json!("presence:ping");
    for frame in [untyped, mistyped] {
        send(&alice, &frame).await?;
        until_heard(&bob, frame["messageId"].as_str().unwrap_or_default()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_resend_is_acked_again_and_delivered_once() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let first = send(&alice, &message("m-1", "c", &[])).await?;
    let again = send(&alice, &message("m-1", "c", &[])).await?;
    assert_eq!(first, again);
    // Pipelined as well, and after a reconnect.
    for _ in 0..3 {
        alice.emit("message:send", &[message("m-2", "c", &[])])?;
    }
    for _ in 0..3 {
        assert_eq!(expect(&alice, "message:acked").await?["messageId"], "m-2");
    }
    let alice = connect(&stock, &gateway, "alice").await?;
    send(&alice, &message("m-1", "c", &[])).await?;
    send(&alice, &message("fence", "c", &[])).await?;
    let heard = until_heard(&bob, "fence").await?;
    assert_eq!(ids(&heard, "message:received"), ["m-1", "m-2", "fence"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_non_member_is_forbidden_and_to_user_ids_adds_nobody() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mallory = connect(&stock, &gateway, "mallory").await?;
    mallory.emit("message:send", &[message("x", "c", &["alice", "bob"])])?;
    let error = refused(&mallory, "FORBIDDEN", "message:send").await?;
    assert_eq!(error["details"]["messageId"], "x");
    send(&alice, &message("m-1", "c", &["bob", "mallory"])).await?;
    let heard = until_heard(&bob, "m-1").await?;
    assert_eq!(ids(&heard, "message:received"), ["m-1"], "{heard:?}");
    let queued = mallory.emit_ack("request_queued_events", &[json!({ "sessionId": "mallory" })]).await?;
    assert_eq!(queued[0]["events"], json!([]));
    mallory.assert_none("message:received").await?;
    Ok(())
}

#[tokio::test]
async fn twenty_messages_a_second_and_the_next_is_rate_limited() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, _bob) = pair(&stock, &gateway).await?;
    // A busy machine may need more than a second for some of them: in a minute there are enough at once.
    let mut sent = 0;
    let error = loop {
        for _ in 0..40 {
            sent += 1;
            alice.emit("message:send", &[message(&format!("m-{sent}"), "c", &[])])?;
        }
        let fence = format!("m-{sent}");
        let last = |name: &str, p: &Value| {
            (name == "message:acked" && p["messageId"] == fence.as_str())
                || (name == "error" && p["details"]["messageId"] == fence.as_str())
        };
        let heard = until(&alice, last).await?;
        let accepted = ids(&heard, "message:acked").len();
        ensure!(accepted >= 19, "fewer than twenty: {accepted}");
        if let Some(error) = payload(&heard, "error") {
            break error.clone();
        }
        ensure!(sent < 400, "forty at once are not too many");
    };
    assert_eq!(error["code"], "RATE_LIMITED", "{error}");
    ensure!(error["details"]["retryAfterMs"].as_u64().is_some_and(|ms| (1..=1_000).contains(&ms)), "{error}");
    Ok(())
}

/// bob goes away for good, as far as the node knows.
async fn leaves(gateway: &Gateway, bob: StockSocket) -> Result<()> {
    bob.disconnect()?;
    bob.expect_disconnect().await?;
    gateway.until_gone("bob").await
}

#[tokio::test]
async fn what_waited_is_flushed_on_registration_in_order_and_marked_as_queued_on_every_transport()
-> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    bob.emit_ack("receipt:delivered", &[receipt("first", "bob", "alice")]).await?;
    leaves(&gateway, bob).await?;
    for transports in Transports::ALL {
        let expected: Vec<String> = (0..5).map(|n| format!("{transports:?}-{n}")).collect();
        for id in &expected {
            send(&alice, &message(id, "c", &[])).await?;
        }
        let bob = nobody(&stock, &gateway, transports).await?;
        bob.emit("register_session", &[registration("bob", Some(&parlance_tests::token("bob")?))])?;
        let mut heard = until_heard(&bob, &expected[4]).await?;
        let registered = heard.remove(0);
        assert_eq!(registered.0, "session_registered", "registered first");
        assert_eq!(ids(&heard, "message:received"), expected, "{heard:?}");
        for (_, received) in heard.iter().filter(|(name, _)| name == "message:received") {
            ensure!(received["wasQueued"] == true && received["type"] == "message:received", "{received}");
        }
        // What was receipted waits no more.
        bob.emit_ack("receipt:delivered", &[receipt(&expected[4], "bob", "alice")]).await?;
        leaves(&gateway, bob).await?;
    }
    Ok(())
}

#[tokio::test]
async fn request_queued_events_lists_what_no_device_has_receipted() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    bob.emit_ack("receipt:delivered", &[receipt("first", "bob", "alice")]).await?;
    for id in ["m-1", "m-2"] {
        send(&alice, &message(id, "c", &[])).await?;
    }
    until_heard(&bob, "m-2").await?;
    bob.emit("request_queued_events", &[json!({ "sessionId": "bob", "timestamp": "2025-08-19T20:00:00" })])?;
    let queued = expect(&bob, "queued_events").await?;
    has_only(&queued, &["type", "sessionId", "events"])?;
    assert_eq!(queued["sessionId"], "bob");
    let events = queued["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(events.len(), 2, "{queued}");
    for (event, id) in events.iter().zip(["m-1", "m-2"]) {
        has_only(event, &["type", "data"])?;
        let is = (&event["type"], &event["data"]["messageId"], &event["data"]["body"]);
        assert_eq!(is, (&json!("message:received"), &json!(id), &json!(format!("text of {id}"))));
        assert_eq!(event["data"]["wasQueued"], true, "{event}");
    }
    bob.emit_ack("receipt:read", &[receipt("m-2", "bob", "alice")]).await?;
    let queued = bob.emit_ack("request_queued_events", &[json!({ "sessionId": "bob" })]).await?;
    assert_eq!(queued[0]["events"], json!([]));
    Ok(())
}

#[tokio::test]
async fn receipts_that_came_while_the_author_was_away_are_told_on_return() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    alice.disconnect()?;
    gateway.until_gone("alice").await?;
    bob.emit_ack("receipt:read", &[receipt("first", "bob", "alice")]).await?;
    let alice = connect(&stock, &gateway, "alice").await?;
    let tick = expect(&alice, "message:read").await?;
    assert_eq!((&tick["messageId"], &tick["byUserId"]), (&json!("first"), &json!("bob")));
    expect(&alice, "receipt:read").await?;
    Ok(())
}

#[tokio::test]
async fn receipts_are_told_once_to_an_author_who_leaves_in_good_order() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    alice.disconnect()?;
    gateway.until_gone("alice").await?;
    bob.emit_ack("receipt:read", &[receipt("first", "bob", "alice")]).await?;
    // With the token in CONNECT, so that there is a session to recover, which the goodbye ends.
    let auth = json!({ "token": parlance_tests::token("alice")? });
    let named = || options(Transports::Websocket).auth(auth.clone());
    let alice = stock.connect(gateway.address(), named())?;
    alice.expect_connect().await?;
    expect(&alice, "receipt:read").await?;
    alice.disconnect()?;
    gateway.until_gone("alice").await?;
    let alice = stock.connect(gateway.address(), named())?;
    alice.expect_connect().await?;
    send(&bob, &message("marker", "c", &[])).await?;
    let heard = until_heard(&alice, "marker").await?;
    assert_eq!(payload(&heard, "message:read"), None, "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_raw_client_and_a_socketio_client_share_a_conversation() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    for transports in Transports::ALL {
        let (raw_name, io_name) = (format!("raw-{transports:?}"), format!("io-{transports:?}"));
        let conversation = format!("both-{transports:?}");
        let mut raw = crate::support::connect(&gateway, &raw_name).await?;
        let io = over(&stock, &gateway, &io_name, transports).await?;
        let there = message("there", &conversation, &[&io_name]);
        crate::support::send(&mut raw, &there).await?;
        let received = expect(&io, "message:received").await?;
        assert_eq!((&received["body"], &received["fromUserId"]), (&there["body"], &json!(raw_name)));
        io.emit("receipt:read", &[receipt("there", &io_name, &raw_name)])?;
        assert_eq!(raw.expect("message:read").await?["byUserId"], io_name.as_str());

        send(&io, &message("back", &conversation, &[])).await?;
        let received = raw.expect("message:received").await?;
        assert_eq!((&received["body"], &received["fromUserId"]), (&json!("text of back"), &json!(io_name)));
        ensure!(received.get("wasQueued").is_none(), "{received}");
        raw.send(&crate::support::receipt("receipt:delivered", "back", &io_name)).await?;
        let tick = until(&io, |name, p| name == "receipt:delivered" && p["messageId"] == "back").await?;
        ensure!(
            tick.iter().any(|(name, p)| name == "message:delivered" && p["byUserId"] == raw_name),
            "{tick:?}"
        );

        raw.send(&json!({ "type": "typing", "conversationId": conversation, "isTyping": true })).await?;
        assert_eq!(expect(&io, "typing:update").await?["fromUserId"], raw_name.as_str());
        io.emit("typing", &[json!({ "conversationId": conversation, "isTyping": true })])?;
        assert_eq!(raw.expect("typing:update").await?["fromUserId"], io_name.as_str());
    }
    Ok(())
}

#[tokio::test]
async fn devices_of_one_user_on_both_framings_hear_the_same_and_each_other() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    bob.emit_ack("receipt:delivered", &[receipt("first", "bob", "alice")]).await?;
    let mut tablet = crate::support::connect(&gateway, "bob").await?;
    send(&alice, &message("m-1", "c", &[])).await?;
    assert_eq!(tablet.expect("message:received").await?["messageId"], "m-1");
    until_heard(&bob, "m-1").await?;
    tablet.send(&crate::support::receipt("receipt:read", "m-1", "alice")).await?;
    assert_eq!(expect(&alice, "message:read").await?["byUserId"], "bob");
    Ok(())
}

#[tokio::test]
async fn a_body_of_64_kib_arrives_and_a_larger_one_is_payload_too_large() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mut frame = message("largest", "c", &[]);
    frame["body"] = json!("é".repeat(32 * 1024));
    send(&alice, &frame).await?;
    let heard = until_heard(&bob, "largest").await?;
    assert_eq!(heard.last().map(|(_, p)| &p["body"]), Some(&frame["body"]));
    frame["messageId"] = json!("larger");
    frame["body"] = json!(format!("{}x", "é".repeat(32 * 1024)));
    alice.emit("message:send", &[frame])?;
    let error = refused(&alice, "PAYLOAD_TOO_LARGE", "message:send").await?;
    assert_eq!(error["details"]["messageId"], "larger");
    Ok(())
}

#[tokio::test]
async fn a_message_is_delivered_within_half_a_second() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mut best = Duration::MAX;
    // The best of some: the machine is busy with other tests.
    for n in 0..5 {
        let sent = Instant::now();
        alice.emit("message:send", &[message(&format!("m-{n}"), "c", &[])])?;
        until_heard(&bob, &format!("m-{n}")).await?;
        best = best.min(sent.elapsed());
    }
    ensure!(best < Duration::from_millis(500), "{best:?}");
    Ok(())
}
