//! Read receipts (2.10): who is told of them, how, and that they are kept.

use crate::support::{World, accepted, bearer, claims, fence, join, refused, send};
use anyhow::{Context, Result, ensure};
use parlance_tests::stock::Report;
use parlance_tests::{Options, StockSocket, Transports, token};
use serde_json::{Value, json};

/// The next receipt of a kind, without its time, which is looked at.
async fn receipt(socket: &StockSocket, kind: &str) -> Result<Value> {
    let mut args = socket.expect(kind).await?;
    let at = if kind == "message:read" { "readAt" } else { "deliveredAt" };
    ensure!(args.len() == 1, "one argument: {args:?}");
    let time = args[0].as_object_mut().and_then(|o| o.remove(at)).context("no time")?;
    ensure!(time.as_str().is_some_and(|t| t.len() == 24 && t.ends_with('Z')), "{time}");
    Ok(args.remove(0))
}

fn is_delivered(report: &Report) -> bool {
    matches!(report, Report::Event(event) if event.name == "message:delivered")
}

#[tokio::test]
async fn r2_10_3_the_author_is_told_that_a_message_was_read() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let tablet = world.joined("alice", "room").await?;
    world.change("room", &json!({ "addMembers": ["carol"] })).await?;
    let carol = world.joined("carol", "room").await?;
    let id = send(&alice, "room", "c-1", "read me").await?;
    assert_eq!(bob.expect("message:new").await?[0]["id"], id);
    accepted(&bob, "message:read", &[json!(id)]).await?;
    for socket in [&alice, &tablet] {
        // 2.10.5: what was read was delivered, and delivered comes first.
        assert_eq!(receipt(socket, "message:read").await?, json!({ "messageId": id, "readBy": "bob" }));
        ensure!(socket.queued().await?.iter().any(is_delivered), "delivered comes before read");
        let delivered = json!({ "messageId": id, "deliveredTo": "bob" });
        assert_eq!(receipt(socket, "message:delivered").await?, delivered);
    }
    // Each reader counts; nobody but the author is told.
    accepted(&carol, "message:read", &[json!(id)]).await?;
    assert_eq!(receipt(&alice, "message:read").await?["readBy"], "carol");
    assert_eq!(receipt(&alice, "message:delivered").await?["deliveredTo"], "carol");
    fence(&alice, "room", &[&bob, &carol]).await?;
    for socket in [&bob, &carol] {
        socket.assert_none("message:read").await?;
        socket.assert_none("message:delivered").await?;
    }
    Ok(())
}

#[tokio::test]
async fn r2_10_3_also_an_author_who_has_not_joined() -> Result<()> {
    let world = World::start().await?;
    world.room("room", &["7", "bob"]).await?;
    let bob = world.joined("bob", "room").await?;
    let author = world.open(bearer(&claims(json!({ "userId": 7 }))?, Transports::Websocket))?;
    author.expect_connect().await?;
    let id = send(&author, "room", "c-1", "I am not in the room").await?;
    assert_eq!(bob.expect("message:new").await?[0]["id"], id);
    accepted(&bob, "message:delivered", &[json!(id)]).await?;
    let delivered = json!({ "messageId": id, "deliveredTo": "bob" });
    assert_eq!(receipt(&author, "message:delivered").await?, delivered);
    accepted(&bob, "message:read", &[json!(id)]).await?;
    assert_eq!(receipt(&author, "message:read").await?, json!({ "messageId": id, "readBy": "bob" }));
    // The other way round the reader is a number.
    let back = send(&bob, "room", "c-2", "and back").await?;
    accepted(&author, "message:read", &[json!(back)]).await?;
    assert_eq!(receipt(&bob, "message:read").await?, json!({ "messageId": back, "readBy": 7 }));
    author.assert_none("message:new").await
}

#[tokio::test]
async fn r2_10_2_reading_covers_what_came_before_and_never_goes_back() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(send(&alice, "room", &format!("c-{n}"), "read me").await?);
    }
    accepted(&bob, "message:delivered", &[json!(ids[0])]).await?;
    assert_eq!(receipt(&alice, "message:delivered").await?["messageId"], ids[0]);
    accepted(&bob, "message:read", &[json!(ids[2])]).await?;
    for id in &ids[1..3] {
        assert_eq!(receipt(&alice, "message:delivered").await?["messageId"], *id);
    }
    for id in &ids[..3] {
        assert_eq!(receipt(&alice, "message:read").await?["messageId"], *id);
    }
    // Said again, or of an older one: fine, and nothing new.
    for id in [ids[2], ids[0]] {
        accepted(&bob, "message:read", &[json!(id)]).await?;
        accepted(&bob, "message:delivered", &[json!(id)]).await?;
    }
    accepted(&bob, "message:read", &[json!(ids[3])]).await?;
    assert_eq!(receipt(&alice, "message:read").await?["messageId"], ids[3]);
    fence(&bob, "room", &[&alice]).await?;
    alice.assert_none("message:read").await
}

#[tokio::test]
async fn r2_10_2_the_state_is_kept_over_the_death_of_the_node() -> Result<()> {
    let mut world = World::with(Options::default()).await?;
    let (alice, bob) = world.pair("room").await?;
    let id = send(&alice, "room", "c-1", "read me").await?;
    accepted(&bob, "message:read", &[json!(id)]).await?;
    world.gateway.restart().await?;
    let cursors = world.gateway.public("GET", "/v1/chats/room/cursors", Some(&token("alice")?)).await?;
    let cursors = cursors.json()?;
    assert_eq!(cursors["cursors"][0]["userId"], "bob", "{cursors}");
    bob.expect_disconnect().await?;
    bob.expect_connect().await?;
    accepted(&bob, "message:read", &[json!(id)]).await?;
    Ok(())
}

#[tokio::test]
async fn r2_10_3_a_receipt_missed_while_the_connection_was_down_is_told_when_it_is_back() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let id = send(&alice, "room", "c-1", "read me").await?;
    alice.expect("message:new").await?;
    alice.drop_transport()?;
    assert_eq!(bob.expect("user:offline").await?[0], "alice");
    accepted(&bob, "message:read", &[json!(id)]).await?;
    assert!(alice.expect_connect().await?.recovered);
    assert_eq!(receipt(&alice, "message:read").await?, json!({ "messageId": id, "readBy": "bob" }));
    Ok(())
}

#[tokio::test]
async fn r2_10_1_receipts_are_a_recipients_and_name_a_message() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let id = send(&alice, "room", "c-1", "read me").await?;
    refused(&alice, "message:read", &[json!(id)], "only a recipient sends receipts").await?;
    refused(&bob, "message:read", &[], "messageId is required").await?;
    refused(&bob, "message:read", &[json!("nonsense")], "messageId is no message id").await?;
    refused(&bob, "message:read", &[json!(id + 1000)], "no such message").await?;
    world.room("other", &["alice", "bob"]).await?;
    let elsewhere = json!({ "messageId": id, "conversationId": "other" });
    refused(&bob, "message:read", &[elsewhere], "a message is not of this conversation").await?;
    // The object edition, and the snake case of it, and the id as a string.
    for argument in [
        json!({ "messageId": id, "conversationId": "room" }),
        json!({ "message_id": id, "conversation_id": "room" }),
        json!({ "messageId": id.to_string() }),
    ] {
        accepted(&bob, "message:read", &[argument]).await?;
    }
    assert_eq!(receipt(&alice, "message:read").await?["messageId"], id);
    alice.assert_none("message:read").await?;
    join(&bob, &json!("other")).await
}
