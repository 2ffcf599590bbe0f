//! What was missed, asked for over the socket and over HTTP (2.7).

use crate::support::{World, claims, refused, send};
use anyhow::{Context, Result, ensure};
use parlance_tests::{StockSocket, token};
use serde_json::{Value, json};

/// Asks for a page; its messages and whether there are more.
async fn sync(socket: &StockSocket, args: &[Value]) -> Result<(Vec<Value>, bool)> {
    let mut answer = socket.emit_ack("messages:sync", args).await?;
    let page = answer.first_mut().and_then(Value::as_object_mut).context("no page")?;
    ensure!(page.len() == 3 && page["success"] == true, "{page:?}");
    let more = page["hasMore"].as_bool().context("no hasMore")?;
    let messages = page["messages"].as_array().cloned().context("no messages")?;
    Ok((messages, more))
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["text"].as_str()).collect()
}

/// Messages of alice's, sent by the application's backend.
async fn fill(world: &World, room: &str, numbers: std::ops::Range<usize>) -> Result<Vec<Value>> {
    let mut sent = Vec::new();
    for n in numbers {
        let body = json!({ "senderId": "alice", "body": n.to_string(), "clientId": format!("k{n}") });
        let path = format!("/api/v1/conversations/{room}/messages");
        let (status, answer) = world.gateway.api("POST", &path, Some(&body)).await?;
        ensure!(status == 201, "{answer}");
        sent.push(answer);
    }
    Ok(sent)
}

#[tokio::test]
async fn r2_7_1_what_is_synced_is_what_was_told() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let mut live = Vec::new();
    for n in 0..3 {
        let message = json!({
            "text": format!("text {n}"), "clientMessageId": format!("c-{n}"), "senderLanguage": "en",
            "translatedText": format!("Text {n}"), "recipientLanguage": "de", "encrypted": n == 2,
        });
        alice.emit("message:send", &[json!("room"), message])?;
        live.push(bob.expect("message:new").await?[0].clone());
    }
    for since in [vec![], vec![Value::Null], vec![json!(0)], vec![json!("1970-01-01T00:00:00Z")]] {
        let args = [vec![json!("room")], since].concat();
        assert_eq!(sync(&bob, &args).await?, (live.clone(), false), "{args:?}");
    }
    assert_eq!(world.history("bob", "room", "").await?["messages"], json!(live));
    // Nothing is pushed by it, and without an acknowledgement nothing comes of it.
    bob.emit("messages:sync", &[json!("room"), Value::Null])?;
    sync(&bob, &[json!("room")]).await?;
    assert!(bob.assert_none("message:new").await.is_ok() && bob.assert_none("error").await.is_ok());
    Ok(())
}

#[tokio::test]
async fn r2_7_2_only_what_came_after_is_told() -> Result<()> {
    let world = World::unlimited().await?;
    let (alice, bob) = world.pair("room").await?;
    let mut live = Vec::new();
    for n in 0..6 {
        send(&alice, "room", &format!("c-{n}"), &n.to_string()).await?;
        live.push(bob.expect("message:new").await?[0].clone());
    }
    let number = live[0]["conversationId"].clone();
    for (n, message) in live.iter().enumerate() {
        let id = message["id"].as_u64().context("no id")?;
        // By the last message: what is after it. Conversation by name and number, id as number and text.
        for args in [
            [json!("room"), json!(id)],
            [number.clone(), json!(id.to_string())],
            [json!({ "conversationId": number, "since": id }), Value::Null],
        ] {
            let (after, more) = sync(&bob, &args).await?;
            assert_eq!((after.as_slice(), more), (&live[n + 1..], false), "{args:?}");
        }
        // By its time: what is of that time and later; the client drops what it has, by id.
        let (later, _) = sync(&bob, &[json!("room"), message["createdAt"].clone()]).await?;
        assert!(later.ends_with(&live[n..]), "of {n}: {:?}", texts(&later));
        let early = |m: &Value| m["createdAt"].as_str() < message["createdAt"].as_str();
        assert!(!later.iter().any(early), "of {n}: {:?}", texts(&later));
        let query = format!("&since={id}");
        assert_eq!(world.history("bob", "room", &query).await?["messages"], json!(live[n + 1..]));
        let query = format!("&since={}", message["createdAt"].as_str().context("no time")?);
        assert_eq!(world.history("bob", &number.to_string(), &query).await?["messages"], json!(later));
    }
    assert_eq!(sync(&bob, &[json!("room"), json!("2999-01-01T00:00:00Z")]).await?, (vec![], false));
    Ok(())
}

