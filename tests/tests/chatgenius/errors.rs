//! ChatGenius: every refusal has its words, reaches whom it concerns, and leaves the connection alive.

use crate::support::*;
use anyhow::{Context, Result, ensure};
use parlance_tests::exact::{has_only, is_time};
use parlance_tests::{Gateway, PATIENCE, Stock, StockSocket, Transports, binary};
use serde_json::{Value, json};
use tokio::time::timeout;

const UNAVAILABLE: &str = "Service temporarily unavailable";

/// A refused send: its acknowledgement, and `message:failed` with the same words.
async fn failed(socket: &StockSocket, send: Value, error: &str) -> Result<Payload> {
    let answer = refused(socket, "message:send", send.clone(), error).await?;
    assert_eq!(answer["processed"], true, "{answer}");
    let told = expect(socket, "message:failed").await?;
    has_only(&told, &["error", "tempId", "status", "processed", "timestamp"])?;
    assert_eq!(
        (&told["error"], &told["status"], &told["processed"]),
        (&json!(error), &json!("FAILED"), &json!(true))
    );
    let temp_id =
        send.get("tempId").filter(|temp| temp.as_str().is_some_and(|t| !t.is_empty() && t.len() <= 128));
    assert_eq!(&told["tempId"], temp_id.unwrap_or(&Value::Null), "{send:.200}");
    ensure!(is_time(&told["timestamp"]), "{told}");
    Ok(answer)
}

/// Nothing but the fence is heard of what was sent before it.
async fn nothing_said(sender: &StockSocket, listener: &StockSocket) -> Result<()> {
    say(sender, "fence").await?;
    let (_, before) = until_said(listener, "fence").await?;
    ensure!(before.is_empty(), "{before:?}");
    Ok(())
}

#[tokio::test]
async fn message_failed_tells_the_sender_on_every_transport_and_nobody_else() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    channel(&gateway, "room", &["alice", "bob"]).await?;
    channel(&gateway, "of-others", &["bob"]).await?;
    let bob = connect(&stock, &gateway, "bob").await?;
    for transports in Transports::ALL {
        let alice = over(&stock, &gateway, "alice", transports).await?;
        let send = json!({ "content": "x", "channelId": "of-others", "tempId": "t" });
        failed(&alice, send.clone(), "Access denied to channel").await?;
        // Whether or not an acknowledgement was asked for.
        alice.emit("message:send", &[send])?;
        assert_eq!(expect(&alice, "message:failed").await?["tempId"], "t");
        alice.disconnect()?;
    }
    let alice = connect(&stock, &gateway, "alice").await?;
    nothing_said(&alice, &bob).await
}

#[tokio::test]
async fn sending_to_a_channel_of_others_and_to_none_is_access_denied_to_channel_alike() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    channel(&gateway, "of-others", &["bob"]).await?;
    let alice = connect(&stock, &gateway, "alice").await?;
    let mut answers = Vec::new();
    for channel in ["of-others", "nowhere"] {
        let send = json!({ "content": "x", "channelId": channel, "tempId": "t" });
        answers.push(failed(&alice, send, "Access denied to channel").await?);
    }
    assert_eq!(answers[0], answers[1]);
    Ok(())
}

#[tokio::test]
async fn a_missing_or_wrong_field_of_a_message_fails_it_by_its_name() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let long = "x".repeat(129);
    for (field, value, error) in [
        ("content", Value::Null, "content is required"),
        ("channelId", Value::Null, "channelId is required"),
        ("content", json!(7), "content has the wrong type or value"),
        ("content", json!(""), "content must not be empty"),
        ("tempId", json!(""), "tempId must be 1 to 128 printable characters"),
        ("tempId", json!(long), "tempId must be 1 to 128 printable characters"),
        ("tempId", json!(["t"]), "tempId has the wrong type or value"),
        ("replyToId", json!(""), "replyToId must be 1 to 128 printable characters"),
        ("channelId", json!(7), "channelId has the wrong type or value"),
    ] {
        let mut send = message("x", "t");
        send[field] = value;
        failed(&alice, send, error).await?;
    }
    for channel in [String::new(), "a b".to_owned(), long] {
        let send = json!({ "content": "x", "channelId": channel, "tempId": "t" });
        let answer = ask(&alice, "message:send", send).await?;
        ensure!(answer["error"].as_str().is_some_and(|e| e.starts_with("channelId is wrong")), "{answer}");
        expect(&alice, "message:failed").await?;
    }
    nothing_said(&alice, &bob).await
}

#[tokio::test]
async fn an_argument_that_is_no_object_fails_the_message() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let error = "The event's argument must be an object";
    for args in [vec![], vec![Value::Null], vec![json!("text")], vec![json!([1])], vec![json!(7)]] {
        let answer = alice.emit_ack("message:send", &args).await?;
        assert_eq!(answer[0], json!({ "success": false, "error": error, "processed": true }), "{args:?}");
        assert_eq!(expect(&alice, "message:failed").await?["error"], error);
    }
    nothing_said(&alice, &bob).await
}

