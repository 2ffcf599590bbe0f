//! What a client may not do: too much (3.4.4), what is not its (3.4.2); errors; silence (2.6.1); maintenance.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{World, accepted, fence, heard_nothing, is_offset, join, refused, send};
use anyhow::{Context, Result, ensure};
use parlance_tests::{PATIENCE, StockSocket};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const LIMITED: &str = "Maximum 10 messages per 1 second";
const UNAVAILABLE: &str = "Service temporarily unavailable";
const STRANGER: &str = "not a member of this conversation";

fn message(id: &str) -> Value {
    json!({ "text": id, "clientMessageId": id })
}

/// Sends all at once; which of them were accepted.
async fn burst(devices: &[&StockSocket], ids: &[String]) -> Result<Vec<bool>> {
    let device = |n: usize| devices[n % devices.len()];
    let tags: Vec<u64> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| device(n).emit_tagged("message:send", &[json!("room"), message(id)]))
        .collect::<Result<_>>()?;
    let mut accepted = Vec::new();
    for (n, tag) in tags.into_iter().enumerate() {
        let answer = device(n).acked(tag).await?;
        if answer[0]["success"] != true {
            ensure!(answer == [json!({ "success": false, "error": LIMITED })], "{answer:?}");
            ensure!(device(n).expect("error").await?[0] == LIMITED, "the sentence");
        }
        accepted.push(answer[0]["success"] == true);
    }
    Ok(accepted)
}

fn ids(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("c-{n}")).collect()
}

#[tokio::test]
async fn r3_4_4_ten_messages_per_second_and_user() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let tablet = world.connect("alice").await?;
    // Everything in one second, on two devices: the first ten.
    let outcome = burst(&[&alice, &tablet], &ids(0, 15)).await?;
    assert_eq!(outcome.iter().filter(|ok| **ok).count(), 10, "{outcome:?}");
    // Others may go on; and so may a resend of what is saved, which is no new message.
    send(&bob, "room", "b-1", "I said less").await?;
    let first = outcome.iter().position(|ok| *ok).context("none")?;
    let again = alice.emit_ack("message:send", &[json!("room"), message(&format!("c-{first}"))]).await?;
    assert_eq!(again[0]["success"], true, "{again:?}");
    // A refused message is not saved, and may be sent again when the second is over.
    let last = outcome.iter().rposition(|ok| !*ok).context("all")?;
    let retried = async {
        loop {
            let answer =
                alice.emit_ack("message:send", &[json!("room"), message(&format!("c-{last}"))]).await?;
            if answer[0]["success"] == true {
                return Ok::<_, anyhow::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, retried).await.context("the limit never ends")??;
    fence(&bob, "room", &[&bob]).await?;
    let saved = world.history("bob", "room", "").await?;
    let of_alice = |m: &&Value| m["senderId"] == "alice";
    let saved = saved["messages"].as_array().map(|m| m.iter().filter(of_alice).count());
    assert_eq!(saved, Some(11));
    Ok(())
}

#[tokio::test]
async fn r3_4_4_what_is_refused_for_its_shape_costs_nothing() -> Result<()> {
    let world = World::start().await?;
    let (alice, _bob) = world.pair("room").await?;
    for _ in 0..15 {
        let args = [json!("room"), json!({ "text": "" })];
        refused(&alice, "message:send", &args, "text must be 1 to 1000 characters").await?;
    }
    assert!(burst(&[&alice], &ids(0, 10)).await?.iter().all(|ok| *ok));
    Ok(())
}

#[tokio::test]
async fn r3_4_2_who_is_no_member_can_do_nothing() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let mallory = world.connect("mallory").await?;
    for _ in 0..2 {
        for event in ["conversation:join", "room:join", "typing:start", "typing:stop", "messages:sync"] {
            refused(&mallory, event, &[json!("room")], STRANGER).await?;
        }
        for event in ["message:send", "room:message"] {
            refused(&mallory, event, &[json!("room"), message("m-1")], STRANGER).await?;
        }
        // A first message opens no conversation here either.
        refused(&mallory, "message:send", &[json!("a-new-one"), message("m-2")], STRANGER).await?;
        // Leaving is always fine.
        accepted(&mallory, "conversation:leave", &[json!("room")]).await?;
        // The same for a member who was removed, and is told of nothing any more.
        world.change("room", &json!({ "addMembers": ["mallory"] })).await?;
        join(&mallory, &json!("room")).await?;
        alice.expect("user:online").await?;
        for _ in 0..2 {
            mallory.expect("user:online").await?;
        }
        world.change("room", &json!({ "removeMembers": ["mallory"] })).await?;
        assert_eq!(alice.expect("user:offline").await?[0], "mallory");
    }
    fence(&alice, "room", &[&alice, &bob]).await?;
    for socket in [&alice, &bob] {
        socket.assert_none("typing:start").await?;
        socket.assert_none("message:new").await?;
    }
    heard_nothing(&world, &alice, ("mallory", &mallory)).await
}

