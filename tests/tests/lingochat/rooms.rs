//! Who is in a conversation (2.9), who types there (2.8), and the words for groups.

use crate::support::{World, accepted, bearer, claims, fence, is_offset, join, only, refused, send};
use anyhow::{Context, Result, ensure};
use parlance_tests::stock::Report;
use parlance_tests::{Options, StockSocket, Transports};
use serde_json::{Value, json};

/// A node whose typing ends after 300 ms, and whose presence after 1.5 s without a sign of life.
fn hasty() -> Options {
    Options::default()
        .env("PARLANCE_ACK_LEVEL", "memory")
        .env("PARLANCE_TIMINGS_TYPING_TTL_MS", "300")
        .env("PARLANCE_TIMINGS_PRESENCE_TTL_MS", "1500")
        .env("PARLANCE_TIMINGS_PRESENCE_REFRESH_MS", "300")
        .env("PARLANCE_TIMINGS_SWEEP_MS", "50")
        .config(
            "[[mounts]]\nname = \"lingochat\"\npath = \"/lingochat/socket.io/\"\ndialect = \"lingochat\"\n\
             framing = \"socketio\"\nping_interval_ms = 300\nping_timeout_ms = 60000\n\
             subjects = [\"userId\", \"openId\", \"sub\"]\nsanitize = true\nmessages = { limit = 10, window_ms = 1000 }\n",
        )
}

/// The names and first arguments of the events that came before the fence and were not taken.
async fn heard(socket: &StockSocket) -> Result<Vec<(String, Value)>> {
    let events = socket.queued().await?.into_iter().filter_map(|report| match report {
        Report::Event(event) => Some((event.name, event.args.into_iter().next().unwrap_or_default())),
        _ => None,
    });
    Ok(events.filter(|(name, _)| name != "message:new").collect())
}

#[tokio::test]
async fn a_socket_may_be_in_so_many_rooms_and_leaving_makes_room() -> Result<()> {
    let options = Options::brief();
    let world = World::with(options.env("PARLANCE_LIMITS_SUBSCRIPTIONS", "2")).await?;
    for room in ["a", "b", "c"] {
        world.room(room, &["alice"]).await?;
    }
    let alice = world.joined("alice", "a").await?;
    accepted(&alice, "room:join", &[json!("b")]).await?;
    for event in ["conversation:join", "room:join"] {
        refused(&alice, event, &[json!("c")], "at most 2 rooms per connection").await?;
        // In another way, but in no further room.
        accepted(&alice, event, &[json!("b")]).await?;
    }
    accepted(&alice, "room:leave", &[json!("a")]).await?;
    join(&alice, &json!("c")).await
}

#[tokio::test]
async fn r2_8_1_typing_is_told_to_the_others_in_the_room() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    world.change("room", &json!({ "addMembers": ["carol"] })).await?;
    let carol = world.connect("carol").await?;
    for (event, by) in [("typing:start", &alice), ("typing:stop", &alice)] {
        accepted(by, event, &[json!("room")]).await?;
        assert_eq!(only(&bob.expect(event).await?)?, "alice");
    }
    // 2.8.6: not one's own, on no device; and nobody outside the room.
    let tablet = world.joined("alice", "room").await?;
    alice.emit("typing:start", &[json!("room")])?;
    bob.expect("typing:start").await?;
    join(&carol, &json!("room")).await?;
    fence(&bob, "room", &[&alice, &tablet, &carol]).await?;
    for socket in [&alice, &tablet, &carol] {
        socket.assert_none("typing:start").await?;
    }
    Ok(())
}

#[tokio::test]
async fn r2_8_2_typing_ends_by_itself_when_the_client_does_not_say_so() -> Result<()> {
    let world = World::with(hasty()).await?;
    let (alice, bob) = world.pair("room").await?;
    accepted(&alice, "typing:start", &[json!("room")]).await?;
    bob.expect("typing:start").await?;
    assert_eq!(only(&bob.expect("typing:stop").await?)?, "alice");
    // So it does with the connection of whoever typed.
    accepted(&alice, "typing:start", &[json!("room")]).await?;
    bob.expect("typing:start").await?;
    alice.disconnect()?;
    assert_eq!(only(&bob.expect("typing:stop").await?)?, "alice");
    assert_eq!(bob.expect("user:offline").await?[0], "alice");
    Ok(())
}

