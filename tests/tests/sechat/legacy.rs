//! SeChat v1: deprecated events are still understood, and answered in kind.

use crate::support::{
    arrive, connect, gateway, is_message, is_presence, message, mount, receipt, refused, send, settled, until,
};
use anyhow::{Result, ensure};
use parlance_tests::metrics::Samples;
use parlance_tests::{Gateway, Ws};
use serde_json::{Value, json};

/// A connection that has spoken v1 and is heard as such.
async fn v1(gateway: &Gateway, user: &str) -> Result<Ws> {
    let mut socket = arrive(gateway, user).await?;
    socket.send(&json!({"type": "online_status_update", "isOnline": true, "sessionId": user})).await?;
    settled(&mut socket, user).await?;
    Ok(socket)
}

fn legacy(id: &str, conversation: Option<&str>, to: &str) -> Value {
    json!({
        "type": "send_message", "recipientId": to, "message": format!("text of {id}"),
        "conversationId": conversation, "messageId": id, "timestamp": "2025-08-19T22:00:00.123456",
        "metadata": {"silent": true, "senderName": "forged", "conversationId": "forged", "own": 1},
    })
}

fn is_new(frame: &Value, id: &str) -> bool {
    frame["type"] == "new_message" && frame["messageId"] == id
}

#[tokio::test]
async fn a_v1_message_is_acked_and_heard_in_the_words_of_each_edition() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = v1(&gateway, "alice").await?;
    let mut bob = v1(&gateway, "bob").await?;
    let mut tablet = connect(&gateway, "bob").await?;
    send(&mut alice, &legacy("m-1", Some("c"), "bob")).await?;
    let heard = until(&mut bob, |f| f["type"] == "new_message" || f["type"] == "message:received").await?;
    let heard = heard.last().cloned().unwrap_or_default();
    ensure!(is_new(&heard, "m-1") && heard["senderId"] == "alice", "{heard}");
    ensure!(heard["content"] == "text of m-1", "{heard}");
    let expected = json!({"silent": true, "senderName": "alice", "conversationId": "c", "own": 1});
    ensure!(heard["metadata"] == expected, "name and conversation are the server's word: {heard}");
    let heard = until(&mut tablet, |f| is_message(f, "m-1")).await?;
    let heard = heard.last().cloned().unwrap_or_default();
    ensure!(heard["conversationId"] == "c" && heard["body"] == "text of m-1", "{heard}");
    Ok(())
}

#[tokio::test]
async fn a_v2_message_reaches_a_v1_session_and_its_receipt_comes_back() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = v1(&gateway, "bob").await?;
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    let heard = until(&mut bob, |f| f["messageId"] == "m-1").await?;
    ensure!(
        heard.last().is_some_and(|f| is_new(f, "m-1") && f["metadata"]["conversationId"] == "c"),
        "{heard:?}"
    );
    bob.send(&receipt("receipt:read", "m-1", "alice")).await?;
    let read = alice.expect("message:read").await?;
    ensure!(read["messageId"] == "m-1" && read["byUserId"] == "bob", "{read}");
    Ok(())
}