#[tokio::test]
async fn an_error_is_a_bare_sentence_and_an_acknowledgement_where_one_was_asked_for() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    alice.emit("no:such:event", &[json!("room")])?;
    let error = alice.expect("error").await?;
    // The client takes a last argument that is a string for its place: ours follows the sentence.
    ensure!(error.len() == 2 && error[0] == "Unknown event" && is_offset(&error[1]), "{error:?}");
    refused(&alice, "no:such:event", &[], "Unknown event").await?;
    refused(&alice, "message:edit", &[json!("room"), json!(1)], "Unknown event").await?;
    refused(&alice, "typing:start", &[], "conversationId is required").await?;
    refused(&alice, "conversation:join", &[Value::Null], "conversationId is required").await?;
    // Binary is no part of the dialect.
    refused(&alice, "message:send", &[parlance_tests::binary(&[1, 2])], "Unknown event").await?;
    // Nothing of it ended the connection, and nobody else heard of it.
    send(&alice, "room", "c-1", "still here").await?;
    assert_eq!(bob.expect("message:new").await?[0]["text"], "still here");
    bob.assert_none("error").await
}

#[tokio::test]
async fn deep_and_large_arguments_are_refused_or_end_the_connection() -> Result<()> {
    let world = World::start().await?;
    world.room("room", &["alice"]).await?;
    let alice = world.joined("alice", "room").await?;
    let deep = (0..40).fold(json!({}), |inner, _| json!({ "metadata": inner }));
    let answer = alice.emit_ack("message:send", &[json!("room"), deep]).await?;
    assert_eq!(answer[0]["success"], false, "{answer:?}");
    let large = json!({ "text": "x", "metadata": { "filler": "x".repeat(100_000) } });
    let answer = alice.emit_ack("message:send", &[json!("room"), large]).await?;
    assert!(answer[0]["error"].as_str().is_some_and(|e| e.contains("metadata")), "{answer:?}");
    let mut io = world.by_hand("alice").await?;
    io.send(&[format!("42{}", json!(["message:send", "room", { "text": "x".repeat(1_000_001) }]))]).await?;
    assert_eq!(io.closed().await?, Some(1009));
    send(&alice, "room", "c-1", "still here").await?;
    Ok(())
}

#[tokio::test]
async fn r2_6_1_a_lost_connection_is_noticed_within_five_seconds_on_both_sides() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let mut silent = world.by_hand("alice").await?;
    assert_eq!(
        (&silent.handshake["pingInterval"], &silent.handshake["pingTimeout"]),
        (&json!(3000), &json!(2000))
    );
    let began = Instant::now();
    bob.pause()?;
    // The server gives up a client that answers no ping; the client one that sends none.
    assert_eq!(silent.line().await?, "2");
    assert!(began.elapsed() >= Duration::from_millis(2500), "{:?}", began.elapsed());
    silent.closed().await?;
    let server = began.elapsed();
    assert_eq!(bob.expect_disconnect().await?, "ping timeout");
    assert_eq!(alice.expect("user:offline").await?[0], "bob");
    let client = began.elapsed();
    for span in [server, client] {
        assert!(span > Duration::from_secs(4) && span < Duration::from_secs(7), "{server:?} {client:?}");
    }
    // Who answers stays.
    alice.assert_none("user:online").await?;
    send(&alice, "room", "c-1", "still here").await?;
    assert!(bob.expect_connect().await?.recovered);
    Ok(())
}