#[tokio::test]
async fn r2_8_4_a_user_with_a_number_is_a_number() -> Result<()> {
    let world = World::start().await?;
    world.room("room", &["7", "bob"]).await?;
    let bob = world.joined("bob", "room").await?;
    let seven = world.open(bearer(&claims(json!({ "userId": 7 }))?, Transports::Websocket))?;
    seven.expect_connect().await?;
    join(&seven, &json!("room")).await?;
    accepted(&seven, "typing:start", &[json!("room")]).await?;
    accepted(&seven, "typing:stop", &[json!("room")]).await?;
    seven.disconnect()?;
    for event in ["user:online", "typing:start", "typing:stop", "user:offline"] {
        assert_eq!(bob.expect(event).await?, [json!(7)], "{event}: no offset behind a number");
    }
    Ok(())
}

#[tokio::test]
async fn r2_9_1_joining_tells_the_others_and_the_joiner_who_is_there() -> Result<()> {
    let world = World::start().await?;
    world.room("room", &["alice", "bob", "carol", "dave"]).await?;
    let alice = world.joined("alice", "room").await?;
    let bob = world.joined("bob", "room").await?;
    let online = alice.expect("user:online").await?;
    assert_eq!((online.len(), &online[0], is_offset(&online[1])), (2, &json!("bob"), true), "{online:?}");
    assert_eq!(bob.expect("user:online").await?[0], "alice");
    let carol = world.joined("carol", "room").await?;
    let mut there =
        [carol.expect("user:online").await?[0].clone(), carol.expect("user:online").await?[0].clone()];
    there.sort_by_key(Value::to_string);
    assert_eq!(there, ["alice", "bob"]);
    for socket in [&alice, &bob] {
        assert_eq!(socket.expect("user:online").await?[0], "carol");
    }
    // dave is connected, which is not the same as being there; joining again tells nobody anything new.
    let dave = world.connect("dave").await?;
    join(&bob, &json!("room")).await?;
    for _ in 0..2 {
        bob.expect("user:online").await?;
    }
    fence(&alice, "room", &[&alice, &bob, &carol]).await?;
    for socket in [&alice, &bob, &carol] {
        assert_eq!(heard(socket).await?, []);
    }
    dave.assert_none("user:online").await
}

#[tokio::test]
async fn r2_9_2_leaving_and_disconnecting_are_told() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    accepted(&bob, "conversation:leave", &[json!("room")]).await?;
    assert_eq!(only(&alice.expect("user:offline").await?)?, "bob");
    // Who left hears nothing of the room; leaving twice, or what was never joined, does no harm.
    accepted(&bob, "conversation:leave", &[json!("room")]).await?;
    accepted(&bob, "conversation:leave", &[json!("never-heard-of")]).await?;
    send(&alice, "room", "c-1", "without bob").await?;
    join(&bob, &json!("room")).await?;
    assert_eq!(alice.expect("user:online").await?[0], "bob");
    assert_eq!(bob.expect("user:online").await?[0], "alice");
    fence(&alice, "room", &[&bob]).await?;
    bob.assert_none("message:new").await?;

    bob.disconnect()?;
    assert_eq!(only(&alice.expect("user:offline").await?)?, "bob");
    bob.reconnect()?;
    bob.expect_connect().await?;
    join(&bob, &json!("room")).await?;
    alice.expect("user:online").await?;
    for cut in [StockSocket::drop_transport, StockSocket::close_engine] {
        cut(&bob)?;
        assert_eq!(only(&alice.expect("user:offline").await?)?, "bob");
        assert!(bob.expect_connect().await?.recovered);
        // A recovered session is back in its rooms.
        assert_eq!(only(&alice.expect("user:online").await?)?, "bob");
    }
    assert_eq!(heard(&alice).await?, []);
    Ok(())
}

