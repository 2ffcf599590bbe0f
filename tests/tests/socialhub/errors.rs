//! SocialHub: bad input, limits, and the words for both.

use crate::support::{Client, conversation, gateway};
use anyhow::{Context, Result, ensure};
use parlance_tests::{Gateway, Options};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const ROOM: &str = "conversation:room";
/// Messages of one user in a second.
const RATE: usize = 100;

/// The next `error` frame's payload.
async fn error(client: &mut Client) -> Result<Value> {
    let frame = client.hear("error").await?;
    ensure!(frame["id"].is_string() && frame["timestamp"].is_string(), "{frame}");
    ensure!(frame.get("ack_id").is_none(), "nobody asked: {frame}");
    Ok(frame["payload"].clone())
}

#[tokio::test]
async fn without_ack_id_a_refusal_is_an_error_frame_and_with_it_a_failed_ack_alone() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.tell("subscribe", json!({ "channel": "conversation:nowhere" })).await?;
    let told = error(&mut alice).await?;
    let failed = alice
        .refused(json!({ "type": "subscribe", "payload": { "channel": "conversation:nowhere" } }))
        .await?;
    assert_eq!(told, failed, "the same words");
    assert_eq!(told["code"], "CHANNEL_NOT_FOUND");
    assert!(told["message"].is_string() && told["details"].is_object(), "{told}");
    assert_eq!(told["details"]["type"], "subscribe");
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn without_ack_id_success_is_not_answered() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.tell("connect", json!({})).await?;
    alice.tell("subscribe", json!({ "channel": "feed:updates" })).await?;
    alice.tell("presence", json!({ "status": "busy" })).await?;
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn what_is_no_envelope_is_an_invalid_message_and_the_connection_goes_on() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let deep = format!("{{\"type\":\"connect\",\"payload\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    for text in [
        "",
        "{",
        "null",
        "7",
        "[]",
        "\"x\"",
        "{}",
        "{\"type\":7}",
        "{\"type\":\"\"}",
        "{\"type\":\"nonsense\"}",
        &deep,
    ] {
        alice.ws.send_message(Message::text(text)).await?;
        let told = error(&mut alice).await.with_context(|| format!("after {text}"))?;
        assert_eq!(told["code"], "INVALID_MESSAGE", "{text}");
    }
    assert_eq!(alice.accepted(json!({ "type": "connect" })).await?["user_id"], "alice");
    Ok(())
}

#[tokio::test]
async fn a_missing_type_is_named_as_documented() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.ws.send(&json!({ "id": "1", "payload": {} })).await?;
    let told = error(&mut alice).await?;
    assert_eq!(told["code"], "INVALID_MESSAGE");
    assert_eq!(told["message"], "Message type is required");
    Ok(())
}

#[tokio::test]
async fn ill_typed_and_missing_fields_are_invalid_messages_and_nothing_is_stored() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let large = "x".repeat(65_537);
    for payload in [
        json!({}),
        json!("text"),
        json!([]),
        json!({ "conversation_id": "room" }),
        json!({ "content": "no conversation" }),
        json!({ "conversation_id": "room", "content": "" }),
        json!({ "conversation_id": "room", "content": 7 }),
        json!({ "conversation_id": "room", "content": { "text": "x" } }),
        json!({ "conversation_id": "not an id", "content": "x" }),
        json!({ "conversation_id": {}, "content": "x" }),
        json!({ "conversation_id": "room", "content": "x", "metadata": "x" }),
        json!({ "conversation_id": "room", "content": "x", "client_id": {} }),
        json!({ "conversation_id": "room", "content": "x", "client_id": "x".repeat(129) }),
        json!({ "conversation_id": "room", "content": large }),
    ] {
        let refused = alice.refused(json!({ "type": "message", "payload": payload })).await?;
        let shown: String = payload.to_string().chars().take(80).collect();
        assert_eq!(refused["code"], "INVALID_MESSAGE", "{shown}");
    }
    for (kind, payload) in [
        ("typing_start", json!({})),
        ("read_receipt", json!({})),
        ("notification_read", json!({})),
        ("notification_read", json!({ "notification_id": {} })),
    ] {
        let refused = alice.refused(json!({ "type": kind, "payload": payload })).await?;
        assert_eq!(refused["code"], "INVALID_MESSAGE", "{kind} {payload}");
    }
    alice.heard_nothing(&gateway).await?;
    let (_, history) = gateway.api("GET", "/api/v1/conversations/room/messages", None).await?;
    assert_eq!(history["messages"], json!([]));
    Ok(())
}

