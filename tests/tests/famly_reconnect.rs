//! famly: the core scenario on every transport, and what a client that was away reads when it comes back.

mod famly_support;

use anyhow::{Context, Result, ensure};
use famly_support::{
    CHAT, World, as_user, caught_up, heard, heard_until, join, keys, left_over, message, ok, send,
};
use parlance_tests::{StockSocket, Transports};
use serde_json::{Value, json};

/// A user in the room, on the transport it stays on.
async fn on(world: &World, user: &str, transports: Transports) -> Result<StockSocket> {
    let socket = world.open(as_user(user, transports)?)?;
    let connected = socket.expect_connect().await?;
    match transports {
        Transports::Websocket => ensure!(connected.transport == "websocket", "{connected:?}"),
        Transports::Polling => ensure!(connected.transport == "polling", "{connected:?}"),
        Transports::Upgrade => ensure!(socket.expect_upgrade().await? == "websocket", "{connected:?}"),
    }
    join(&socket, CHAT).await?;
    Ok(socket)
}

#[tokio::test]
async fn join_send_hear_typing_and_receipt_on_every_transport() -> Result<()> {
    let world = World::shipped().await?;
    for transports in Transports::ALL {
        let (alice, bob) = (on(&world, "alice", transports).await?, on(&world, "bob", transports).await?);
        alice.emit("typing:start", &[json!({ "chatId": CHAT })])?;
        let typing = json!({ "chatId": CHAT, "userId": "alice", "state": "start" });
        assert_eq!(heard(&bob, "typing:update").await?, typing, "{transports:?}");
        alice.emit("typing:stop", &[json!({ "chatId": CHAT })])?;
        assert_eq!(heard(&bob, "typing:update").await?["state"], "stop", "{transports:?}");
        let mut sent = message(&format!("{transports:?}"));
        // More than a kilobyte is gzipped over polling.
        sent["body"] = json!("é😀\u{1e}\"\\\n".repeat(300));
        let id = send(&alice, &sent).await?;
        for socket in [&alice, &bob] {
            let new = heard(socket, "message:new").await?;
            assert_eq!((&new["_id"], &new["body"]), (&json!(id), &sent["body"]), "{transports:?}");
        }
        let data = ok(&bob, "receipt:read", json!({ "chatId": CHAT, "messageId": id })).await?;
        let update = heard(&alice, "receipt:update").await?;
        assert_eq!(
            (&update["messageId"], &update["readAt"]),
            (&json!(id), &data["readAt"]),
            "{transports:?}"
        );
        assert_eq!(
            alice.emit_ack("room:leave", &[json!({ "chatId": CHAT })]).await?,
            [json!({ "ok": true })]
        );
        for socket in [&alice, &bob] {
            socket.disconnect()?;
            assert_eq!(socket.expect_disconnect().await?, "io client disconnect", "{transports:?}");
        }
        for user in ["alice", "bob"] {
            world.devices(user, 0).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn many_messages_arrive_in_order_on_every_transport() -> Result<()> {
    let world = World::mounted("messages = { limit = 0, window_ms = 1000 }").await?;
    let mut listeners = Vec::new();
    for transports in Transports::ALL {
        listeners.push(on(&world, "bob", transports).await?);
    }
    for transports in Transports::ALL {
        let alice = on(&world, "alice", transports).await?;
        let mut tags = Vec::new();
        for n in 0..100 {
            tags.push(alice.emit_tagged("message:send", &[message(&format!("{transports:?}-{n}"))])?);
        }
        for tag in tags {
            famly_support::done(&alice.acked(tag).await?)?;
        }
        for listener in &listeners {
            for n in 0..100 {
                assert_eq!(heard(listener, "message:new").await?["clientId"], format!("{transports:?}-{n}"));
            }
        }
    }
    Ok(())
}

/// The ids of a page's messages.
fn ids(page: &Value) -> Vec<&str> {
    page["messages"].as_array().into_iter().flatten().filter_map(|message| message["_id"].as_str()).collect()
}

#[tokio::test]
async fn after_a_reconnect_the_room_is_joined_again_and_the_backfill_read() -> Result<()> {
    let world = World::mounted("recovery = false").await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let before = send(&alice, &message("before")).await?;
    assert_eq!(heard(&bob, "message:new").await?["_id"], before);
    bob.drop_transport()?;
    bob.expect_disconnect().await?;
    let mut missed = Vec::new();
    for n in 0..5 {
        missed.push(send(&alice, &message(&format!("missed {n}"))).await?);
    }
    ok(&alice, "receipt:read", json!({ "chatId": CHAT, "messageId": missed[2] })).await?;
    ensure!(!bob.expect_connect().await?.recovered, "there is no recovery here");
    join(&bob, CHAT).await?;
    let (status, page) = world.backfill("bob", &format!("{CHAT}/messages?after={before}")).await?;
    assert_eq!((status, ids(&page)), (200, missed.iter().map(String::as_str).collect()));
    ensure!(keys(&page) == ["hasMore", "messages"] && page["hasMore"] == false, "{page}");
    let (_, first) = world.backfill("bob", &format!("{CHAT}/messages?after={before}&limit=2")).await?;
    assert_eq!((ids(&first), &first["hasMore"]), (vec![&*missed[0], &*missed[1]], &json!(true)));
    let (_, rest) = world.backfill("bob", &format!("{CHAT}/messages?after={}", missed[1])).await?;
    assert_eq!(ids(&rest), missed[2..]);
    let (_, older) = world.backfill("bob", &format!("{CHAT}/messages?before={}", missed[0])).await?;
    assert_eq!(ids(&older), [before.as_str()]);
    let (status, body) = world.backfill("bob", &format!("{CHAT}/cursors")).await?;
    let cursors = body["cursors"].as_array().context("no cursors")?;
    let of_alice = cursors.iter().find(|c| c["userId"] == "alice").context("alice has read")?;
    assert_eq!((status, &of_alice["messageId"]), (200, &json!(missed[2])));
    // And from now on it is told, with the object the backfill has.
    let id = send(&alice, &message("after")).await?;
    let new = heard_until(&bob, "message:new", |m| m["_id"] == id.as_str()).await?;
    let (_, page) = world.backfill("bob", &format!("{CHAT}/messages?after={}", missed[4])).await?;
    assert_eq!(page["messages"], json!([new.last().context("heard")?["message"]]));
    ensure!(new.len() == 1, "what the backfill has is not told again: {new:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_recovers_hears_what_it_missed_once_and_is_still_in_its_rooms() -> Result<()> {
    let world = World::shipped().await?;
    for transports in Transports::ALL {
        let (alice, bob) = (world.inside("alice").await?, on(&world, "bob", transports).await?);
        let name = |what: &str| format!("{what} {transports:?}");
        send(&alice, &message(&name("before"))).await?;
        assert_eq!(heard(&bob, "message:new").await?["clientId"], name("before"));
        heard(&bob, "message:notification").await?;
        bob.drop_transport()?;
        bob.expect_disconnect().await?;
        send(&alice, &message(&name("missed"))).await?;
        ensure!(bob.expect_connect().await?.recovered, "{transports:?}");
        send(&alice, &message(&name("after"))).await?;
        for what in ["missed", "after"] {
            assert_eq!(heard(&bob, "message:new").await?["clientId"], name(what), "{transports:?}");
            assert_eq!(heard(&bob, "message:notification").await?["message"]["clientId"], name(what));
        }
        caught_up(&world, &bob, (CHAT, "carol")).await?;
        heard(&bob, "message:new").await?;
        let over = left_over(&bob).await?;
        ensure!(over.iter().all(|event| event == "presence:update"), "{transports:?}: {over:?}");
        for socket in [&alice, &bob] {
            socket.disconnect()?;
        }
    }
    Ok(())
}