#[tokio::test]
async fn maintenance_is_temporary_unavailability() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let id = send(&alice, "room", "c-1", "before").await?;
    let switch = async |enabled: bool| {
        let body = json!({ "enabled": enabled, "message": "back at noon", "retryAfter": 30 });
        let (status, answer) = world.gateway.api("PUT", "/api/v1/maintenance", Some(&body)).await?;
        ensure!((200..300).contains(&status), "{status} {answer}");
        Ok(())
    };
    switch(true).await?;
    let refusal = async {
        for n in 0.. {
            let answer = alice.emit_ack("message:send", &[json!("room"), message(&format!("m-{n}"))]).await?;
            if answer[0]["success"] == false {
                return Ok::<_, anyhow::Error>(answer);
            }
        }
        Ok(vec![])
    };
    // The switch reaches the node over the bus.
    let answer = timeout(PATIENCE, refusal).await.context("never refused")??;
    assert_eq!(answer, [json!({ "success": false, "error": UNAVAILABLE })]);
    assert_eq!(alice.expect("error").await?[0], UNAVAILABLE);
    // What is saved is acknowledged again, and whoever comes is let in.
    let again = alice.emit_ack("message:send", &[json!("room"), message("c-1")]).await?;
    assert_eq!(again, [json!({ "success": true, "messageId": id })]);
    let late = world.joined("alice", "room").await?;
    refused(&late, "message:send", &[json!("room"), message("late")], UNAVAILABLE).await?;
    late.assert_none("maintenance").await?;
    switch(false).await?;
    let accepted = async {
        while late.emit_ack("message:send", &[json!("room"), message("late")]).await?[0]["success"] != true {}
        Ok::<_, anyhow::Error>(())
    };
    timeout(PATIENCE, accepted).await.context("still refused")??;
    while bob.expect("message:new").await?[0]["text"] != "late" {}
    Ok(())
}

/// One of a crowd: joins, says so, and waits for a message.
async fn attend(world: Arc<World>, arrived: Arc<Semaphore>) -> Result<u64> {
    let mut io = world.by_hand("bob").await?;
    io.send(&[r#"420["conversation:join","room"]"#]).await?;
    while io.packet().await? != r#"430[{"success":true}]"# {}
    arrived.add_permits(1);
    loop {
        let told = io.next().await?;
        if told.name == "message:new" {
            return told.args[0]["id"].as_u64().context("no id");
        }
    }
}

#[tokio::test]
async fn r3_2_1_a_thousand_connections_at_once() -> Result<()> {
    let world = Arc::new(World::unlimited().await?);
    world.room("room", &["alice", "bob"]).await?;
    let alice = world.joined("alice", "room").await?;
    let (mut crowd, arrived) = (JoinSet::new(), Arc::new(Semaphore::new(0)));
    for _ in 0..1000 {
        crowd.spawn(attend(world.clone(), arrived.clone()));
    }
    let all = timeout(Duration::from_secs(30), arrived.acquire_many(1000)).await;
    let _all = all.with_context(|| format!("{} have arrived", arrived.available_permits()))??;
    let id = send(&alice, "room", "c-1", "to all of you").await?;
    while let Some(heard) = crowd.join_next().await {
        assert_eq!(heard??, id);
    }
    assert_eq!(alice.expect("user:online").await?[0], "bob");
    alice.assert_none("user:online").await
}
