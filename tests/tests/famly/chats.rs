//! famly: chats that are created and changed by the application's backend, and their members.

use crate::support::{CHAT, OTHER, World, caught_up, heard, heard_until, join, left_over, message, ok, send};
use anyhow::{Context, Result, ensure};
use parlance_tests::StockSocket;
use parlance_tests::exact::{is_time, keys};
use serde_json::{Value, json};

/// The chat of the next `chat:update`, of the documented shape.
async fn updated(socket: &StockSocket) -> Result<Value> {
    let update = heard(socket, "chat:update").await?;
    ensure!(keys(&update) == ["chat"], "{update}");
    let chat = &update["chat"];
    let shape = ["_id", "createdAt", "createdBy", "memberIds", "title", "type", "updatedAt"];
    ensure!(keys(chat) == shape && is_time(&chat["createdAt"]) && is_time(&chat["updatedAt"]), "{chat}");
    ensure!(chat["createdAt"].as_str() <= chat["updatedAt"].as_str(), "{chat}");
    Ok(chat.clone())
}

fn members(chat: &Value) -> Vec<&str> {
    let mut all: Vec<&str> =
        chat["memberIds"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    all.sort_unstable();
    all
}

/// Whom the next `chat:member-added` or `-removed` is about.
async fn member(socket: &StockSocket, event: &str) -> Result<String> {
    let change = heard(socket, event).await?;
    ensure!(keys(&change) == ["chatId", "timestamp", "userId"] && is_time(&change["timestamp"]), "{change}");
    ensure!(change["chatId"] == CHAT, "{change}");
    Ok(change["userId"].as_str().context("no user")?.to_owned())
}

#[tokio::test]
async fn chat_update_tells_all_members_of_a_new_title_joined_or_not() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob, dave) =
        (world.inside("alice").await?, world.user("bob").await?, world.user("dave").await?);
    world.change(&json!({ "title": "Family" })).await?;
    for socket in [&alice, &bob] {
        let chat = updated(socket).await?;
        assert_eq!(
            (&chat["_id"], &chat["type"], &chat["title"]),
            (&json!(CHAT), &json!("group"), &json!("Family"))
        );
        assert_eq!((members(&chat), &chat["createdBy"]), (vec!["alice", "bob", "carol"], &json!("alice")));
    }
    world.change(&json!({ "title": null })).await?;
    let chat = updated(&bob).await?;
    assert_eq!(chat["title"], Value::Null);
    caught_up(&world, &bob, (CHAT, "carol")).await?;
    bob.assert_none("chat:member-added").await?;
    bob.assert_none("chat:update").await?;
    caught_up(&world, &dave, (OTHER, "alice")).await?;
    dave.assert_none("chat:update").await?;
    Ok(())
}

#[tokio::test]
async fn a_created_chat_is_told_to_its_connected_members_and_heard_at_once() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob, carol) =
        (world.user("alice").await?, world.user("bob").await?, world.user("carol").await?);
    let body = json!({ "id": "new", "type": "dm", "members": ["alice", "bob"], "createdBy": "bob" });
    world.gateway.call("POST", "/api/v1/conversations", Some(&body)).await?;
    for socket in [&alice, &bob] {
        let chat = updated(socket).await?;
        assert_eq!(
            (&chat["_id"], &chat["type"], &chat["title"]),
            (&json!("new"), &json!("dm"), &Value::Null)
        );
        assert_eq!((members(&chat), &chat["createdBy"]), (vec!["alice", "bob"], &json!("bob")));
    }
    send(&alice, &json!({ "chatId": "new", "body": "b", "clientId": "m" })).await?;
    assert_eq!(heard(&bob, "message:notification").await?["chatId"], "new");
    caught_up(&world, &carol, (CHAT, "alice")).await?;
    carol.assert_none("chat:update").await?;
    Ok(())
}

#[tokio::test]
async fn the_first_member_given_created_a_chat_of_nobody_for_good() -> Result<()> {
    let world = World::shipped().await?;
    let bob = world.user("bob").await?;
    let body = json!({ "id": "new", "type": "group", "members": ["bob", "alice"] });
    world.gateway.call("POST", "/api/v1/conversations", Some(&body)).await?;
    assert_eq!(updated(&bob).await?["createdBy"], "bob", "the first one given, not the first by name");
    for (change, title) in
        [(json!({ "removeMembers": ["bob"] }), Value::Null), (json!({ "title": "New" }), json!("New"))]
    {
        world.gateway.call("PATCH", "/api/v1/conversations/new", Some(&change)).await?;
        world
            .gateway
            .call("PATCH", "/api/v1/conversations/new", Some(&json!({ "addMembers": ["bob"] })))
            .await?;
        let chat = loop {
            let chat = updated(&bob).await?;
            if chat["title"] == title && members(&chat) == ["alice", "bob"] {
                break chat;
            }
        };
        assert_eq!(chat["createdBy"], "bob");
    }
    Ok(())
}