#[tokio::test]
async fn an_ack_id_of_the_wrong_kind_is_an_invalid_message() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    for ack_id in [json!({}), json!("x".repeat(129))] {
        alice.ws.send(&json!({ "type": "connect", "ack_id": ack_id })).await?;
        assert_eq!(error(&mut alice).await?["code"], "INVALID_MESSAGE", "{ack_id}");
    }
    Ok(())
}

#[tokio::test]
async fn timestamps_and_unknown_fields_are_never_a_reason_to_refuse() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    for (n, timestamp) in [json!("yesterday"), json!(7), json!(null), json!({})].into_iter().enumerate() {
        let payload = json!({ "content": format!("{n}"), "is_read": "?", "sender": 7 });
        alice
            .accepted(json!({
                "id": n, "timestamp": timestamp, "type": "message", "channel": ROOM, "payload": payload, "extra": [],
            }))
            .await?;
        assert_eq!(alice.hear_text().await?, format!("{n}"));
    }
    Ok(())
}

#[tokio::test]
async fn a_client_s_ack_is_taken_without_an_answer() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.tell("ack", json!({ "ack_id": "1", "status": "success" })).await?;
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn binary_frames_close_with_1003_and_oversized_ones_with_1009() -> Result<()> {
    let gateway = gateway().await?;
    let mut other = Client::connect(&gateway, "alice").await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.ws.send_message(Message::binary(vec![1, 2, 3])).await?;
    assert_eq!(alice.ws.closed().await?, Some(1003));
    let mut alice = Client::connect(&gateway, "alice").await?;
    // The server may close before all of it is written.
    let _ = alice.ws.send_message(Message::text("x".repeat(256 * 1024 + 1))).await;
    assert_eq!(alice.ws.closed().await?, Some(1009));
    other.accepted(json!({ "type": "connect" })).await?;
    Ok(())
}

#[tokio::test]
async fn the_frame_of_the_largest_body_fits() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    // Each character takes six bytes in JSON.
    let body = "\u{1}".repeat(40_000);
    alice.say("room", &body).await?;
    assert_eq!(alice.hear_text().await?, body);
    Ok(())
}

/// Sends `count` messages as fast as it goes and returns all acks, in their order.
async fn burst(client: &mut Client, count: usize) -> Result<Vec<Value>> {
    for n in 0..count {
        let payload = json!({ "conversation_id": "room", "content": "x" });
        client.ws.send(&json!({ "type": "message", "payload": payload, "ack_id": n.to_string() })).await?;
    }
    let mut acks = Vec::new();
    while acks.len() < count {
        let frame = client.hear("ack").await?;
        let turn = acks.len().to_string();
        ensure!(frame["ack_id"] == turn, "out of order: {frame}");
        acks.push(frame["payload"].clone());
    }
    Ok(acks)
}

