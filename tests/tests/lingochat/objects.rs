//! The object edition: understood, answered in kind, and settled by a socket's first command.

use crate::support::{World, accepted, fence, join, send};
use anyhow::{Context, Result};
use parlance_tests::StockSocket;
use serde_json::{Value, json};

/// A socket of `user` whose first command is of the object edition: it joins the room.
async fn speaker(world: &World, user: &str, joining: &str) -> Result<StockSocket> {
    let socket = world.connect(user).await?;
    accepted(&socket, joining, &[json!({ "conversationId": "room" })]).await?;
    Ok(socket)
}

#[tokio::test]
async fn objects_are_answered_with_objects() -> Result<()> {
    let world = World::start().await?;
    let number = world.room("room", &["alice", "bob"]).await?;
    let alice = speaker(&world, "alice", "conversation:join").await?;
    let bob = world.joined("bob", "room").await?;
    let who = json!({ "conversationId": number, "userId": "bob" });
    assert_eq!(alice.expect("user:online").await?, std::slice::from_ref(&who));
    assert_eq!(bob.expect("user:online").await?[0], "alice", "each in its own edition");
    for event in ["typing:start", "typing:stop"] {
        accepted(&bob, event, &[json!("room")]).await?;
        assert_eq!(alice.expect(event).await?, std::slice::from_ref(&who), "{event}");
        accepted(&alice, event, &[json!({ "conversationId": number })]).await?;
        assert_eq!(bob.expect(event).await?[0], "alice", "{event}");
    }

    let message = json!({ "conversationId": "room", "text": "hi", "clientMessageId": "c-1" });
    let answer = alice.emit_ack("message:send", std::slice::from_ref(&message)).await?;
    let id = answer[0]["messageId"].as_u64().with_context(|| format!("{answer:?}"))?;
    assert_eq!(answer, [json!({ "success": true, "messageId": id })]);
    let told = |duplicate: bool| json!({ "messageId": id, "clientMessageId": "c-1", "conversationId": "room", "duplicate": duplicate });
    assert_eq!(alice.expect("message:ack").await?, [told(false)]);
    alice.emit("message:send", &[message])?;
    assert_eq!(alice.expect("message:ack").await?, [told(true)]);
    // What is an object in either edition is the same in both.
    let (mine, theirs) = (alice.expect("message:new").await?, bob.expect("message:new").await?);
    assert_eq!((&mine, &mine[0]["id"]), (&theirs, &json!(id)));
    accepted(&bob, "conversation:leave", &[json!("room")]).await?;
    assert_eq!(alice.expect("user:offline").await?, [who]);
    Ok(())
}

#[tokio::test]
async fn every_field_has_its_aliases() -> Result<()> {
    let world = World::unlimited().await?;
    let number = world.room("room", &["alice", "bob"]).await?;
    let bob = world.joined("bob", "room").await?;
    let alice = world.connect("alice").await?;
    let mut count = 0;
    for conversation in ["conversationId", "conversation_id", "roomId", "room_id"] {
        accepted(&alice, "conversation:join", &[json!({ conversation: "room" })]).await?;
        for text in ["text", "content", "body"] {
            for client_id in ["clientMessageId", "client_message_id"] {
                count += 1;
                let id = format!("c-{count}");
                let message = json!({ conversation: number, text: id, client_id: id });
                alice.emit("message:send", &[message])?;
                let came = bob.expect("message:new").await?;
                assert_eq!((&came[0]["text"], &came[0]["clientMessageId"]), (&json!(id), &json!(id)));
                assert_eq!(alice.expect("message:ack").await?[0]["clientMessageId"], id);
            }
        }
    }
    let message = json!({
        "conversation_id": "room", "content": "snake", "client_message_id": "snake", "sender_language": "en",
        "recipient_language": "de", "translated_text": "Schlange",
    });
    alice.emit("message:send", &[message])?;
    let came = bob.expect("message:new").await?;
    let languages = [&came[0]["senderLanguage"], &came[0]["recipientLanguage"], &came[0]["translatedText"]];
    assert_eq!(languages, ["en", "de", "Schlange"]);
    let synced = alice
        .emit_ack("messages:sync", &[json!({ "conversation_id": "room", "since": came[0]["createdAt"] })])
        .await?;
    assert_eq!(synced[0]["messages"].as_array().and_then(|m| m.last()), Some(&came[0]));
    Ok(())
}