#[tokio::test]
async fn chat_member_added_is_told_to_all_and_the_new_member_hears_notifications() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.user("bob").await?);
    let (erin, desk) = (world.user("erin").await?, world.user("erin").await?);
    send(&bob, &message("before")).await?;
    world.refused(&erin, "room:join", &[json!({ "chatId": CHAT })], "FORBIDDEN").await?;
    world.change(&json!({ "addMembers": ["erin"] })).await?;
    for socket in [&alice, &bob, &erin, &desk] {
        assert_eq!(members(&updated(socket).await?), ["alice", "bob", "carol", "erin"]);
        assert_eq!(member(socket, "chat:member-added").await?, "erin");
    }
    send(&bob, &message("after")).await?;
    for device in [&erin, &desk] {
        let told = heard(device, "message:notification").await?;
        assert_eq!(told["message"]["clientId"], "after", "what was said before the join is not told");
    }
    join(&erin, CHAT).await?;
    let id = send(&erin, &message("from erin")).await?;
    assert_eq!(heard(&alice, "message:new").await?["clientId"], "before");
    let heard = heard_until(&alice, "message:new", |m| m["_id"] == id.as_str()).await?;
    assert_eq!(heard.len(), 2, "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn chat_member_removed_is_told_to_the_removed_member_who_hears_nothing_after() -> Result<()> {
    let world = World::shipped().await?;
    let (bob, carol) = (world.inside("bob").await?, world.user("carol").await?);
    let (alice, desk) = (world.inside("alice").await?, world.user("alice").await?);
    let first = send(&bob, &message("before")).await?;
    for device in [&alice, &desk] {
        heard(device, "message:notification").await?;
    }
    heard(&alice, "message:new").await?;
    world.change(&json!({ "removeMembers": ["alice"] })).await?;
    for socket in [&alice, &desk, &bob, &carol] {
        assert_eq!(members(&updated(socket).await?), ["bob", "carol"]);
        assert_eq!(member(socket, "chat:member-removed").await?, "alice");
    }
    // Everything the chat's members can hear.
    let id = send(&bob, &message("secret")).await?;
    join(&carol, CHAT).await?;
    ok(&carol, "receipt:read", json!({ "chatId": CHAT, "messageId": id })).await?;
    carol.emit("typing:start", &[json!({ "chatId": CHAT })])?;
    heard(&bob, "typing:update").await?;
    world.change(&json!({ "title": "Without her" })).await?;
    updated(&bob).await?;
    for device in [&alice, &desk] {
        caught_up(&world, device, (OTHER, "dave")).await?;
        let over = left_over(device).await?;
        ensure!(over.iter().all(|name| name == "presence:update"), "{over:?}");
        for (event, payload) in [
            ("room:join", json!({ "chatId": CHAT })),
            ("message:send", message("m")),
            ("receipt:read", json!({ "chatId": CHAT, "messageId": first })),
        ] {
            world.refused(device, event, &[payload], "FORBIDDEN").await?;
        }
        ok(device, "typing:start", json!({ "chatId": CHAT })).await?;
    }
    assert_eq!(world.backfill("alice", "c1/messages").await?.0, 403);
    caught_up(&world, &bob, (CHAT, "carol")).await?;
    bob.assert_none("typing:update").await?;
    Ok(())
}

#[tokio::test]
async fn a_removed_member_who_comes_back_hears_what_is_said_from_then_on() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    world.change(&json!({ "removeMembers": ["alice"] })).await?;
    assert_eq!(member(&alice, "chat:member-removed").await?, "alice");
    send(&bob, &message("while out")).await?;
    world.change(&json!({ "addMembers": ["alice"] })).await?;
    assert_eq!(member(&alice, "chat:member-added").await?, "alice");
    send(&bob, &message("back")).await?;
    assert_eq!(heard(&alice, "message:notification").await?["message"]["clientId"], "back");
    alice.assert_none("message:new").await?;
    join(&alice, CHAT).await?;
    send(&bob, &message("inside")).await?;
    assert_eq!(heard(&alice, "message:new").await?["clientId"], "inside");
    Ok(())
}