#[tokio::test]
async fn r2_9_2_a_removed_member_is_out() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    world.change("room", &json!({ "removeMembers": ["bob"] })).await?;
    assert_eq!(only(&alice.expect("user:offline").await?)?, "bob");
    send(&alice, "room", "c-1", "not for bob").await?;
    world.room("other", &["alice", "bob"]).await?;
    join(&bob, &json!("other")).await?;
    send(&alice, "other", "c-2", "for bob").await?;
    assert_eq!(bob.expect("message:new").await?[0]["text"], "for bob");
    Ok(())
}

#[tokio::test]
async fn r2_9_5_a_user_is_there_with_any_device() -> Result<()> {
    let world = World::start().await?;
    let (alice, phone) = world.pair("room").await?;
    let tablet = world.joined("bob", "room").await?;
    let laptop = world.joined("bob", "room").await?;
    accepted(&laptop, "conversation:leave", &[json!("room")]).await?;
    phone.disconnect()?;
    phone.expect_disconnect().await?;
    // One who comes now finds bob there.
    world.change("room", &json!({ "addMembers": ["carol"] })).await?;
    let carol = world.joined("carol", "room").await?;
    let mut there =
        [carol.expect("user:online").await?[0].clone(), carol.expect("user:online").await?[0].clone()];
    there.sort_by_key(Value::to_string);
    assert_eq!(there, ["alice", "bob"]);
    alice.expect("user:online").await?;
    fence(&alice, "room", &[&alice]).await?;
    assert_eq!(heard(&alice).await?, [], "nothing changed while a device was there");
    tablet.drop_transport()?;
    assert_eq!(only(&alice.expect("user:offline").await?)?, "bob");
    // In another conversation the same devices count anew.
    world.room("other", &["alice", "bob"]).await?;
    join(&alice, &json!("other")).await?;
    join(&laptop, &json!("other")).await?;
    assert_eq!(only(&alice.expect("user:online").await?)?, "bob");
    Ok(())
}

#[tokio::test]
async fn r2_9_2_who_dies_without_a_word_is_swept_away_and_may_come_to_life_again() -> Result<()> {
    let world = World::with(hasty()).await?;
    let (alice, bob) = world.pair("room").await?;
    bob.pause()?;
    // Well before its transport is given up, which here takes a minute.
    assert_eq!(only(&alice.expect("user:offline").await?)?, "bob");
    let carol_sees = world.connect("alice").await?;
    join(&carol_sees, &json!("room")).await?;
    bob.resume()?;
    assert_eq!(only(&alice.expect("user:online").await?)?, "bob");
    assert_eq!(only(&carol_sees.expect("user:online").await?)?, "bob", "and was not told so before");
    bob.assert_none("user:offline").await
}

/// Who is there is in the memory of the one node, or in a Redis that outlives it: then until the leases end.
#[tokio::test]
async fn r2_9_2_nobody_is_there_after_the_death_of_the_node() -> Result<()> {
    let mut world = World::with(hasty().env("PARLANCE_ACK_LEVEL", "file")).await?;
    let (alice, bob) = world.pair("room").await?;
    world.gateway.kill9()?;
    bob.expect_disconnect().await?;
    bob.disconnect()?;
    world.gateway.restart().await?;
    alice.expect_connect().await?;
    join(&alice, &json!("room")).await?;
    fence(&alice, "room", &[&alice]).await?;
    let word = |event: &str| (event.to_owned(), json!("bob"));
    let mut told = heard(&alice).await?;
    told.retain(|said| [word("user:online"), word("user:offline")].contains(said));
    ensure!(outlived() || told.is_empty(), "{told:?}");
    if told == [word("user:online")] {
        assert_eq!(only(&alice.expect("user:online").await?)?, "bob");
        assert_eq!(only(&alice.expect("user:offline").await?)?, "bob", "his lease has ended");
    }
    // Whoever comes now is told of nobody else.
    let tablet = world.connect("alice").await?;
    join(&tablet, &json!("room")).await?;
    fence(&tablet, "room", &[&tablet]).await?;
    tablet.assert_none("user:online").await
}