#[tokio::test]
async fn the_first_command_settles_the_edition() -> Result<()> {
    let world = World::start().await?;
    let number = world.room("room", &["alice", "bob"]).await?;
    let bob = world.joined("bob", "room").await?;
    // Positional first: objects are understood, and not answered with objects.
    let alice = world.joined("alice", "room").await?;
    alice.emit("message:send", &[json!({ "conversationId": "room", "content": "an object" })])?;
    let ack = alice.expect("message:ack").await?;
    assert!(ack.len() == 2 && ack[0].is_u64(), "{ack:?}");
    assert_eq!(alice.expect("user:online").await?[0], "bob");
    alice.disconnect()?;
    assert_eq!(bob.expect("message:new").await?[0]["text"], "an object");

    // Objects first. What cannot be read settles nothing.
    let alice = world.connect("alice").await?;
    for (event, args) in [
        ("conversation:join", vec![]),
        ("message:send", vec![json!("room"), json!({ "text": "" })]),
        ("no:such:event", vec![json!("room")]),
    ] {
        let answer = alice.emit_ack(event, &args).await?;
        assert_eq!(answer[0]["success"], false, "{event}: {answer:?}");
    }
    accepted(&alice, "conversation:join", &[json!({ "room_id": number })]).await?;
    alice
        .emit("message:send", &[json!("room"), json!({ "text": "positional", "clientMessageId": "c-1" })])?;
    let ack = alice.expect("message:ack").await?;
    assert!(ack.len() == 1 && ack[0]["messageId"].is_u64(), "{ack:?}");
    assert_eq!(ack[0]["conversationId"], "room");
    assert_eq!(alice.expect("user:online").await?[0]["userId"], "bob");
    // A new socket begins anew.
    let tablet = world.connect("alice").await?;
    join(&tablet, &json!("room")).await?;
    assert_eq!(tablet.expect("user:online").await?[0], "bob");
    Ok(())
}

#[tokio::test]
async fn a_recovered_socket_is_spoken_to_as_before() -> Result<()> {
    let world = World::start().await?;
    let number = world.room("room", &["alice", "bob"]).await?;
    let bob = world.joined("bob", "room").await?;
    let alice = speaker(&world, "alice", "room:join").await?;
    send(&bob, "room", "c-1", "one").await?;
    assert_eq!(alice.expect("room:message").await?[0]["text"], "one");
    alice.expect("room:user_joined").await?;
    alice.drop_transport()?;
    assert_eq!(bob.expect("user:online").await?[0], "alice");
    assert_eq!(bob.expect("user:offline").await?[0], "alice");
    send(&bob, "room", "c-2", "two").await?;
    assert!(alice.expect_connect().await?.recovered);
    assert_eq!(alice.expect("room:message").await?[0]["text"], "two", "still in the group");
    // It says nothing again, so nothing else would settle the edition.
    assert_eq!(bob.expect("user:online").await?[0], "alice");
    accepted(&bob, "typing:start", &[json!("room")]).await?;
    let who = json!({ "conversationId": number, "userId": "bob" });
    assert_eq!(alice.expect("typing:start").await?[0], who, "and still of the object edition");
    Ok(())
}

#[tokio::test]
async fn group_rooms_speak_objects_too() -> Result<()> {
    let world = World::start().await?;
    let number = world.room("room", &["alice", "bob"]).await?;
    let alice = speaker(&world, "alice", "room:join").await?;
    let bob = speaker(&world, "bob", "room:join").await?;
    let who = json!({ "conversationId": number, "userId": "bob" });
    assert_eq!(alice.expect("room:user_joined").await?, std::slice::from_ref(&who));
    bob.emit("room:message", &[json!({ "room_id": number, "body": "hi", "client_message_id": "c-1" })])?;
    let ack = bob.expect("room:message_ack").await?;
    assert_eq!((ack.len(), &ack[0]["clientMessageId"]), (1, &json!("c-1")));
    assert_eq!(ack[0]["conversationId"], number, "as it was called");
    assert_eq!(alice.expect("room:message").await?[0]["id"], ack[0]["messageId"]);
    world.change("room", &json!({ "addMembers": ["carol"] })).await?;
    let carol: Value = json!({ "conversationId": number, "userId": "carol" });
    assert_eq!(alice.expect("room:user_joined").await?[0], carol);
    accepted(&bob, "room:leave", &[json!({ "roomId": "room" })]).await?;
    assert_eq!(alice.expect("room:user_left").await?, [who]);
    let positional = world.joined("bob", "room").await?;
    fence(&positional, "room", &[&positional]).await
}
