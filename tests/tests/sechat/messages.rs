//! SeChat: sending, acknowledging and delivering messages; who may write where.

use crate::support::{arrive, connect, gateway, ids, is_message, message, pair, refused, send, until};
use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options};
use serde_json::json;

#[tokio::test]
async fn a_message_is_acked_to_its_sender_and_reaches_the_recipient_whole() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let body = "grüße 👋 <b>\"\\\u{2028}\u{0}";
    alice
        .send(&json!({
            "type": "message:send", "messageId": "m-1", "conversationId": "c", "fromUserId": "alice",
            "toUserIds": ["bob"], "body": body, "timestamp": "not a time",
            "metadata": {"encrypted": true, "nested": {"n": 1.50}},
        }))
        .await?;
    let ack = alice.next().await?;
    ensure!(ack["type"] == "message:acked" && ack["messageId"] == "m-1", "{ack}");
    ensure!(ack["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "the server's own time: {ack}");
    let heard = bob.next().await?;
    ensure!(
        heard
            == json!({
                "type": "message:received", "messageId": "m-1", "fromUserId": "alice", "conversationId": "c",
                "body": body, "timestamp": ack["timestamp"], "metadata": {"encrypted": true, "nested": {"n": 1.50}},
            }),
        "{heard}"
    );
    let compact = bob.next().await?;
    let expected = json!({"type": "message:delivered", "messageId": "m-1", "timestamp": ack["timestamp"]});
    ensure!(compact == expected, "{compact}");
    Ok(())
}

#[tokio::test]
async fn the_first_message_creates_the_conversation_with_its_recipients() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    let mut carol = connect(&gateway, "carol").await?;
    send(&mut alice, &message("m-1", "new", &["bob", "carol"])).await?;
    for socket in [&mut bob, &mut carol] {
        let heard = socket.expect("message:received").await?;
        ensure!(heard["messageId"] == "m-1" && heard.get("wasQueued").is_none(), "live, not queued: {heard}");
    }
    send(&mut carol, &message("m-2", "new", &[])).await?;
    for socket in [&mut alice, &mut bob] {
        ensure!(socket.expect("message:received").await?["messageId"] == "m-2", "members hear each other");
    }
    let (status, body) = gateway.api("GET", "/api/v1/conversations/new", None).await?;
    ensure!(status == 200, "{status} {body}");
    ensure!(body["members"].as_array().is_some_and(|m| m.len() == 3), "{body}");
    Ok(())
}

#[tokio::test]
async fn recipients_named_in_an_existing_conversation_are_not_added() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut carol = connect(&gateway, "carol").await?;
    send(&mut alice, &message("secret", "c", &["bob", "carol"])).await?;
    until(&mut bob, |f| is_message(f, "secret")).await?;
    // Whatever carol were to hear of it comes before what is sent later, elsewhere.
    send(&mut alice, &message("open", "other", &["carol"])).await?;
    let heard = until(&mut carol, |f| is_message(f, "open")).await?;
    ensure!(ids(&heard, "message:received") == ["open"], "{heard:?}");
    carol.send(&message("intrusion", "c", &[])).await?;
    refused(&mut carol, "FORBIDDEN", "message:send").await?;
    Ok(())
}

#[tokio::test]
async fn a_stranger_may_not_write_and_nobody_hears_of_the_attempt() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut mallory = connect(&gateway, "mallory").await?;
    mallory.send(&message("m-1", "c", &["alice", "mallory"])).await?;
    let error = refused(&mut mallory, "FORBIDDEN", "message:send").await?;
    ensure!(error["details"]["messageId"] == "m-1", "the error names the message: {error}");
    send(&mut alice, &message("after", "c", &[])).await?;
    let heard = until(&mut bob, |f| is_message(f, "after")).await?;
    ensure!(ids(&heard, "message:received") == ["after"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_first_message_without_recipients_creates_a_conversation_of_its_sender() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    send(&mut alice, &message("m-1", "notes", &[])).await?;
    let (status, notes) = gateway.api("GET", "/api/v1/conversations/notes", None).await?;
    ensure!(status == 200 && notes["members"] == json!(["alice"]), "{status} {notes}");
    Ok(())
}

#[tokio::test]
async fn managed_membership_lets_no_client_create_a_conversation() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_MEMBERSHIP", "managed")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    alice.send(&message("m-1", "c", &["bob"])).await?;
    refused(&mut alice, "FORBIDDEN", "message:send").await?;
    let members = json!({"id": "c", "type": "dm", "members": ["alice", "bob"]});
    let (status, body) = gateway.api("POST", "/api/v1/conversations", Some(&members)).await?;
    ensure!(status == 201, "{status} {body}");
    send(&mut alice, &message("m-1", "c", &[])).await?;
    Ok(())
}