#[tokio::test]
async fn more_than_100_messages_a_second_are_refused_with_when_to_come_back() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice", "bob"]).await?;
    let mut phone = Client::connect(&gateway, "alice").await?;
    let mut desk = Client::connect(&gateway, "alice").await?;
    let (first, second) = tokio::try_join!(burst(&mut phone, 130), burst(&mut desk, 130))?;
    let (accepted, refused): (Vec<_>, Vec<_>) =
        first.iter().chain(&second).partition(|ack| ack["status"] == "success");
    ensure!(!refused.is_empty(), "all of 260 were accepted");
    ensure!(accepted.len() >= RATE * 95 / 100, "only {} were accepted", accepted.len());
    for ack in refused {
        assert_eq!(ack["error"]["code"], "RATE_LIMITED", "{ack}");
        let wait = ack["error"]["details"]["retry_after_ms"].as_u64().context("no retry_after_ms")?;
        ensure!((1..=1000).contains(&wait), "{ack}");
    }
    // The limit is asked a moment before the message gets its time: hence a little less than a second.
    let mut times = Vec::new();
    for ack in accepted {
        times.push(millis(ack["data"]["created_at"].as_str().context("no created_at")?)?);
    }
    times.sort_unstable();
    let fullest = times.windows(RATE + 1).map(|window| window[RATE] - window[0]).min();
    ensure!(fullest.is_none_or(|span| span >= 900), "{} messages in {fullest:?} ms", RATE + 1);
    // Others have their own.
    Client::connect(&gateway, "bob").await?.say("room", "x").await?;
    Ok(())
}

#[tokio::test]
async fn without_ack_id_too_many_messages_are_told_by_error_frames() -> Result<()> {
    let gateway = Gateway::start(Options::brief().env("PARLANCE_MOUNTS", ONE_A_MINUTE)).await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.say("room", "the one").await?;
    alice.tell("message", json!({ "conversation_id": "room", "content": "x", "client_id": "c2" })).await?;
    let told = error(&mut alice).await?;
    assert_eq!(told["code"], "RATE_LIMITED");
    assert_eq!(told["details"]["client_id"], "c2");
    assert!(told["details"]["retry_after_ms"].as_u64() > Some(1_000), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_resend_and_a_refused_message_cost_nothing() -> Result<()> {
    let gateway = Gateway::start(Options::brief().env("PARLANCE_MOUNTS", ONE_A_MINUTE)).await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let send = |room: &str, client_id: &str| {
        let payload = json!({ "conversation_id": room, "content": "x", "client_id": client_id });
        json!({ "type": "message", "payload": payload })
    };
    assert_eq!(alice.refused(send("nowhere", "c0")).await?["code"], "CHANNEL_NOT_FOUND");
    let first = alice.accepted(send("room", "c1")).await?;
    // Beyond the limit, but known.
    let again = alice.accepted(send("room", "c1")).await?;
    assert_eq!((&again["duplicate"], &again["message_id"]), (&json!(true), &first["message_id"]));
    assert_eq!(alice.refused(send("room", "c2")).await?["code"], "RATE_LIMITED");
    Ok(())
}

const ONE_A_MINUTE: &str = r#"[{ name = "socialhub", path = "/ws", dialect = "socialhub", messages = { limit = 1, window_ms = 60000 } }]"#;

#[tokio::test]
async fn maintenance_refuses_messages_with_internal_error_and_when_to_come_back() -> Result<()> {
    let gateway = gateway().await?;
    conversation(&gateway, "room", &["alice"]).await?;
    let mut alice = Client::on(&gateway, "alice", ROOM).await?;
    let (status, answer) = gateway
        .api(
            "PUT",
            "/api/v1/maintenance",
            Some(&json!({ "enabled": true, "message": "back soon", "retryAfter": 30 })),
        )
        .await?;
    ensure!(status == 200, "{status} {answer}");
    let send = json!({ "type": "message", "channel": ROOM, "payload": { "content": "x" } });
    let refused = loop {
        // The node hears of it a moment after the answer.
        let ack = alice.ask(send.clone()).await?;
        if ack["success"] == false {
            break ack["error"].clone();
        }
    };
    assert_eq!(refused["code"], "INTERNAL_ERROR");
    assert!(refused["details"]["retry_after_ms"].as_u64() > Some(0), "{refused}");
    Ok(())
}

/// Milliseconds of the day of an ISO 8601 time with them.
fn millis(iso: &str) -> Result<u64> {
    let time = iso.split_once('T').context("no time")?.1.trim_end_matches('Z');
    let parts: Vec<u64> = time.split([':', '.']).map(str::parse).collect::<Result<_, _>>()?;
    let [hours, minutes, seconds, millis] = parts[..] else { anyhow::bail!("{iso}") };
    Ok(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis)
}
