//! famly: entering and leaving the rooms of chats.

use crate::support::{CHAT, OTHER, World, caught_up, heard, join, left_over, message, ok, send};
use anyhow::{Result, ensure};
use parlance_tests::Options;
use serde_json::{Value, json};

fn chat(id: &str) -> Value {
    json!({ "chatId": id })
}

#[tokio::test]
async fn room_join_lets_a_member_hear_the_room() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.user("bob").await?);
    ensure!(left_over(&bob).await?.is_empty(), "nothing is emitted on connect");
    send(&alice, &message("before")).await?;
    caught_up(&world, &bob, (CHAT, "alice")).await?;
    bob.assert_none("message:new").await?;
    assert_eq!(bob.emit_ack("room:join", &[chat(CHAT)]).await?, [json!({ "ok": true })]);
    // Twice is once.
    assert_eq!(bob.emit_ack("room:join", &[chat(CHAT)]).await?, [json!({ "ok": true })]);
    send(&alice, &message("inside")).await?;
    assert_eq!(heard(&bob, "message:new").await?["clientId"], "inside");
    caught_up(&world, &bob, (CHAT, "alice")).await?;
    assert_eq!(heard(&bob, "message:new").await?["clientId"], Value::Null, "the marker, not `inside` again");
    bob.assert_none("message:new").await?;
    Ok(())
}

#[tokio::test]
async fn several_rooms_at_once_are_heard() -> Result<()> {
    let world = World::shipped().await?;
    let alice = world.inside("alice").await?;
    join(&alice, OTHER).await?;
    let (bob, dave) = (world.user("bob").await?, world.user("dave").await?);
    send(&bob, &message("here")).await?;
    send(&dave, &json!({ "chatId": OTHER, "body": "x", "clientId": "there" })).await?;
    assert_eq!(heard(&alice, "message:new").await?["chatId"], CHAT);
    assert_eq!(heard(&alice, "message:new").await?["chatId"], OTHER);
    Ok(())
}

#[tokio::test]
async fn a_socket_may_be_in_so_many_rooms_and_leaving_makes_room() -> Result<()> {
    let world = World::start(Options::brief().env("PARLANCE_LIMITS_SUBSCRIPTIONS", "2")).await?;
    world.chat("third", &["alice", "bob"]).await?;
    let alice = world.inside("alice").await?;
    // Twice is once, and what was refused is nothing.
    join(&alice, CHAT).await?;
    world.refused(&alice, "room:join", &[chat("nowhere")], "FORBIDDEN").await?;
    join(&alice, OTHER).await?;
    let said = world.refused(&alice, "room:join", &[chat("third")], "RATE_LIMITED").await?;
    assert_eq!(said, "at most 2 rooms per connection");
    join(&alice, CHAT).await?;
    join(&world.user("alice").await?, "third").await?;
    ok(&alice, "room:leave", chat(OTHER)).await?;
    join(&alice, "third").await?;
    world.refused(&alice, "room:join", &[chat(OTHER)], "RATE_LIMITED").await?;
    // Whoever is taken out of a chat is in one room less.
    world.change(&json!({ "removeMembers": ["alice"] })).await?;
    caught_up(&world, &alice, ("third", "bob")).await?;
    join(&alice, OTHER).await?;
    Ok(())
}

#[tokio::test]
async fn room_join_of_a_non_member_or_an_unknown_chat_is_forbidden() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, mallory, dave) =
        (world.inside("alice").await?, world.user("mallory").await?, world.user("dave").await?);
    for outsider in [&mallory, &dave] {
        let foreign = world.refused(outsider, "room:join", &[chat(CHAT)], "FORBIDDEN").await?;
        let unknown = world.refused(outsider, "room:join", &[chat("nowhere")], "FORBIDDEN").await?;
        assert_eq!(foreign, unknown, "nobody learns which chats of others exist");
    }
    // Refused is refused: nothing of the room is heard.
    send(&alice, &message("m")).await?;
    heard(&alice, "message:new").await?;
    alice.emit("typing:start", &[chat(CHAT)])?;
    caught_up(&world, &dave, (OTHER, "alice")).await?;
    ok(&mallory, "presence:ping", json!({})).await?;
    for outsider in [&mallory, &dave] {
        let heard = left_over(outsider).await?;
        ensure!(heard.iter().all(|name| name == "presence:update"), "{heard:?}");
    }
    Ok(())
}