#[tokio::test]
async fn a_sender_who_claims_to_be_somebody_else_is_refused() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut forged = message("forged", "c", &["bob"]);
    forged["fromUserId"] = json!("bob");
    alice.send(&forged).await?;
    refused(&mut alice, "FORBIDDEN", "message:send").await?;
    send(&mut alice, &message("true", "c", &[])).await?;
    let heard = until(&mut bob, |f| is_message(f, "true")).await?;
    ensure!(ids(&heard, "message:received") == ["true"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_resent_message_is_acked_again_and_delivered_once() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let first = send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    for _ in 0..3 {
        let again = send(&mut alice, &message("m-1", "c", &["bob"])).await?;
        ensure!(again["timestamp"] == first["timestamp"], "the same message: {again}");
    }
    let mut changed = message("m-1", "c", &["bob"]);
    changed["body"] = json!("another text under the same id");
    send(&mut alice, &changed).await?;
    send(&mut alice, &message("m-2", "c", &["bob"])).await?;
    let heard = until(&mut bob, |f| is_message(f, "m-2")).await?;
    ensure!(ids(&heard, "message:received") == ["m-1", "m-2"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn the_first_message_of_a_conversation_may_be_resent_too() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    for _ in 0..3 {
        send(&mut alice, &message("opening", "fresh", &["bob"])).await?;
    }
    send(&mut alice, &message("second", "fresh", &[])).await?;
    let heard = until(&mut bob, |f| is_message(f, "second")).await?;
    ensure!(ids(&heard, "message:received") == ["opening", "second"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn the_same_message_from_two_sockets_at_once_is_delivered_once() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut phone = connect(&gateway, "alice").await?;
    for n in 0..8 {
        let same = message(&format!("m-{n}"), "c", &["bob"]);
        let (one, other) = tokio::try_join!(send(&mut alice, &same), send(&mut phone, &same))?;
        ensure!(one["timestamp"] == other["timestamp"], "one message: {one} {other}");
    }
    send(&mut alice, &message("end", "c", &[])).await?;
    let heard = until(&mut bob, |f| is_message(f, "end")).await?;
    let expected = ["m-0", "m-1", "m-2", "m-3", "m-4", "m-5", "m-6", "m-7", "end"];
    ensure!(ids(&heard, "message:received") == expected, "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_conversation_opened_from_two_sockets_at_once_is_one() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let (from_alice, from_bob) = (message("a", "race", &["bob"]), message("b", "race", &["alice"]));
    tokio::try_join!(alice.send(&from_alice), bob.send(&from_bob))?;
    for (socket, own, other) in [(&mut alice, "a", "b"), (&mut bob, "b", "a")] {
        let mut open = vec!["message:acked", "message:received"];
        while !open.is_empty() {
            let frame = socket.next().await?;
            ensure!(frame["type"] != "error", "{frame}");
            let expected = if frame["type"] == "message:acked" { own } else { other };
            if let Some(at) = open.iter().position(|kind| frame["type"] == *kind) {
                ensure!(frame["messageId"] == expected, "{frame}");
                open.remove(at);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn message_ids_are_scoped_by_sender_and_conversation() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    send(&mut alice, &message("same", "c", &[])).await?;
    until(&mut bob, |f| is_message(f, "same")).await?;
    send(&mut bob, &message("same", "c", &[])).await?;
    until(&mut alice, |f| is_message(f, "same") && f["fromUserId"] == "bob").await?;
    send(&mut alice, &message("same", "d", &["bob"])).await?;
    until(&mut bob, |f| is_message(f, "same") && f["conversationId"] == "d").await?;
    Ok(())
}

#[tokio::test]
async fn every_device_of_a_recipient_hears_a_message_and_no_device_of_the_sender() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut phone = connect(&gateway, "alice").await?;
    let mut tablet = arrive(&gateway, "bob").await?;
    // The tablet is replayed what nobody has receipted; after that it is live.
    until(&mut tablet, |f| is_message(f, "first")).await?;
    send(&mut alice, &message("m-1", "c", &[])).await?;
    for socket in [&mut bob, &mut tablet] {
        until(socket, |f| is_message(f, "m-1")).await?;
    }
    send(&mut bob, &message("m-2", "c", &[])).await?;
    for socket in [&mut alice, &mut phone] {
        let heard = until(socket, |f| is_message(f, "m-2")).await?;
        ensure!(ids(&heard, "message:received") == ["m-2"], "own messages are not told: {heard:?}");
    }
    Ok(())
}

#[tokio::test]
async fn messages_keep_their_order_through_a_burst() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_NO_LIMITS", "true")).await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let sent: Vec<String> = (0..300).map(|n| format!("m-{n}")).collect();
    let (acked, heard) = tokio::try_join!(
        async {
            for id in &sent {
                alice.send(&message(id, "c", &[])).await?;
            }
            until(&mut alice, |f| f["type"] == "message:acked" && f["messageId"] == "m-299").await
        },
        until(&mut bob, |f| is_message(f, "m-299")),
    )?;
    ensure!(ids(&acked, "message:acked") == sent, "acknowledged in the order they were sent");
    ensure!(ids(&heard, "message:received") == sent, "delivered in the order they were sent");
    Ok(())
}

#[tokio::test]
async fn a_removed_member_hears_and_writes_nothing_more() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let removal = json!({"removeMembers": ["bob"]});
    let (status, body) = gateway.api("PATCH", "/api/v1/conversations/c", Some(&removal)).await?;
    ensure!(status == 200, "{status} {body}");
    send(&mut alice, &message("secret", "c", &[])).await?;
    bob.send(&message("protest", "c", &[])).await?;
    refused(&mut bob, "FORBIDDEN", "message:send").await?;
    send(&mut alice, &message("hello again", "elsewhere", &["bob"])).await?;
    let heard = until(&mut bob, |f| is_message(f, "hello again")).await?;
    ensure!(ids(&heard, "message:received") == ["hello again"], "{heard:?}");
    Ok(())
}