#[tokio::test]
async fn a_content_of_64_kib_is_delivered_and_a_larger_one_fails() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let largest = "é".repeat(32 * 1024);
    done(&alice, "message:send", message(&largest, "largest")).await?;
    until_said(&bob, &largest).await?;
    let answer = ask(&alice, "message:send", message(&format!("{largest}x"), "larger")).await?;
    ensure!(answer["success"] == false && answer["error"].is_string(), "{answer}");
    let told = expect(&alice, "message:failed").await?;
    assert_eq!((&told["tempId"], &told["error"]), (&json!("larger"), &answer["error"]));
    nothing_said(&alice, &bob).await
}

#[tokio::test]
async fn an_unknown_event_is_refused_in_its_acknowledgement_and_the_socket_lives_on() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    for event in ["message:delete", "message:created", "", "connection:success"] {
        let answer = refused(&alice, event, json!({}), "Unknown event").await?;
        has_only(&answer, &["success", "error"])?;
        // Without an acknowledgement nothing is said at all.
        alice.emit(event, &[json!({})])?;
    }
    let with_binary = json!({ "content": binary(b"x"), "channelId": "room" });
    refused(&alice, "message:send", with_binary, "Unknown event").await?;
    nothing_said(&bob, &alice).await
}

#[tokio::test]
async fn every_other_event_names_its_bad_field_in_the_acknowledgement() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let id = say(&bob, "one").await?;
    until_said(&alice, "one").await?;
    let kind = "type must be 1 to 64 printable characters";
    for (event, payload, error) in [
        ("reaction:add", json!({ "type": "👍" }), "messageId is required"),
        ("reaction:add", json!({ "messageId": id }), "type is required"),
        ("reaction:add", json!({ "messageId": id, "type": "" }), kind),
        ("reaction:add", json!({ "messageId": id, "type": "x".repeat(65) }), kind),
        ("reaction:remove", json!({ "messageId": id }), "type is required"),
        ("message:read", json!({}), "messageId is required"),
        ("message:received", json!({ "messageId": 7 }), "messageId has the wrong type or value"),
        ("message:confirm", json!({}), "messageId is required"),
        ("channel:join", json!({}), "channelId is required"),
        ("channel:leave", json!({}), "channelId is required"),
        ("typing:start", json!({}), "channelId is required"),
        ("typing:stop", json!({ "channelId": 7 }), "channelId has the wrong type or value"),
    ] {
        let answer = refused(&alice, event, payload, error).await?;
        has_only(&answer, &["success", "error"])?;
    }
    nothing_said(&bob, &alice).await
}

#[tokio::test]
async fn a_message_that_is_not_there_or_of_others_is_message_not_found_alike() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let mallory = connect(&stock, &gateway, "mallory").await?;
    let id = say(&bob, "one").await?;
    until_said(&alice, "one").await?;
    let mut strange = id.clone();
    strange.replace_range(id.len() - 6.., "zzzzzz");
    for event in ["reaction:add", "reaction:remove", "message:read", "message:received", "message:confirm"] {
        for id in [id.as_str(), &strange, "no-id-of-ours", "temp-1"] {
            let payload = json!({ "messageId": id, "type": "👍" });
            refused(&mallory, event, payload, "Message not found").await?;
        }
    }
    nothing_said(&bob, &alice).await
}

#[tokio::test]
async fn whoever_was_removed_from_a_channel_is_denied_access_at_once() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let id = say(&alice, "before").await?;
    until_said(&bob, "before").await?;
    let change = json!({ "removeMembers": ["bob"] });
    let (status, answer) = gateway.api("PATCH", "/api/v1/conversations/room", Some(&change)).await?;
    ensure!(status == 200, "{status} {answer}");
    failed(&bob, message("x", "t"), "Access denied to channel").await?;
    for event in ["channel:join", "typing:start"] {
        refused(&bob, event, json!({ "channelId": "room" }), "Access denied to channel").await?;
    }
    refused(&bob, "reaction:add", json!({ "messageId": id, "type": "👍" }), "Message not found").await?;
    let left = expect(&alice, "channel:user_left").await?;
    assert_eq!((&left["userId"], &left["channelId"]), (&json!("bob"), &json!("room")));
    say(&alice, "after").await?;
    until_said(&alice, "after").await?;
    bob.assert_silent_over("message:created", "message:read", &[json!({})]).await?;
    Ok(())
}