#[tokio::test]
async fn room_leave_is_idempotent_and_needs_no_membership() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob, mallory) =
        (world.inside("alice").await?, world.inside("bob").await?, world.user("mallory").await?);
    for _ in 0..2 {
        assert_eq!(bob.emit_ack("room:leave", &[chat(CHAT)]).await?, [json!({ "ok": true })]);
    }
    for never_entered in [CHAT, OTHER, "nowhere"] {
        assert_eq!(mallory.emit_ack("room:leave", &[chat(never_entered)]).await?, [json!({ "ok": true })]);
    }
    // Outside, a member still hears of messages, and of nothing else.
    alice.emit("typing:start", &[chat(CHAT)])?;
    send(&alice, &message("m")).await?;
    assert_eq!(heard(&bob, "message:notification").await?["message"]["clientId"], "m");
    bob.assert_none("message:new").await?;
    bob.assert_none("typing:update").await?;
    // And can come back.
    join(&bob, CHAT).await?;
    send(&alice, &message("n")).await?;
    assert_eq!(heard(&bob, "message:new").await?["clientId"], "n");
    Ok(())
}

#[tokio::test]
async fn leaving_one_room_on_one_device_leaves_no_other() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, phone, tablet) =
        (world.inside("alice").await?, world.inside("bob").await?, world.inside("bob").await?);
    ok(&phone, "room:leave", chat(CHAT)).await?;
    send(&alice, &message("m")).await?;
    assert_eq!(heard(&tablet, "message:new").await?["clientId"], "m");
    heard(&phone, "message:notification").await?;
    phone.assert_none("message:new").await?;
    Ok(())
}

#[tokio::test]
async fn validation_error_for_a_room_that_is_not_named() -> Result<()> {
    let world = World::shipped().await?;
    let wrong: &[&[Value]] = &[
        &[],
        &[Value::Null],
        &[json!(CHAT)],
        &[json!([CHAT])],
        &[json!(7)],
        &[json!({})],
        &[json!({ "chatid": CHAT })],
        &[json!({ "chatId": null })],
        &[json!({ "chatId": 7 })],
        &[json!({ "chatId": [CHAT] })],
        &[chat("")],
        &[chat("a b")],
        &[chat("é")],
        &[chat(&"c".repeat(129))],
    ];
    for event in ["room:join", "room:leave", "typing:start", "typing:stop"] {
        // Each refusal is looked for in the log, where one connection has its share.
        let alice = world.user("alice").await?;
        for args in wrong {
            world.refused(&alice, event, args, "VALIDATION_ERROR").await?;
        }
    }
    let alice = world.user("alice").await?;
    // Whatever else is in the payload is no concern of the server's.
    let more = json!({ "chatId": CHAT, "userId": "bob", "since": { "x": [1] } });
    ok(&alice, "room:join", more).await?;
    Ok(())
}

#[tokio::test]
async fn nothing_needs_an_ack_to_be_done() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.user("alice").await?, world.user("bob").await?);
    bob.emit("room:join", &[chat("nowhere")])?;
    bob.emit("room:join", &[chat(CHAT)])?;
    bob.emit("receipt:read", &[json!({ "chatId": CHAT, "messageId": "?" })])?;
    bob.emit("message:send", &[message("from bob")])?;
    assert_eq!(heard(&bob, "message:new").await?["clientId"], "from bob", "joined, and sent");
    bob.emit("room:leave", &[chat(CHAT)])?;
    bob.emit("presence:ping", &[json!({})])?;
    ok(&bob, "presence:ping", json!({})).await?;
    send(&alice, &message("m")).await?;
    heard(&bob, "message:notification").await?;
    bob.assert_none("message:new").await?;
    Ok(())
}
