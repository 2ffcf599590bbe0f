//! Cut connections, dead nodes: nothing acknowledged is lost, nothing comes twice (1.4, 2.6, 3.3).

use std::collections::BTreeSet;

use crate::support::{World, accepted, fence, join, only, options, refused, send, texts};
use anyhow::{Context, Result, ensure};
use parlance_tests::{Options, StockSocket, Transports, token};
use serde_json::{Value, json};

/// Says something in a room and returns at once.
fn say(socket: &StockSocket, room: &str, text: &str) -> Result<()> {
    socket.emit("message:send", &[json!(room), json!({ "text": text, "clientMessageId": text })])
}

/// Takes every text that has come until `last` has.
async fn texts_until(socket: &StockSocket, last: &str) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != last) {
        let came = socket.expect("message:new").await.with_context(|| format!("until then {texts:?}"))?;
        texts.push(came[0]["text"].as_str().context("no text")?.to_owned());
    }
    Ok(texts)
}

#[tokio::test]
async fn r2_6_strings_behind_events_do_not_confuse_the_recovery() -> Result<()> {
    let world = World::start().await?;
    world.room("room", &["alice", "bob"]).await?;
    let alice = world.joined("alice", "room").await?;
    // Before any message there is no place in any log, and still a string to mistake for one.
    let bob = world.joined("bob", "room").await?;
    assert_eq!(only(&alice.expect("user:online").await?)?, "bob");
    alice.drop_transport()?;
    alice.expect_disconnect().await?;
    assert!(alice.expect_connect().await?.recovered, "nothing but user:online was heard");
    send(&bob, "room", "c-1", "one").await?;
    assert_eq!(texts(&alice, 1).await?, ["one"]);

    for event in ["user:online", "user:offline", "typing:start", "typing:stop", "error"] {
        match event {
            "user:offline" => accepted(&bob, "conversation:leave", &[json!("room")]).await?,
            "user:online" => {
                accepted(&bob, "conversation:leave", &[json!("room")]).await?;
                join(&bob, &json!("room")).await?;
            }
            "error" => alice.emit("no:such:event", &[])?,
            event => accepted(&bob, event, &[json!("room")]).await?,
        }
        alice.expect(event).await?;
        alice.drop_transport()?;
        alice.expect_disconnect().await?;
        join(&bob, &json!("room")).await?;
        send(&bob, "room", event, event).await?;
        assert!(alice.expect_connect().await?.recovered, "after {event}");
        assert_eq!(texts(&alice, 1).await?, [event]);
    }
    alice.assert_none("message:new").await
}

#[tokio::test]
async fn rooms_of_a_recovered_session_count_as_entered() -> Result<()> {
    let options = Options::brief();
    let world = World::with(options.env("PARLANCE_LIMITS_SUBSCRIPTIONS", "2")).await?;
    for room in ["a", "b", "c"] {
        world.room(room, &["alice"]).await?;
    }
    let alice = world.joined("alice", "a").await?;
    join(&alice, &json!("b")).await?;
    alice.drop_transport()?;
    alice.expect_disconnect().await?;
    ensure!(alice.expect_connect().await?.recovered);
    refused(&alice, "conversation:join", &[json!("c")], "at most 2 rooms per connection").await?;
    accepted(&alice, "conversation:leave", &[json!("a")]).await?;
    join(&alice, &json!("c")).await
}