#[tokio::test]
async fn r2_7_5_pages_cover_everything_once_and_in_order() -> Result<()> {
    let world = World::unlimited().await?;
    world.room("room", &["alice", "bob"]).await?;
    let bob = world.joined("bob", "room").await?;
    assert_eq!(sync(&bob, &[json!("room")]).await?, (vec![], false));
    fill(&world, "room", 0..250).await?;
    let expected: Vec<String> = (0..250).map(|n| n.to_string()).collect();
    let (mut all, mut since, mut sizes) = (Vec::new(), Value::Null, Vec::new());
    loop {
        let (page, more) = sync(&bob, &[json!("room"), since]).await?;
        sizes.push(page.len());
        since = page.last().context("an empty page")?["id"].clone();
        all.extend(page);
        if !more {
            break;
        }
    }
    assert_eq!(sizes, [100, 100, 50]);
    assert_eq!(texts(&all), expected);
    let ids: Vec<u64> = all.iter().filter_map(|m| m["id"].as_u64()).collect();
    assert!(ids.len() == 250 && ids.is_sorted_by(|a, b| a < b), "2.7.4: ids are unique, and ordered by age");
    assert!(all.is_sorted_by_key(|m| m["createdAt"].as_str()), "2.7.5");
    // The live events were the same, 3.1.4: more than a hundred do no harm.
    for message in &all {
        assert_eq!(&bob.expect("message:new").await?[0], message);
    }
    Ok(())
}

#[tokio::test]
async fn r2_7_1_a_sync_says_what_it_cannot_do() -> Result<()> {
    let world = World::start().await?;
    let (alice, _bob) = world.pair("room").await?;
    world.room("other", &["alice"]).await?;
    let foreign = send(&alice, "other", "c-1", "elsewhere").await?;
    let room = || json!("room");
    let wrong = "since must be an ISO time or a message id";
    for since in [json!("yesterday"), json!(-1), json!(true), json!({ "since": "soon" })] {
        refused(&alice, "messages:sync", &[room(), since], wrong).await?;
    }
    let sentence = "no such message in this conversation";
    refused(&alice, "messages:sync", &[room(), json!(foreign)], sentence).await?;
    refused(&alice, "messages:sync", &[], "conversationId is required").await?;
    let path = "/api/v1/conversations/room/messages?dialect=lingochat&since=";
    for (who, since, status) in
        [("alice", "yesterday", 400), ("alice", &*foreign.to_string(), 400), ("mallory", "", 403)]
    {
        let answer = world.gateway.public("GET", &format!("{path}{since}"), Some(&token(who)?)).await?;
        assert_eq!(answer.status, status, "{who} {since}: {}", answer.body);
    }
    assert_eq!(world.gateway.public("GET", path, None).await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn r2_7_1_the_history_knows_a_user_by_the_claims_of_the_dialect() -> Result<()> {
    let world = World::start().await?;
    let number = world.room("room", &["7", "bob"]).await?;
    let bob = world.joined("bob", "room").await?;
    let id = send(&bob, "room", "c-1", "hello").await?;
    // Who calls a conversation by its number is of this dialect, also without saying so.
    for path in [
        format!("/api/v1/conversations/{number}/messages"),
        "/api/v1/conversations/room/messages?dialect=lingochat".to_owned(),
    ] {
        for (given, status) in [
            (json!({ "userId": 7, "sub": "a-stranger" }), 200),
            (json!({ "openId": "7", "user_id": "a-stranger" }), 200),
            (json!({ "userId": "a-stranger", "sub": "7" }), 403),
        ] {
            let answer = world.gateway.public("GET", &path, Some(&claims(given.clone())?)).await?;
            assert_eq!(answer.status, status, "{path} {given}: {}", answer.body);
        }
    }
    let path = format!("/api/v1/conversations/{number}/messages?dialect=lingochat");
    let answer = world.gateway.public("GET", &path, Some(&claims(json!({ "userId": 7 }))?)).await?;
    assert_eq!(answer.json()?["messages"][0]["id"], id);
    Ok(())
}
