//! SocialHub: messages, typing, read receipts.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::{Client, conversation, gateway};
use anyhow::{Context, Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, Options, SECRET};
use serde_json::{Value, json};

const ROOM: &str = "conversation:room";

fn message(payload: Value) -> Value {
    json!({ "type": "message", "payload": payload })
}

fn ids(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["id"].as_str()).collect()
}

#[tokio::test]
async fn the_ack_names_the_message_that_all_subscribers_and_the_sender_see() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob", "carol"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    let mut carol = Client::on(&gateway, "carol", ROOM).await?;
    let payload =
        json!({ "conversation_id": "room", "content": "hello", "client_id": "c1", "metadata": { "a": [1] } });
    let data = alice.accepted(message(payload)).await?;
    assert_eq!(data["duplicate"], false);
    assert_eq!((&data["conversation_id"], &data["client_id"]), (&json!("room"), &json!("c1")));
    for client in [&mut alice, &mut bob, &mut carol] {
        let frame = client.hear("message").await?;
        assert_eq!(frame["id"], data["message_id"], "{frame}");
        assert_eq!(frame["channel"], ROOM);
        assert!(frame["seq"].is_u64() && frame["timestamp"].is_string(), "{frame}");
        let payload = &frame["payload"];
        assert_eq!(payload["id"], data["message_id"]);
        assert_eq!(payload["conversation_id"], "room");
        assert_eq!(payload["sender_id"], "alice");
        assert_eq!(payload["content"], "hello");
        assert_eq!(payload["is_read"], false);
        assert_eq!(payload["client_id"], "c1");
        assert_eq!(payload["metadata"], json!({ "a": [1] }));
        assert_eq!(payload["created_at"], data["created_at"]);
        client.heard_nothing(&gateway).await.context("once each")?;
    }
    Ok(())
}

#[tokio::test]
async fn the_sender_is_described_by_the_claims_of_its_token_or_by_its_id() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["jane", "bob"]).await?;
    let claims = json!({
        "user_id": "jane", "exp": expiry(Duration::from_secs(60)),
        "name": "Jane Doe", "username": "janed", "picture": "https://pictures.example/jane.png",
    });
    let mut jane = Client::with_token(&gateway, "jane", sign(&claims, SECRET)?).await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    jane.say("room", "hello").await?;
    let sender = bob.hear("message").await?["payload"]["sender"].clone();
    let expected = json!({
        "id": "jane", "username": "janed", "display_name": "Jane Doe",
        "avatar_url": "https://pictures.example/jane.png",
    });
    assert_eq!(sender, expected);
    bob.say("room", "hello").await?;
    let sender = bob.hear("message").await?["payload"]["sender"].clone();
    let expected = json!({ "id": "bob", "username": "bob", "display_name": "bob", "avatar_url": null });
    assert_eq!(sender, expected);
    Ok(())
}

#[tokio::test]
async fn the_conversation_may_come_from_the_channel_and_the_type_may_be_send_message() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    let frame = json!({ "type": "send_message", "channel": ROOM, "payload": { "content": "hello" } });
    assert_eq!(alice.accepted(frame).await?["conversation_id"], "room");
    assert_eq!(bob.hear_text().await?, "hello");
    Ok(())
}

#[tokio::test]
async fn a_message_without_ack_id_is_delivered_and_not_answered() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    alice.tell("message", json!({ "conversation_id": "room", "content": "hello" })).await?;
    assert_eq!(bob.hear_text().await?, "hello");
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn text_arrives_as_it_was_sent() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let long = "x".repeat(65_536);
    for text in ["<b>&amp;</b>", "\u{0}\u{1f}\"\\\u{2028}", "👩‍👩‍👧 \u{202e}abc", " ", &long] {
        alice.say("room", text).await?;
        assert_eq!(alice.hear_text().await?, text);
    }
    Ok(())
}

