//! famly: error acks, what is not understood, what is malformed, and maintenance.

use std::collections::BTreeSet;

use crate::support::{CHAT, NO_MESSAGE, World, caught_up, done, heard, heard_until, join, message, ok, send};
use anyhow::{Context, Result, ensure};
use parlance_tests::exact::keys;
use parlance_tests::{PATIENCE, StockSocket, binary};
use serde_json::{Value, json};
use tokio::time::Instant;

/// What a client is told while a retry may succeed later.
const UNAVAILABLE: &str = "Service temporarily unavailable";

#[tokio::test]
async fn every_error_has_a_correlation_id_of_its_own_that_stands_in_the_log() -> Result<()> {
    let world = World::mounted("messages = { limit = 1, window_ms = 60000 }").await?;
    let alice = world.user("alice").await?;
    send(&alice, &message("the only one")).await?;
    let read = json!({ "chatId": CHAT, "messageId": NO_MESSAGE });
    let wrong = [
        ("VALIDATION_ERROR", "room:join", json!({})),
        ("FORBIDDEN", "room:join", json!({ "chatId": "nowhere" })),
        ("NOT_FOUND", "receipt:read", read),
        ("RATE_LIMITED", "message:send", message("one too many")),
    ];
    let mut ids = BTreeSet::new();
    for (code, event, payload) in &wrong {
        for _ in 0..2 {
            let acks = alice.emit_ack(event, std::slice::from_ref(payload)).await?;
            world.is_refusal(&acks, event, code).await?;
            ids.insert(acks[0]["correlationId"].to_string());
        }
    }
    assert_eq!(ids.len(), 2 * wrong.len());
    ensure!(!world.gateway.log().contains("text of"), "a message body in the log");
    Ok(())
}

