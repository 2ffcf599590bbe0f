//! The way of a message from one stock client to another: on every transport, with two client libraries.

use crate::support::{PATH, World, accepted, bearer, join, options, send};
use anyhow::{Result, ensure};
use parlance_tests::{Stock, StockSocket, Transports, token};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

/// Everything two people do in a conversation, alice on the transport under test.
async fn scenario(world: &World, alice: &StockSocket, room: &str, number: u64) -> Result<()> {
    let bob = world.joined("bob", room).await?;
    join(alice, &json!(number)).await?;
    assert_eq!(bob.expect("user:online").await?[0], "alice");
    assert_eq!(alice.expect("user:online").await?[0], "bob");

    accepted(alice, "typing:start", &[json!(number)]).await?;
    assert_eq!(bob.expect("typing:start").await?[0], "alice");
    accepted(alice, "typing:stop", &[json!(number)]).await?;
    assert_eq!(bob.expect("typing:stop").await?[0], "alice");

    let id = send(alice, room, &format!("{room}-1"), "grüße 👋").await?;
    for socket in [alice, &bob] {
        let came = socket.expect("message:new").await?;
        assert_eq!((&came[0]["id"], &came[0]["text"]), (&json!(id), &json!("grüße 👋")));
    }
    bob.emit("message:read", &[json!(id)])?;
    assert_eq!(alice.expect("message:read").await?[0]["messageId"], id);

    // What was sent while the connection was down comes before it is up again.
    alice.drop_transport()?;
    alice.expect_disconnect().await?;
    send(&bob, room, &format!("{room}-2"), "meanwhile").await?;
    alice.expect_connect().await?;
    Ok(())
}

#[tokio::test]
async fn r3_5_2_everything_works_over_websocket_polling_and_upgrade() -> Result<()> {
    let world = World::start().await?;
    for (index, transports) in Transports::ALL.into_iter().enumerate() {
        let room = format!("room-{index}");
        let number = world.room(&room, &["alice", "bob"]).await?;
        let alice = world.open(options("alice", transports)?)?;
        let connected = alice.expect_connect().await?;
        match transports {
            Transports::Websocket => assert_eq!(connected.transport, "websocket"),
            Transports::Polling => assert_eq!(connected.transport, "polling"),
            Transports::Upgrade => assert_eq!(alice.expect_upgrade().await?, "websocket"),
        }
        scenario(&world, &alice, &room, number).await?;
        assert_eq!(alice.expect("message:new").await?[0]["text"], "meanwhile", "{transports:?}");
        alice.assert_none("message:new").await?;
        alice.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn r3_5_3_another_client_library_works_the_same() -> Result<()> {
    let Some(python) = Stock::python()? else { return Ok(()) };
    let world = World::start().await?;
    for (index, transports) in Transports::ALL.into_iter().enumerate() {
        let room = format!("room-{index}");
        let number = world.room(&room, &["alice", "bob"]).await?;
        let alice = python.connect(world.gateway.address(), options("alice", transports)?)?;
        alice.expect_connect().await?;
        scenario(&world, &alice, &room, number).await?;
        // It knows no recovery: it asks for what it missed.
        let synced = alice.emit_ack("messages:sync", &[json!(number), Value::Null]).await?;
        let texts: Vec<&Value> =
            synced[0]["messages"].as_array().into_iter().flatten().map(|m| &m["text"]).collect();
        assert_eq!(texts, ["grüße 👋", "meanwhile"], "{transports:?}");
        alice.disconnect()?;
        alice.expect_disconnect().await?;
    }
    let refused = python.connect(world.gateway.address(), bearer("nonsense", Transports::Websocket))?;
    assert_eq!(refused.expect_connect_error().await?, "Invalid or expired token");
    Ok(())
}

#[tokio::test]
async fn r3_1_a_connection_and_a_message_are_quick() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let mut spans = Vec::new();
    for number in 0..5 {
        let before = Instant::now();
        send(&alice, "room", &format!("c-{number}"), "quick").await?;
        bob.expect("message:new").await?;
        spans.push(before.elapsed());
    }
    // Other tests run meanwhile: not every one of them must be undisturbed.
    spans.sort_unstable();
    ensure!(spans[1] < Duration::from_millis(500), "3.1.1: {spans:?}");
    let before = Instant::now();
    world.connect("bob").await?;
    ensure!(before.elapsed() < Duration::from_secs(3), "3.1.2: {:?}", before.elapsed());
    let before = Instant::now();
    bob.drop_transport()?;
    bob.expect_disconnect().await?;
    assert!(bob.expect_connect().await?.recovered);
    ensure!(before.elapsed() < Duration::from_secs(5), "3.1.3: {:?}", before.elapsed());
    Ok(())
}

#[tokio::test]
async fn r2_2_1_the_handshake_is_the_documented_one() -> Result<()> {
    let world = World::start().await?;
    let mut io = world.unconnected().await?;
    let open = io.handshake.as_object().cloned().unwrap_or_default();
    let mut names: Vec<&str> = open.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert_eq!((&open["upgrades"], &open["maxPayload"]), (&json!([]), &json!(1_000_000)));
    io.join(&json!({ "token": token("alice")? })).await?;
    let connected = &io.joined;
    let sid = connected["sid"].as_str().unwrap_or_default();
    assert!(sid.len() >= 20 && connected["pid"].is_string(), "{connected}");
    assert_ne!(open["sid"], sid, "the transport's id is a secret");
    let path = format!("{PATH}?EIO=3&transport=polling");
    let answer = world.gateway.public("GET", &path, None).await?;
    assert_eq!((answer.status, answer.json()?["code"].as_u64()), (400, Some(5)));
    Ok(())
}