/// Whether the engine of these tests outlives a node.
fn outlived() -> bool {
    let redis = std::env::var_os("PARLANCE_TEST_ENGINE").is_some_and(|engine| engine == "redis");
    redis || std::env::var_os("PARLANCE_TEST_REDIS_URL").is_some()
}

#[tokio::test]
async fn group_rooms_have_words_of_their_own() -> Result<()> {
    let world = World::start().await?;
    let number = world.room("group", &["alice", "bob", "carol"]).await?;
    let alice = world.connect("alice").await?;
    accepted(&alice, "room:join", &[json!("group")]).await?;
    let bob = world.connect("bob").await?;
    accepted(&bob, "room:join", &[json!(number)]).await?;
    assert_eq!(only(&alice.expect("room:user_joined").await?)?, "bob");
    assert_eq!(only(&bob.expect("room:user_joined").await?)?, "alice");
    // carol is in the same conversation by its other name.
    let carol = world.joined("carol", "group").await?;
    assert_eq!(only(&bob.expect("room:user_joined").await?)?, "carol");

    let message = json!({ "text": "to the group", "clientMessageId": "c-1" });
    let answer = alice.emit_ack("room:message", &[json!("group"), message]).await?;
    let id = answer[0]["messageId"].as_u64().with_context(|| format!("{answer:?}"))?;
    let told = json!({ "clientMessageId": "c-1", "conversationId": "group", "duplicate": false });
    assert_eq!(alice.expect("room:message_ack").await?, [json!(id), told]);
    for (socket, event) in [(&alice, "room:message"), (&bob, "room:message"), (&carol, "message:new")] {
        let came = socket.expect(event).await?;
        assert_eq!((&came[0]["id"], &came[0]["conversationId"]), (&json!(id), &json!(number)), "{event}");
        assert_eq!((&came[0]["text"], &came[0]["senderId"]), (&json!("to the group"), &json!("alice")));
        assert!(is_offset(&came[1]), "{came:?}");
    }
    // A plain send into it is acknowledged plainly, and heard as everybody hears the room.
    send(&bob, "group", "c-2", "plainly").await?;
    assert_eq!(alice.expect("room:message").await?[0]["text"], "plainly");
    bob.emit("typing:start", &[json!("group")])?;
    assert_eq!(only(&alice.expect("typing:start").await?)?, "bob");

    accepted(&bob, "room:leave", &[json!("group")]).await?;
    assert_eq!(only(&alice.expect("room:user_left").await?)?, "bob");
    assert_eq!(only(&carol.expect("user:offline").await?)?, "bob");
    for event in ["message:new", "message:ack", "user:online", "user:offline"] {
        alice.assert_none(event).await?;
    }
    Ok(())
}

#[tokio::test]
async fn group_rooms_hear_who_becomes_a_member_and_who_is_one_no_more() -> Result<()> {
    let world = World::start().await?;
    world.room("group", &["alice", "bob"]).await?;
    let alice = world.connect("alice").await?;
    accepted(&alice, "room:join", &[json!("group")]).await?;
    world.change("group", &json!({ "addMembers": ["carol", "dave"] })).await?;
    let mut came = [
        alice.expect("room:user_joined").await?[0].clone(),
        alice.expect("room:user_joined").await?[0].clone(),
    ];
    came.sort_by_key(Value::to_string);
    assert_eq!(came, ["carol", "dave"]);
    world.change("group", &json!({ "removeMembers": ["carol"] })).await?;
    assert_eq!(only(&alice.expect("room:user_left").await?)?, "carol");
    alice.emit("room:message", &[json!("group"), json!({ "text": "a fence" })])?;
    alice.expect("room:message").await?;
    assert_eq!(heard(&alice).await?.iter().filter(|(name, _)| name != "room:message_ack").count(), 0);
    Ok(())
}