#[tokio::test]
async fn twenty_messages_a_second_and_the_next_fails_with_the_time_to_wait() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let phone = connect(&stock, &gateway, "alice").await?;
    // Over both devices; a busy machine may need more than a second for the first twenty-one.
    let error = "Maximum 20 messages per 1 second";
    let mut temp = 0;
    let refusal = loop {
        let burst: Vec<_> = (0..30)
            .map(|n| {
                temp += 1;
                let socket = if n % 2 == 0 { &alice } else { &phone };
                let message = message(&temp.to_string(), &temp.to_string());
                Ok((socket, socket.emit_tagged("message:send", &[message])?, temp))
            })
            .collect::<Result<_>>()?;
        let (mut accepted, mut refused) = (0, None);
        for (socket, tag, temp) in burst {
            let answer = socket.acked(tag).await?;
            if answer[0]["success"] == true {
                accepted += 1;
            } else {
                refused = Some((socket, answer[0].clone(), temp));
            }
        }
        ensure!(accepted >= 20, "fewer than twenty: {accepted}");
        if let Some(refusal) = refused {
            break refusal;
        }
        ensure!(temp < 300, "thirty at once are not too many");
    };
    let (socket, answer, temp) = refusal;
    assert_eq!((&answer["error"], &answer["processed"]), (&json!(error), &json!(true)), "{answer}");
    let wait = answer["retryAfterMs"].as_u64().context("no retryAfterMs")?;
    ensure!((1..=1_000).contains(&wait), "{answer}");
    let told = expect(socket, "message:failed").await?;
    assert_eq!(told["error"], error);
    // Nobody else pays for it, what is in the log already costs nothing, and the same tempId succeeds in time.
    say(&bob, "of bob").await?;
    ask(socket, "message:send", message("1", "1")).await.map(|answer| assert_eq!(answer["success"], true))?;
    let again = async {
        while ask(socket, "message:send", message("again", &temp.to_string())).await?["success"] != true {}
        Ok::<_, anyhow::Error>(())
    };
    timeout(PATIENCE, again).await.context("still refused")?
}

#[tokio::test]
async fn refused_sends_and_resends_cost_nothing_of_the_limit() -> Result<()> {
    let gateway = Gateway::start(mount("messages = { limit = 5, window_ms = 60000 }")).await?;
    let stock = Stock::start()?;
    let (alice, _bob) = pair(&stock, &gateway).await?;
    say(&alice, "0").await?;
    for _ in 0..10 {
        done(&alice, "message:send", message("0", "0")).await?;
        let denied = json!({ "content": "x", "channelId": "nowhere", "tempId": "t" });
        failed(&alice, denied, "Access denied to channel").await?;
    }
    for n in 1..5 {
        say(&alice, &n.to_string()).await?;
    }
    let answer = ask(&alice, "message:send", message("5", "5")).await?;
    assert_eq!(answer["error"], "Maximum 5 messages per 60 seconds");
    Ok(())
}

#[tokio::test]
async fn during_maintenance_new_messages_fail_and_a_resend_is_delivered_again() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let id = say(&alice, "one").await?;
    until_said(&bob, "one").await?;
    let switch = async |enabled: bool| {
        let body = json!({ "enabled": enabled, "message": "back at noon", "retryAfter": 30 });
        let (status, answer) = gateway.api("PUT", "/api/v1/maintenance", Some(&body)).await?;
        ensure!(status == 200, "{status} {answer}");
        Ok(())
    };
    let settles = async |wanted: bool| {
        // The switch reaches the node over the bus.
        for n in 0..200 {
            let temp = format!("{wanted}-{n}");
            let answer = ask(&alice, "message:send", message(&temp, &temp)).await?;
            if answer["success"] == wanted {
                return Ok(answer);
            }
        }
        anyhow::bail!("it is never {wanted}")
    };
    switch(true).await?;
    let answer = settles(false).await?;
    assert_eq!(
        (&answer["error"], &answer["retryAfterMs"]),
        (&json!(UNAVAILABLE), &json!(30_000)),
        "{answer}"
    );
    assert_eq!(expect(&alice, "message:failed").await?["error"], UNAVAILABLE);
    let react = json!({ "messageId": id, "type": "👍" });
    refused(&alice, "reaction:add", react, UNAVAILABLE).await?;
    let again = done(&alice, "message:send", message("one", "one")).await?;
    assert_eq!(again["data"]["messageId"], id.as_str());
    switch(false).await?;
    settles(true).await?;
    Ok(())
}

#[tokio::test]
async fn the_server_api_disconnects_a_user_with_a_disconnect_packet() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    let call = json!({ "reason": "signed out", "reconnect": false });
    let (status, body) = gateway.api("POST", "/api/v1/users/alice/disconnect", Some(&call)).await?;
    ensure!(status == 202, "{status} {body}");
    assert_eq!(alice.expect_disconnect().await?, "io server disconnect");
    say(&bob, "alone").await?;
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_closes_the_transport_and_the_client_comes_back_by_itself() -> Result<()> {
    let (mut gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, _bob) = pair(&stock, &gateway).await?;
    gateway.sigterm().await?;
    let reason = alice.expect_disconnect().await?;
    ensure!(reason == "transport close", "{reason}");
    gateway.restart().await?;
    alice.expect_connect().await?;
    Ok(())
}