#[tokio::test]
async fn a_resend_with_the_same_client_id_is_the_same_message() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    conversation(&gateway, "other", &["alice", "bob"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    let send =
        |room: &str| message(json!({ "conversation_id": room, "content": "hello", "client_id": "c1" }));
    let first = alice.accepted(send("room")).await?;
    // From another connection, too.
    let second = Client::connect(&gateway, "alice").await?.accepted(send("room")).await?;
    assert_eq!((&first["duplicate"], &second["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(first["message_id"], second["message_id"]);
    // The id belongs to one sender in one conversation.
    assert_eq!(alice.accepted(send("other")).await?["duplicate"], false);
    assert_eq!(bob.accepted(send("room")).await?["duplicate"], false);
    let frames = bob.all_before_now(&gateway).await?;
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!(frames[0]["id"], first["message_id"]);
    assert_eq!(frames[1]["payload"]["sender_id"], "bob");
    Ok(())
}

#[tokio::test]
async fn a_resent_envelope_is_the_same_message() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let payload = json!({ "conversation_id": "room", "content": "hello" });
    let envelope = |id: &str| json!({ "id": id, "type": "message", "payload": payload });
    let first = alice.accepted(envelope("e1")).await?;
    let second = alice.accepted(envelope("e1")).await?;
    let third = alice.accepted(envelope("e2")).await?;
    assert_eq!((&second["message_id"], &second["duplicate"]), (&first["message_id"], &json!(true)));
    assert_ne!(third["message_id"], first["message_id"]);
    assert_eq!(alice.all_before_now(&gateway).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn messages_arrive_in_the_order_in_which_they_were_acknowledged() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob", "carol"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let mut carol = Client::on(&gateway, "carol", ROOM).await?;
    let mut expected = Vec::new();
    for n in 0..20 {
        expected.push(alice.say("room", &format!("a{n}")).await?);
        expected.push(bob.say("room", &format!("b{n}")).await?);
    }
    let frames = carol.all_before_now(&gateway).await?;
    assert_eq!(ids(&frames), expected);
    Ok(())
}

#[tokio::test]
async fn seq_grows_by_one_per_event_of_a_user_and_is_the_same_on_all_its_connections() -> Result<()> {
    let gateway = gateway().await?;
    for room in ["room", "other"] {
        conversation(&gateway, room, &["alice", "bob"]).await?;
    }
    let mut first = Client::on(&gateway, "alice", ROOM).await?;
    first.subscribe("conversation:other").await?;
    let mut second = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    for n in 0..5 {
        bob.say("room", &format!("{n}")).await?;
        bob.say("other", &format!("{n}")).await?;
    }
    let frames = first.all_before_now(&gateway).await?;
    let seqs: Vec<u64> = frames.iter().filter_map(|frame| frame["seq"].as_u64()).collect();
    assert_eq!(seqs.len(), 10, "{frames:?}");
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    let same = second.all_before_now(&gateway).await?;
    assert_eq!(same.len(), 5);
    for frame in same {
        let twin = frames.iter().find(|twin| twin["id"] == frame["id"]).context("unknown id")?;
        assert_eq!(frame, *twin, "all of the envelope is the same");
    }
    Ok(())
}

#[tokio::test]
async fn seq_and_ids_go_on_after_a_restart_of_the_node() -> Result<()> {
    let mut gateway = Gateway::start(Options::default()).await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut seen = HashSet::new();
    let mut last = 0;
    for life in 0..3 {
        for n in 0..3 {
            let id = alice.say("room", &format!("{life}.{n}")).await?;
            let frame = alice.hear("message").await?;
            assert_eq!(frame["id"], id);
            assert!(seen.insert(id), "an id is used twice");
            let seq = frame["seq"].as_u64().context("no seq")?;
            ensure!(seq > last, "{seq} after {last}");
            last = seq;
        }
        gateway.restart().await?;
        alice = Client::connect(&gateway, "alice").await?;
        alice.subscribe(ROOM).await?;
        // Kept, known and not shown twice.
        let frame = json!({ "conversation_id": "room", "content": "again", "client_id": "c1" });
        let again = alice.accepted(message(frame)).await?;
        assert_eq!(again["duplicate"], life > 0);
        if life == 0 {
            let frame = alice.hear("message").await?;
            ensure!(frame["seq"].as_u64() > Some(last), "{frame}");
            last = frame["seq"].as_u64().unwrap_or_default();
        }
        alice.heard_nothing(&gateway).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_outsider_neither_hears_nor_writes_a_conversation() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    let mut mallory = Client::connect(&gateway, "mallory").await?;
    mallory.not_subscribed(ROOM).await?;
    for room in ["room", "nowhere"] {
        let send = message(json!({ "conversation_id": room, "content": "hello" }));
        assert_eq!(mallory.refused(send).await?["code"], "CHANNEL_NOT_FOUND", "{room}");
        let typing = json!({ "type": "typing_start", "payload": { "conversation_id": room } });
        assert_eq!(mallory.refused(typing).await?["code"], "CHANNEL_NOT_FOUND", "{room}");
    }
    let id = alice.say("room", "secret").await?;
    let read = json!({ "type": "read_receipt", "payload": { "message_ids": [id] } });
    assert_eq!(mallory.refused(read).await?["code"], "CHANNEL_NOT_FOUND");
    mallory.heard_nothing(&gateway).await?;
    assert_eq!(ids(&bob.all_before_now(&gateway).await?), [id]);
    Ok(())
}

#[tokio::test]
async fn typing_is_told_to_the_other_subscribers_once_each_way() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    for payload in [json!({ "conversation_id": "room" }), json!({ "user_id": "alice", "username": "al" })] {
        let start = json!({ "type": "typing_start", "channel": ROOM, "payload": payload });
        alice.accepted(start).await?;
    }
    alice.accepted(json!({ "type": "typing_stop", "channel": ROOM, "payload": {} })).await?;
    alice.accepted(json!({ "type": "typing_stop", "channel": ROOM, "payload": {} })).await?;
    let frames = bob.all_before_now(&gateway).await?;
    let told: Vec<_> = frames.iter().map(|f| (&f["type"], &f["channel"], &f["payload"])).collect();
    let (start, stop, room) = (json!("typing_start"), json!("typing_stop"), json!(ROOM));
    let payload = |on: bool| json!({ "conversation_id": "room", "user_id": "alice", "username": "alice", "is_typing": on });
    assert_eq!(told, [(&start, &room, &payload(true)), (&stop, &room, &payload(false))]);
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn typing_stops_by_itself() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    let began = tokio::time::Instant::now();
    alice.tell("typing_start", json!({ "conversation_id": "room" })).await?;
    bob.hear("typing_start").await?;
    let stop = bob.hear("typing_stop").await?;
    assert_eq!(stop["payload"]["user_id"], "alice");
    assert_eq!(stop["payload"]["is_typing"], false);
    // Four seconds of silence; below that it would come during typing.
    ensure!(began.elapsed() >= Duration::from_millis(3_900), "{:?}", began.elapsed());
    ensure!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    bob.heard_nothing(&gateway).await
}

#[tokio::test]
async fn typing_in_another_s_name_is_refused() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    let typing =
        json!({ "type": "typing_start", "payload": { "conversation_id": "room", "user_id": "bob" } });
    alice.refused(typing).await?;
    let send = message(json!({ "conversation_id": "room", "content": "x", "sender_id": "bob" }));
    alice.refused(send).await?;
    bob.heard_nothing(&gateway).await
}

#[tokio::test]
async fn a_read_receipt_is_told_to_the_others_with_all_messages_it_covers() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob", "carol"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::on(&gateway, "bob", ROOM).await?;
    let mut carol = Client::on(&gateway, "carol", ROOM).await?;
    let mut sent = Vec::new();
    for n in 0..3 {
        sent.push(alice.say("room", &format!("{n}")).await?);
    }
    let payload = json!({ "conversation_id": "room", "message_ids": [sent[1], sent[2]] });
    let data = bob.accepted(json!({ "type": "read_receipt", "payload": payload })).await?;
    assert!(data["read_at"].is_string(), "{data}");
    for client in [&mut alice, &mut carol] {
        let frame = client.hear("read_receipt").await?;
        assert_eq!(frame["channel"], ROOM);
        let payload = &frame["payload"];
        assert_eq!((&payload["conversation_id"], &payload["user_id"]), (&json!("room"), &json!("bob")));
        // The cursor passed the first one too.
        assert_eq!(payload["message_ids"], json!(sent));
        assert_eq!(payload["read_at"], data["read_at"]);
    }
    let frames = bob.all_before_now(&gateway).await?;
    assert!(
        frames.iter().all(|frame| frame["type"] == "message"),
        "a reader hears no own receipt: {frames:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_read_stays_read_and_is_told_once() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let mut sent = Vec::new();
    for n in 0..4 {
        sent.push(alice.say("room", &format!("{n}")).await?);
    }
    let read =
        |ids: &[String]| json!({ "type": "mark_read", "channel": ROOM, "payload": { "message_ids": ids } });
    bob.accepted(read(&sent[1..2])).await?;
    // An older one, the same, and own ones later: accepted, and nobody is told again.
    bob.accepted(read(&sent[..1])).await?;
    bob.accepted(read(&sent[1..2])).await?;
    bob.accepted(json!({ "type": "mark_read", "payload": { "message_id": sent[3] } })).await?;
    let frames = alice.all_before_now(&gateway).await?;
    let told: Vec<&Value> =
        frames.iter().filter(|f| f["type"] == "read_receipt").map(|f| &f["payload"]["message_ids"]).collect();
    assert_eq!(told, [&json!(sent[..2]), &json!(sent[2..])]);
    Ok(())
}

#[tokio::test]
async fn a_read_receipt_must_name_messages_of_its_conversation() -> Result<()> {
    let gateway = gateway().await?;
    for room in ["room", "other"] {
        conversation(&gateway, room, &["alice", "bob"]).await?;
    }
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    let (here, there) = (alice.say("room", "x").await?, alice.say("other", "x").await?);
    let read = |ids: Value| json!({ "type": "read_receipt", "payload": { "conversation_id": "room", "message_ids": ids } });
    for ids in [json!([]), json!(["nonsense"]), json!([there]), json!([here, there]), json!([{}]), json!("x")]
    {
        assert_eq!(bob.refused(read(ids.clone())).await?["code"], "INVALID_MESSAGE", "{ids}");
    }
    let frames = alice.all_before_now(&gateway).await?;
    assert!(frames.iter().all(|frame| frame["type"] != "read_receipt"), "{frames:?}");
    Ok(())
}
