//! famly: the core scenario on every transport, and what a client that was away reads when it comes back.

use crate::support::{
    CHAT, OTHER, World, as_user, caught_up, heard, heard_until, join, left_over, message, ok, send,
};
use anyhow::{Context, Result, bail, ensure};
use parlance_tests::exact::keys;
use parlance_tests::{Stock, StockSocket, Transports};
use serde_json::{Value, json};

/// A user in the room, on the transport it stays on.
async fn on(world: &World, user: &str, transports: Transports) -> Result<StockSocket> {
    let socket = world.open(as_user(user, transports)?)?;
    stays_on(&socket, transports).await?;
    join(&socket, CHAT).await?;
    Ok(socket)
}

/// Waits until a socket is connected over the transport it is to stay on.
async fn stays_on(socket: &StockSocket, transports: Transports) -> Result<()> {
    let connected = socket.expect_connect().await?;
    let now = match transports {
        // One library says so before the upgrade, the other after it.
        Transports::Upgrade if connected.transport == "polling" => socket.expect_upgrade().await?,
        _ => connected.transport,
    };
    ensure!((now == "polling") == (transports == Transports::Polling), "{transports:?}: over {now}");
    Ok(())
}

#[tokio::test]
async fn join_send_hear_typing_and_receipt_on_every_transport() -> Result<()> {
    let world = World::shipped().await?;
    core_scenario(&world, &world.stock).await
}

#[tokio::test]
async fn join_send_hear_typing_and_receipt_with_the_python_client() -> Result<()> {
    let Some(python) = Stock::python()? else { return Ok(()) };
    core_scenario(&World::shipped().await?, &python).await
}

/// Join, type, send, hear, read, leave, go.
async fn core_scenario(world: &World, stock: &Stock) -> Result<()> {
    for transports in Transports::ALL {
        let mut sockets = Vec::new();
        for user in ["alice", "bob"] {
            let socket = stock.connect(world.gateway.address(), as_user(user, transports)?)?;
            stays_on(&socket, transports).await?;
            join(&socket, CHAT).await?;
            sockets.push(socket);
        }
        let [alice, bob] = sockets.as_slice() else { bail!("two sockets") };
        alice.emit("typing:start", &[json!({ "chatId": CHAT })])?;
        let typing = json!({ "chatId": CHAT, "userId": "alice", "state": "start" });
        assert_eq!(heard(bob, "typing:update").await?, typing, "{transports:?}");
        alice.emit("typing:stop", &[json!({ "chatId": CHAT })])?;
        assert_eq!(heard(bob, "typing:update").await?["state"], "stop", "{transports:?}");
        let mut sent = message(&format!("{transports:?}"));
        // More than a kilobyte is gzipped over polling.
        sent["body"] = json!("é😀\u{1e}\"\\\n".repeat(300));
        let id = send(alice, &sent).await?;
        for socket in [alice, bob] {
            let new = heard(socket, "message:new").await?;
            assert_eq!((&new["_id"], &new["body"]), (&json!(id), &sent["body"]), "{transports:?}");
        }
        let data = ok(bob, "receipt:read", json!({ "chatId": CHAT, "messageId": id })).await?;
        let update = heard(alice, "receipt:update").await?;
        assert_eq!(
            (&update["messageId"], &update["readAt"]),
            (&json!(id), &data["readAt"]),
            "{transports:?}"
        );
        assert_eq!(
            alice.emit_ack("room:leave", &[json!({ "chatId": CHAT })]).await?,
            [json!({ "ok": true })]
        );
        for socket in [alice, bob] {
            socket.disconnect()?;
            let reason = socket.expect_disconnect().await?;
            ensure!(reason.ends_with("client disconnect"), "{transports:?}: {reason}");
        }
        for user in ["alice", "bob"] {
            world.gateway.until_presence(user, "devices", 0).await?;
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
            crate::support::done(&alice.acked(tag).await?)?;
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

/// A user in the room whose connection has just broken and who comes back when the test says so.
async fn cut_off(world: &World, user: &str) -> Result<StockSocket> {
    let socket = world.open(as_user(user, Transports::Websocket)?.reconnection(false))?;
    socket.expect_connect().await?;
    join(&socket, CHAT).await?;
    // What a session can recover from is an event it has heard.
    caught_up(world, &socket, (CHAT, "carol")).await?;
    heard(&socket, "message:new").await?;
    socket.drop_transport()?;
    socket.expect_disconnect().await?;
    Ok(socket)
}

#[tokio::test]
async fn who_was_removed_while_away_recovers_nothing_that_was_said_after() -> Result<()> {
    let world = World::shipped().await?;
    let carol = world.inside("carol").await?;
    let alice = cut_off(&world, "alice").await?;
    world.change(&json!({ "removeMembers": ["alice"] })).await?;
    send(&carol, &message("secret")).await?;
    alice.reconnect()?;
    alice.expect_connect().await?;
    world.refused(&alice, "room:join", &[json!({ "chatId": CHAT })], "FORBIDDEN").await?;
    send(&carol, &message("another secret")).await?;
    caught_up(&world, &alice, (OTHER, "dave")).await?;
    for event in ["message:new", "message:notification"] {
        alice.assert_none(event).await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_was_added_while_away_recovers_what_was_said_since() -> Result<()> {
    let world = World::shipped().await?;
    world.chat("c3", &["bob"]).await?;
    let alice = cut_off(&world, "alice").await?;
    world.say("c3", "bob", "before").await?;
    let add = json!({ "addMembers": ["alice"] });
    world.gateway.call("PATCH", "/api/v1/conversations/c3", Some(&add)).await?;
    world.say("c3", "bob", "since").await?;
    alice.reconnect()?;
    ensure!(alice.expect_connect().await?.recovered, "not recovered");
    let told = heard(&alice, "message:notification").await?;
    assert_eq!((&told["chatId"], &told["message"]["body"]), (&json!("c3"), &json!("since")));
    Ok(())
}