#[tokio::test]
async fn unauthorized_forbidden_and_validation_error_over_http() -> Result<()> {
    let world = World::shipped().await?;
    let alice = world.user("alice").await?;
    send(&alice, &message("m")).await?;
    for path in ["messages", "cursors"] {
        for token in [None, Some("a.b.c")] {
            let answer = world.gateway.public("GET", &format!("/v1/chats/{CHAT}/{path}"), token).await?;
            assert_eq!((answer.status, &answer.json()?["error"]), (401, &json!("UNAUTHORIZED")));
        }
        for (user, chat) in [("mallory", CHAT), ("alice", "nowhere")] {
            let (status, refusal) = world.backfill(user, &format!("{chat}/{path}")).await?;
            assert_eq!((status, &refusal["error"]), (403, &json!("FORBIDDEN")));
            ensure!(keys(&refusal) == ["correlationId", "error", "message", "ok"], "{refusal}");
            world.logged(refusal["correlationId"].as_str().context("no id")?).await?;
        }
    }
    for query in ["after=nonsense", "limit=x", "before=0123456789abcdef0123456g"] {
        let (status, refusal) = world.backfill("alice", &format!("{CHAT}/messages?{query}")).await?;
        assert_eq!((status, &refusal["error"]), (400, &json!("VALIDATION_ERROR")), "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_event_is_a_validation_error_for_who_asks_and_nothing_else() -> Result<()> {
    let world = World::shipped().await?;
    let alice = world.inside("alice").await?;
    let long = "x".repeat(1000);
    for event in ["message:sent", "message:new", "Room:Join", "room:join ", "ping", "", "é", long.as_str()] {
        alice.emit(event, &[json!({ "chatId": CHAT })])?;
        let acks = alice.emit_ack(event, &[json!({ "chatId": CHAT })]).await?;
        let logged = event.chars().take(64).collect::<String>();
        world.is_refusal(&acks, &logged, "VALIDATION_ERROR").await.with_context(|| event.to_owned())?;
    }
    assert_eq!(alice.queued().await?, []);
    send(&alice, &message("m")).await?;
    heard(&alice, "message:new").await?;
    Ok(())
}

#[tokio::test]
async fn a_binary_event_is_refused_and_the_connection_lives() -> Result<()> {
    let world = World::shipped().await?;
    for transports in parlance_tests::Transports::ALL {
        let alice = world.open(crate::support::as_user("alice", transports)?)?;
        alice.expect_connect().await?;
        join(&alice, CHAT).await?;
        let mut with_bytes = message("m");
        with_bytes["body"] = binary(&[0, 1, 255]);
        alice.emit("message:send", std::slice::from_ref(&with_bytes))?;
        let acks = alice.emit_ack("message:send", &[with_bytes]).await?;
        world.is_refusal(&acks, "message:send", "VALIDATION_ERROR").await?;
        let acks = alice.emit_ack("unknown", &[binary(b"x"), binary(b"y")]).await?;
        world.is_refusal(&acks, "unknown", "VALIDATION_ERROR").await?;
        send(&alice, &message(&format!("{transports:?}"))).await?;
        let new = heard(&alice, "message:new").await?;
        assert_eq!(new["clientId"], format!("{transports:?}"), "the first that is heard");
        alice.disconnect()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_payload_that_is_nested_too_deeply_is_a_validation_error() -> Result<()> {
    let world = World::shipped().await?;
    let mut io = world.by_hand("alice").await?;
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!([deep]);
    }
    let ack = io.ask("room:join", &[json!({ "chatId": CHAT, "x": deep })]).await?;
    world.is_refusal(&ack, "room:join", "VALIDATION_ERROR").await?;
    done(&io.ask("room:join", &[json!({ "chatId": CHAT })]).await?)?;
    Ok(())
}

/// What no client may send to a server whose namespace it has joined.
const MALFORMED: &[&str] = &[
    "42{}",
    "42[]",
    "42[null]",
    "42[\"room:join\"",
    "42[\"a\",]",
    "47",
    "49",
    "4x",
    "4",
    "40{}",
    "42[\"connect\"]",
    "42[\"disconnect\"]",
    "42[\"disconnecting\"]",
    "42[\"connect_error\"]",
    "42[\"newListener\"]",
    "42[\"removeListener\"]",
    "42/elsewhere,[\"room:join\",{}]",
    "43/elsewhere,1[]",
    "451-[\"message:send\",{\"_placeholder\":true,\"num\":7}]",
    "45[\"x\"]",
    "4511-[\"x\"]",
    "2",
    "7",
    "x",
    "",
];

#[tokio::test]
async fn a_malformed_packet_closes_the_connection_and_others_notice_nothing() -> Result<()> {
    let world = World::shipped().await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let mut survivors = Vec::new();
    for packet in MALFORMED {
        let mut io = world.by_hand("carol").await?;
        io.send(&[packet]).await?;
        if packet.starts_with("451-") {
            io.send_binary(b"x").await?;
        }
        if io.closed().await.is_err() {
            survivors.push(packet);
        }
    }
    ensure!(survivors.is_empty(), "these did not close the connection: {survivors:?}");
    // Unannounced binary; text while an attachment is due; an event before CONNECT.
    let mut io = world.by_hand("carol").await?;
    io.send_binary(b"x").await?;
    io.closed().await.context("unannounced binary")?;
    let mut io = world.by_hand("carol").await?;
    io.send(&["451-[\"x\",{\"_placeholder\":true,\"num\":0}]"]).await?;
    io.send(&["42[\"presence:ping\"]"]).await?;
    io.closed().await.context("text while an attachment is due")?;
    for early in ["42[\"presence:ping\"]", "430[]", "41"] {
        let mut io = world.unconnected().await?;
        io.send(&[early]).await?;
        io.closed().await.with_context(|| format!("{early} before CONNECT"))?;
    }
    send(&alice, &message("m")).await?;
    assert_eq!(heard(&bob, "message:new").await?["clientId"], "m");
    for socket in [&alice, &bob] {
        let other = |r: &parlance_tests::stock::Report| !matches!(r, parlance_tests::stock::Report::Event(_));
        ensure!(!socket.queued().await?.iter().any(other), "others noticed");
        socket.assert_none("error").await?;
    }
    ensure!(!world.gateway.log().contains("panicked"), "a task panicked");
    Ok(())
}

#[tokio::test]
async fn a_packet_that_means_nothing_here_is_passed_over() -> Result<()> {
    let world = World::shipped().await?;
    let mut io = world.by_hand("alice").await?;
    // All of these are well-formed to the reference.
    for packet in ["42", "43", "42[1]", "42[1,{}]", "430[]", "4399[{\"ok\":true}]", "42[\"x\"]"] {
        io.send(&[packet]).await?;
        let ack = io.ask("presence:ping", &[json!({})]).await.with_context(|| packet.to_owned())?;
        done(&ack)?;
    }
    Ok(())
}

#[tokio::test]
async fn ack_id_0_and_large_ones_are_answered() -> Result<()> {
    let world = World::shipped().await?;
    let mut io = world.by_hand("alice").await?;
    for id in [0, 7, 4_294_967_296, 9_007_199_254_740_991] {
        io.send(&[format!("42{id}[\"presence:ping\",{{}}]")]).await?;
        ensure!(done(&io.ack(id).await?)?["serverTime"].is_string(), "{id}");
    }
    done(&io.ask("room:join", &[json!({ "chatId": CHAT })]).await?)?;
    Ok(())
}

/// Sends new messages until one is refused: the switch reaches a node over the bus. That message.
async fn until_refused(world: &World, socket: &StockSocket) -> Result<Value> {
    let begun = Instant::now();
    for attempt in 0.. {
        let sent = message(&format!("attempt {attempt}"));
        let acks = socket.emit_ack("message:send", std::slice::from_ref(&sent)).await?;
        if acks[0]["ok"] == false {
            assert_eq!(world.is_refusal(&acks, "message:send", "INTERNAL").await?, UNAVAILABLE);
            return Ok(sent);
        }
        ensure!(begun.elapsed() < PATIENCE, "never refused");
    }
    unreachable!("attempts do not end")
}

/// Sends a message until it is accepted, as a client that was told to try again does.
async fn until_accepted(world: &World, socket: &StockSocket, sent: &Value) -> Result<()> {
    let begun = Instant::now();
    loop {
        let acks = socket.emit_ack("message:send", std::slice::from_ref(sent)).await?;
        if acks[0]["ok"] == true {
            return Ok(());
        }
        world.is_refusal(&acks, "message:send", "INTERNAL").await?;
        ensure!(begun.elapsed() < PATIENCE, "refused for ever");
    }
}

#[tokio::test]
async fn maintenance_is_internal_service_temporarily_unavailable() -> Result<()> {
    let world = World::mounted("messages = { limit = 0, window_ms = 1000 }").await?;
    let (alice, bob) = (world.inside("alice").await?, world.inside("bob").await?);
    let id = send(&alice, &message("before")).await?;
    heard(&bob, "message:new").await?;
    let switch = |on: bool| json!({ "enabled": on, "message": "back at noon", "retryAfter": 30 });
    world.gateway.call("PUT", "/api/v1/maintenance", Some(&switch(true))).await?;
    let refused = until_refused(&world, &alice).await?;
    // What is in the log already is acknowledged, and everything else goes on.
    assert_eq!(send(&alice, &message("before")).await?, id);
    world.refused(&alice, "message:send", &[json!({})], "VALIDATION_ERROR").await?;
    ok(&bob, "receipt:read", json!({ "chatId": CHAT, "messageId": id })).await?;
    assert_eq!(heard(&alice, "receipt:update").await?["messageId"], id);
    let late = world.inside("carol").await?;
    let said = world.refused(&late, "message:send", &[message("late")], "INTERNAL").await?;
    assert_eq!(said, UNAVAILABLE);
    world.gateway.call("PUT", "/api/v1/maintenance", Some(&switch(false))).await?;
    until_accepted(&world, &alice, &refused).await?;
    caught_up(&world, &bob, (CHAT, "alice")).await?;
    // The marker has no client id.
    let heard = heard_until(&bob, "message:new", |m| m["clientId"].is_null()).await?;
    let times = heard.iter().filter(|m| m["clientId"] == refused["clientId"]).count();
    ensure!(times == 1 && heard.iter().all(|m| m["clientId"] != "late"), "{heard:?}");
    Ok(())
}
