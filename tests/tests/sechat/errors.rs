//! SeChat: every refusal has its code, names what it is about, and leaves the connection alive.

use crate::support::{connect, gateway, ids, is_message, message, pair, refused, send, until};
use anyhow::{Result, ensure};
use parlance_tests::Ws;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// Sends a text as it is and expects one refusal; returns it.
async fn refused_text(socket: &mut Ws, text: &str, code: &str) -> Result<Value> {
    socket.send_message(Message::text(text)).await?;
    let error = socket.next().await?;
    ensure!(error["type"] == "error" && error["code"] == code, "expected {code} for {text}, got {error}");
    Ok(error)
}

#[tokio::test]
async fn what_is_no_event_is_invalid_and_the_connection_lives_on() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let deep = format!(r#"{{"type":"presence:ping","x":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    let deeper = "[".repeat(100_000);
    for bad in [
        "",
        " ",
        "nonsense",
        "{",
        "[]",
        "null",
        "7",
        "\"text\"",
        r#"{"type":}"#,
        r#"{"type":7}"#,
        r#"{"type":null}"#,
        r#"{"type":"presence:ping"} {"type":"presence:ping"}"#,
        r#"{"type":"\ud800"}"#,
        &deep,
        &deeper,
    ] {
        let shown = &bad[..bad.len().min(40)];
        alice.send_message(Message::text(bad)).await?;
        let error = alice.next().await?;
        let code = error["code"].as_str().unwrap_or_default();
        ensure!(["INVALID_EVENT", "MISSING_FIELDS", "INVALID_FIELD"].contains(&code), "{shown}: {error}");
        ensure!(
            error["details"]["event"].is_string() && error["details"]["timestamp"].is_string(),
            "{error}"
        );
    }
    refused_text(&mut alice, "nonsense", "INVALID_EVENT").await?;
    refused_text(&mut alice, &deeper, "INVALID_EVENT").await?;
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_type_is_named_in_the_documented_error() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let error = refused_text(&mut alice, r#"{"type":"invalid_event"}"#, "INVALID_EVENT").await?;
    ensure!(error["message"] == "Invalid event type", "{error}");
    ensure!(error["details"]["event"] == "invalid_event", "{error}");
    let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(10_000));
    let error = refused_text(&mut alice, &long, "INVALID_EVENT").await?;
    ensure!(error.to_string().len() < 1_000, "not all of it is repeated");
    // What only the server says is no event of a client.
    for kind in ["message:received", "message:acked", "message:delivered", "presence", "maintenance", "error"]
    {
        refused_text(&mut alice, &json!({"type": kind}).to_string(), "INVALID_EVENT").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_type_is_a_missing_field() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let error = refused_text(&mut alice, r#"{"body":"x"}"#, "MISSING_FIELDS").await?;
    ensure!(error["details"]["field"] == "type", "{error}");
    Ok(())
}

#[tokio::test]
async fn a_missing_field_is_named() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let cases = [
        (message("m", "c", &["bob"]), vec!["messageId", "conversationId", "body"]),
        (json!({"type": "receipt:read", "messageId": "m", "toUserId": "bob"}), vec!["messageId", "toUserId"]),
        (
            json!({"type": "typing", "conversationId": "c", "isTyping": true}),
            vec!["conversationId", "isTyping"],
        ),
        (json!({"type": "presence:update", "isOnline": true}), vec!["isOnline"]),
        (json!({"type": "register_session", "sessionId": "alice"}), vec!["sessionId"]),
    ];
    for (whole, fields) in cases {
        for field in fields {
            for absent in [None, Some(Value::Null)] {
                let mut frame = whole.clone();
                match absent {
                    Some(null) => frame[field] = null,
                    None => drop(frame.as_object_mut().and_then(|f| f.remove(field))),
                }
                alice.send(&frame).await?;
                let error =
                    refused(&mut alice, "MISSING_FIELDS", whole["type"].as_str().unwrap_or_default()).await?;
                ensure!(error["details"]["field"] == field, "{frame}: {error}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_field_is_named_and_nothing_is_stored() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let long = "x".repeat(200);
    let many: Vec<String> = (0..300).map(|n| format!("user-{n}")).collect();
    let cases = [
        ("messageId", json!(7)),
        ("messageId", json!("")),
        ("messageId", json!(long)),
        ("messageId", json!("a\nb")),
        ("conversationId", json!(["c"])),
        ("conversationId", json!("")),
        ("conversationId", json!("a b")),
        ("conversationId", json!(long)),
        ("body", json!({"a": 1})),
        ("body", json!(7)),
        ("toUserIds", json!("bob")),
        ("toUserIds", json!([1])),
        ("toUserIds", json!(["bob", ""])),
        ("toUserIds", json!(many)),
        ("metadata", json!("text")),
        ("metadata", json!([1])),
        ("fromUserId", json!(7)),
        ("fromUserId", json!("")),
    ];
    for (field, value) in cases {
        let mut frame = message("bad", "c", &["bob"]);
        frame[field] = value;
        alice.send(&frame).await?;
        let error = refused(&mut alice, "INVALID_FIELD", "message:send").await?;
        ensure!(error["details"]["field"] == field, "{frame}: {error}");
    }
    send(&mut alice, &message("good", "c", &[])).await?;
    let heard = until(&mut bob, |f| is_message(f, "good")).await?;
    ensure!(ids(&heard, "message:received") == ["good"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn flags_must_be_flags() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, _bob) = pair(&gateway).await?;
    for value in [json!("true"), json!(1), json!([])] {
        alice.send(&json!({"type": "typing", "conversationId": "c", "isTyping": value})).await?;
        refused(&mut alice, "INVALID_FIELD", "typing").await?;
        alice.send(&json!({"type": "presence:update", "isOnline": value})).await?;
        refused(&mut alice, "INVALID_FIELD", "presence:update").await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_error_of_a_message_names_the_message() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    alice.send(&json!({"type": "message:send", "messageId": "m-7", "conversationId": "c"})).await?;
    let error = refused(&mut alice, "MISSING_FIELDS", "message:send").await?;
    ensure!(error["details"]["messageId"] == "m-7", "{error}");
    Ok(())
}

#[tokio::test]
async fn unknown_fields_and_odd_timestamps_are_no_errors() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    for (n, timestamp) in
        [json!(7), json!(null), json!({}), json!("2025-08-19T20:00:00.000Z")].into_iter().enumerate()
    {
        let mut frame = message(&format!("m-{n}"), "c", &["bob"]);
        frame["timestamp"] = timestamp;
        frame["future"] = json!([1, 2, 3]);
        send(&mut alice, &frame).await?;
    }
    Ok(())
}

#[tokio::test]
async fn bad_frames_of_one_connection_leave_the_others_alone() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut mallory = connect(&gateway, "mallory").await?;
    for _ in 0..100 {
        mallory.send_message(Message::text("nonsense")).await?;
    }
    send(&mut alice, &message("m-1", "c", &[])).await?;
    let heard = until(&mut bob, |f| is_message(f, "m-1")).await?;
    ensure!(heard.iter().all(|f| f["type"] != "error"), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn maintenance_is_told_to_everybody_and_refuses_messages_until_it_ends() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let on = json!({"enabled": true, "message": "back at noon", "retryAfter": 30});
    let (status, body) = gateway.api("PUT", "/api/v1/maintenance", Some(&on)).await?;
    ensure!(status == 200, "{status} {body}");
    for socket in [&mut alice, &mut bob] {
        let notice = socket.expect("maintenance").await?;
        ensure!(notice["message"] == "back at noon" && notice["retryAfter"] == 30, "{notice}");
        ensure!(notice["timestamp"].is_string(), "{notice}");
    }
    alice.send(&message("m-1", "c", &[])).await?;
    let error = refused(&mut alice, "SERVICE_UNAVAILABLE", "message:send").await?;
    ensure!(error["details"]["retryAfterMs"] == 30_000 && error["details"]["messageId"] == "m-1", "{error}");
    let off = json!({"enabled": false});
    let (status, body) = gateway.api("PUT", "/api/v1/maintenance", Some(&off)).await?;
    ensure!(status == 200, "{status} {body}");
    loop {
        // The switch reaches the node over the bus.
        alice.send(&message("m-1", "c", &[])).await?;
        let answer = until(&mut alice, |f| f["type"] == "message:acked" || f["type"] == "error").await?;
        if answer.last().is_some_and(|f| f["type"] == "message:acked") {
            break;
        }
    }
    let heard = until(&mut bob, |f| is_message(f, "m-1")).await?;
    ensure!(ids(&heard, "message:received") == ["m-1"], "refused means not stored: {heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_says_so_and_closes_with_1012() -> Result<()> {
    let mut gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let (status, heard) = tokio::join!(gateway.sigterm(), async {
        let notice = alice.expect("maintenance").await?;
        Ok::<_, anyhow::Error>((notice, alice.closed().await?))
    });
    let (notice, code) = heard?;
    ensure!(notice["retryAfter"].is_u64() && code == Some(1012), "{notice} {code:?}");
    ensure!(status?.success(), "the process ends well");
    Ok(())
}