#[tokio::test]
async fn a_v1_message_without_conversation_opens_the_one_of_the_two() -> Result<()> {
    let gateway = gateway().await?;
    let mut bob = connect(&gateway, "bob").await?;
    let mut alice = v1(&gateway, "alice").await?;
    send(&mut alice, &legacy("m-1", None, "bob")).await?;
    let heard = until(&mut bob, |f| is_message(f, "m-1")).await?;
    ensure!(heard.last().is_some_and(|f| f["conversationId"] == "dm:alice:bob"), "{heard:?}");
    // From the other side it is the same one.
    let mut phone = v1(&gateway, "bob").await?;
    send(&mut phone, &legacy("m-2", None, "alice")).await?;
    let heard = until(&mut alice, |f| is_new(f, "m-2")).await?;
    let conversation = &heard.last().cloned().unwrap_or_default()["metadata"]["conversationId"];
    ensure!(conversation == "dm:alice:bob", "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_v1_message_is_deduplicated_like_any_other() -> Result<()> {
    let gateway = gateway().await?;
    let mut bob = connect(&gateway, "bob").await?;
    let mut alice = v1(&gateway, "alice").await?;
    for id in ["m-1", "m-1", "m-2"] {
        send(&mut alice, &legacy(id, Some("c"), "bob")).await?;
    }
    let heard = until(&mut bob, |f| is_message(f, "m-2")).await?;
    ensure!(crate::support::ids(&heard, "message:received") == ["m-1", "m-2"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn typing_goes_between_the_editions_in_both_directions() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = v1(&gateway, "bob").await?;
    send(&mut alice, &message("m-1", "dm:alice:bob", &["bob"])).await?;
    until(&mut bob, |f| is_new(f, "m-1")).await?;
    alice.send(&json!({"type": "typing", "conversationId": "dm:alice:bob", "isTyping": true})).await?;
    let heard = bob.expect("typing_indicator").await?;
    ensure!(heard == json!({"type": "typing_indicator", "senderId": "alice", "isTyping": true}), "{heard}");
    for conversation in [Value::Null, json!("dm:alice:bob")] {
        for on in [true, false] {
            let typing = json!({
                "type": "typing_indicator", "recipientId": "alice", "isTyping": on, "conversationId": conversation,
            });
            bob.send(&typing).await?;
            let heard = alice.expect("typing:update").await?;
            ensure!(heard["fromUserId"] == "bob" && heard["isTyping"] == on, "{heard}");
            ensure!(heard["conversationId"] == "dm:alice:bob", "{heard}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn presence_goes_between_the_editions_in_both_directions() -> Result<()> {
    let gateway = Gateway::start(mount("background_ms = 300")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = v1(&gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    bob.send(&json!({"type": "online_status_update", "isOnline": false, "sessionId": "bob"})).await?;
    until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    alice.send(&json!({"type": "presence:update", "isOnline": false})).await?;
    let heard = bob.expect("online_status_update").await?;
    ensure!(heard["sessionId"] == "alice" && heard["isOnline"] == false, "{heard}");
    Ok(())
}

#[tokio::test]
async fn a_sessions_edition_is_settled_by_its_first_word() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = v1(&gateway, "bob").await?;
    bob.send(&json!({"type": "presence:update", "isOnline": true})).await?;
    settled(&mut bob, "bob").await?;
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    let heard = until(&mut bob, |f| f["messageId"] == "m-1").await?;
    ensure!(heard.last().is_some_and(|f| is_new(f, "m-1")), "still v1: {heard:?}");
    Ok(())
}

#[tokio::test]
async fn v1_claims_and_missing_fields_are_refused_too() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = v1(&gateway, "alice").await?;
    let cases = [
        (json!({"type": "online_status_update", "isOnline": true, "sessionId": "bob"}), "FORBIDDEN"),
        (json!({"type": "online_status_update"}), "MISSING_FIELDS"),
        (json!({"type": "send_message", "message": "x", "messageId": "m"}), "MISSING_FIELDS"),
        (json!({"type": "send_message", "recipientId": "bob", "messageId": "m"}), "MISSING_FIELDS"),
        (json!({"type": "typing_indicator", "recipientId": "bob"}), "MISSING_FIELDS"),
        (json!({"type": "typing_indicator", "recipientId": 7, "isTyping": true}), "INVALID_FIELD"),
    ];
    for (bad, code) in cases {
        alice.send(&bad).await?;
        refused(&mut alice, code, bad["type"].as_str().unwrap_or_default()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn deprecated_frames_are_counted() -> Result<()> {
    let gateway = gateway().await?;
    let _alice = v1(&gateway, "alice").await?;
    let counted = Samples::of(&gateway).await?;
    let of = |dialect| counted.sum("parlance_deprecated_frames_total", &[("dialect", dialect)]);
    ensure!((of("sechat"), of("famly")) == (1.0, 0.0), "{}", counted.text);
    Ok(())
}