#[tokio::test]
async fn r2_7_1_what_was_missed_comes_once_and_in_order_before_the_connect() -> Result<()> {
    let world = World::unlimited().await?;
    for transports in Transports::ALL {
        let rooms = [format!("a-{transports:?}"), format!("b-{transports:?}")];
        let bob = world.connect("bob").await?;
        let alice = world.open(options("alice", transports)?)?;
        let first = alice.expect_connect().await?;
        for room in &rooms {
            world.room(room, &["alice", "bob"]).await?;
            join(&alice, &json!(room)).await?;
            send(&bob, room, &format!("{room}-before"), "before").await?;
        }
        let before = texts(&alice, 2).await.with_context(|| format!("before {transports:?}"))?;
        assert_eq!(before, ["before", "before"]);
        if transports == Transports::Upgrade {
            alice.expect_upgrade().await?;
        }
        alice.drop_transport()?;
        alice.expect_disconnect().await?;
        for n in 0..20 {
            send(&bob, &rooms[n % 2], &format!("{transports:?}-{n}"), &format!("{n:02}")).await?;
        }
        let again = alice.expect_connect().await?;
        assert!(again.recovered && again.sid == first.sid, "{transports:?}");
        let missed = texts(&alice, 20).await.with_context(|| format!("missed {transports:?}"))?;
        for parity in 0..2 {
            let of_one: Vec<&String> =
                missed.iter().filter(|t| t.parse::<usize>().is_ok_and(|n| n % 2 == parity)).collect();
            assert!(of_one.len() == 10 && of_one.is_sorted(), "{transports:?}: {missed:?}");
        }
        fence(&bob, &rooms[0], &[&alice]).await?;
        alice.assert_none("message:new").await?;
        alice.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn r3_3_1_cuts_under_a_stream_lose_double_and_reorder_nothing() -> Result<()> {
    let world = World::unlimited().await?;
    let (alice, bob) = world.pair("room").await?;
    let all: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
    let mut heard = Vec::new();
    for (index, part) in all.chunks(50).enumerate() {
        for text in part {
            say(&bob, "room", text)?;
        }
        // Somewhere in the middle of them.
        heard.extend(texts(&alice, 10).await?);
        if index % 2 == 0 {
            alice.drop_transport()?
        } else {
            alice.close_engine()?
        }
        alice.expect_disconnect().await?;
        ensure!(alice.expect_connect().await?.recovered, "cut {index}");
    }
    heard.extend(texts_until(&alice, "299").await?);
    assert_eq!(heard, all);
    Ok(())
}

#[tokio::test]
async fn r2_7_1_who_was_away_for_long_joins_again_and_asks() -> Result<()> {
    let world = World::with(Options::brief().env("PARLANCE_TIMINGS_RECOVERY_MS", "100")).await?;
    let (alice, bob) = world.pair("room").await?;
    let last = send(&bob, "room", "c-1", "seen").await?;
    assert_eq!(texts(&alice, 1).await?, ["seen"]);
    // As an application that goes to the background.
    alice.disconnect()?;
    bob.expect("user:offline").await?;
    send(&bob, "room", "c-2", "missed").await?;
    alice.reconnect()?;
    assert!(!alice.expect_connect().await?.recovered);
    join(&alice, &json!("room")).await?;
    let page = alice.emit_ack("messages:sync", &[json!("room"), json!(last)]).await?;
    assert_eq!(page[0]["messages"][0]["text"], "missed");
    fence(&bob, "room", &[&alice]).await?;
    alice.assert_none("message:new").await
}

#[tokio::test]
async fn r2_6_4_what_was_sent_while_offline_arrives_in_order() -> Result<()> {
    let world = World::unlimited().await?;
    let (alice, bob) = world.pair("room").await?;
    alice.drop_transport()?;
    alice.expect_disconnect().await?;
    let all: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
    for text in &all {
        say(&alice, "room", text)?;
    }
    assert!(alice.expect_connect().await?.recovered);
    assert_eq!(texts(&bob, 20).await?, all);
    for text in &all {
        assert_eq!(alice.expect("message:ack").await?[1]["clientMessageId"], text.as_str());
    }
    Ok(())
}

/// Waits until so many are acknowledged. What a dead node acknowledged at last is acknowledged again, perhaps
/// only a round later.
async fn acknowledged(alice: &StockSocket, acked: &mut Vec<(u64, String)>, count: usize) -> Result<()> {
    while acked.len() < count {
        let ack = alice.expect("message:ack").await?;
        let id = ack[0].as_u64().context("no id")?;
        let text = ack[1]["clientMessageId"].as_str().context("no client id")?.to_owned();
        if !acked.contains(&(id, text.clone())) {
            acked.push((id, text));
        }
    }
    Ok(())
}

#[tokio::test]
async fn r3_3_4_a_dead_node_loses_nothing_it_acknowledged() -> Result<()> {
    let mut world = World::with(Options::default().env("PARLANCE_NO_LIMITS", "true")).await?;
    let number = world.room("room", &["alice", "bob"]).await?;
    let alice = world.joined("alice", "room").await?;
    let bob = world.joined("bob", "room").await?;
    let mut acked: Vec<(u64, String)> = Vec::new();
    for round in 0..3 {
        let part: Vec<String> = (0..30).map(|n| format!("{round}-{n:02}")).collect();
        for text in &part {
            say(&alice, "room", text)?;
        }
        // The node dies when about half of them are acknowledged.
        acknowledged(&alice, &mut acked, round * 30 + 15).await?;
        world.gateway.kill9()?;
        for socket in [&alice, &bob] {
            socket.expect_disconnect().await?;
        }
        world.gateway.restart().await?;
        alice.expect_connect().await?;
        bob.expect_connect().await?;
        // 2.3.3: what has no acknowledgement is sent again.
        for text in &part[15..] {
            say(&alice, "room", text)?;
        }
        acknowledged(&alice, &mut acked, (round + 1) * 30).await?;
    }
    let saved = world.history("bob", "room", "&limit=200").await?;
    let saved = saved["messages"].as_array().context("no messages")?;
    let told: Vec<(u64, String)> = saved
        .iter()
        .map(|m| Some((m["id"].as_u64()?, m["text"].as_str()?.to_owned())))
        .collect::<Option<_>>()
        .context("ill-formed")?;
    assert_eq!(told, acked, "once each, in the order sent, with the ids that were acknowledged");
    assert!(saved.iter().all(|m| m["conversationId"] == number), "the number is the same");
    // bob heard everything at least once, and in the order of their first coming.
    join(&bob, &json!("room")).await?;
    send(&alice, "room", "end", "end").await?;
    let mut heard: BTreeSet<String> = texts_until(&bob, "end").await?.into_iter().collect();
    let page = bob.emit_ack("messages:sync", &[json!("room")]).await?;
    heard.extend(
        page[0]["messages"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|m| m["text"].as_str())
            .map(str::to_owned),
    );
    assert!(acked.iter().all(|(_, text)| heard.contains(text)));
    Ok(())
}

#[tokio::test]
async fn r3_3_4_a_session_goes_on_after_a_restart_in_good_order() -> Result<()> {
    let mut world = World::with(Options::default()).await?;
    let (alice, bob) = world.pair("room").await?;
    send(&bob, "room", "c-1", "one").await?;
    assert_eq!(texts(&alice, 1).await?, ["one"]);
    world.gateway.sigterm().await?;
    for socket in [&alice, &bob] {
        // Anything else, such as a goodbye of the server's, would keep the client from coming back.
        let reason = socket.expect_disconnect().await?;
        ensure!(["transport close", "transport error"].contains(&reason.as_str()), "{reason}");
    }
    world.gateway.restart().await?;
    assert!(bob.expect_connect().await?.recovered);
    send(&bob, "room", "c-2", "two").await?;
    assert!(alice.expect_connect().await?.recovered);
    assert_eq!(texts(&alice, 1).await?, ["two"]);
    fence(&bob, "room", &[&alice]).await?;
    alice.assert_none("message:new").await
}

#[tokio::test]
async fn r2_3_3_the_stock_clients_own_retries_save_a_message_once() -> Result<()> {
    let mut world = World::with(Options::default()).await?;
    world.room("room", &["alice", "bob"]).await?;
    let retrying =
        options("alice", Transports::Websocket)?.set("retries", json!(3)).set("ackTimeout", json!(1000));
    let alice = world.open(retrying)?;
    alice.expect_connect().await?;
    world.gateway.kill9()?;
    alice.expect_disconnect().await?;
    // Queued by the library, sent one after the other, each until it is acknowledged.
    for n in 0..3 {
        say(&alice, "room", &format!("{n}"))?;
    }
    world.gateway.restart().await?;
    alice.expect_connect().await?;
    for n in 0..3 {
        let ack = alice.expect("message:ack").await?;
        assert_eq!(
            (&ack[1]["clientMessageId"], &ack[1]["duplicate"]),
            (&json!(n.to_string()), &json!(false))
        );
    }
    let saved = world.history("bob", "room", "").await?;
    let texts: Vec<&Value> = saved["messages"].as_array().into_iter().flatten().map(|m| &m["text"]).collect();
    assert_eq!(texts, ["0", "1", "2"]);
    Ok(())
}

#[tokio::test]
async fn an_invented_place_is_not_recovered_and_a_session_without_one_is() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let connect = async |more: Value| -> Result<Value> {
        let mut auth = more;
        auth["token"] = json!(token("alice")?);
        let mut io = world.unconnected().await?;
        io.join(&auth).await?;
        Ok(io.joined)
    };
    let mut io = world.by_hand("alice").await?;
    let session = io.joined.clone();
    io.send(&[r#"420["conversation:join","room"]"#]).await?;
    while !io.packet().await?.starts_with("430") {}
    send(&bob, "room", "c-1", "one").await?;
    drop(io);
    alice.expect("message:new").await?;
    for offset in ["nonsense", "99999-1", "0-0-0", "bob"] {
        let answer = connect(json!({ "pid": session["pid"], "offset": offset })).await?;
        assert!(answer["pid"] != session["pid"] && answer["sid"] != session["sid"], "{offset}: {answer}");
    }
    let answer = connect(json!({ "pid": "an-invented-session" })).await?;
    assert_ne!(answer["pid"], "an-invented-session");
    Ok(())
}
