//! SeChat: how much and how fast, and what breaks the WebSocket protocol.

use std::time::Duration;

use crate::support::{
    Bare, connect, frame, gateway, ids, is_message, message, mount, pair, refused, send, settled, until,
};
use anyhow::{Context, Result, ensure};
use parlance_tests::{Gateway, Options};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

/// Sends `count` messages at once and returns their answers, in order, and how long that took.
async fn burst(socket: &mut parlance_tests::Ws, count: usize) -> Result<(Vec<Value>, Duration)> {
    let began = Instant::now();
    for n in 0..count {
        socket.send(&message(&format!("m-{n}"), "c", &["bob"])).await?;
    }
    let mut answers = Vec::new();
    while answers.len() < count {
        let frame = socket.next().await?;
        if frame["type"] == "message:acked" || frame["type"] == "error" {
            answers.push(frame);
        }
    }
    Ok((answers, began.elapsed()))
}

#[tokio::test]
async fn twenty_messages_a_second_are_accepted_and_no_more() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let (answers, took) = burst(&mut alice, 60).await?;
    let accepted = answers.iter().filter(|a| a["type"] == "message:acked").count();
    // As many windows as began while they were sent.
    let windows = 1 + usize::try_from(took.as_secs())?;
    ensure!(accepted >= 20 && accepted <= 20 * windows, "{accepted} in {took:?}");
    for error in answers.iter().filter(|a| a["type"] == "error") {
        ensure!(error["code"] == "RATE_LIMITED" && error["details"]["event"] == "message:send", "{error}");
        ensure!(error["details"]["messageId"].is_string(), "{error}");
        let wait = error["details"]["retryAfterMs"].as_u64().context("no retryAfterMs")?;
        ensure!((1..=1_000).contains(&wait), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_message_is_accepted_after_the_time_it_was_told_and_delivered_once() -> Result<()> {
    let gateway = gateway().await?;
    let mut bob = connect(&gateway, "bob").await?;
    let mut alice = connect(&gateway, "alice").await?;
    let (answers, _) = burst(&mut alice, 40).await?;
    let refusal = answers.iter().rev().find(|a| a["type"] == "error").context("nothing was refused")?;
    let wait = refusal["details"]["retryAfterMs"].as_u64().context("no retryAfterMs")?;
    let id = refusal["details"]["messageId"].as_str().context("no id")?.to_owned();
    tokio::time::sleep(Duration::from_millis(wait + 50)).await;
    send(&mut alice, &message(&id, "c", &["bob"])).await?;
    let heard = until(&mut bob, |f| is_message(f, &id)).await?;
    let mut expected: Vec<&str> = ids(&answers, "message:acked");
    expected.push(&id);
    ensure!(ids(&heard, "message:received") == expected, "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_resend_of_what_is_stored_is_not_refused_by_the_limit() -> Result<()> {
    // A window long enough that the burst surely fits into it.
    let gateway = Gateway::start(mount("messages = { limit = 5, window_ms = 60000 }")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    let (answers, _) = burst(&mut alice, 8).await?;
    ensure!(ids(&answers, "message:acked") == ["m-0", "m-1", "m-2", "m-3", "m-4"], "{answers:?}");
    for _ in 0..10 {
        let again = send(&mut alice, &message("m-2", "c", &["bob"])).await?;
        ensure!(again["timestamp"] == answers[2]["timestamp"], "the same message: {again}");
    }
    alice.send(&message("m-9", "c", &["bob"])).await?;
    refused(&mut alice, "RATE_LIMITED", "message:send").await?;
    Ok(())
}

#[tokio::test]
async fn resends_and_refusals_cost_nothing() -> Result<()> {
    let gateway = Gateway::start(mount("messages = { limit = 5, window_ms = 60000 }")).await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    send(&mut bob, &message("b-1", "of-bob", &[])).await?;
    for _ in 0..10 {
        send(&mut alice, &message("first", "c", &[])).await?;
        alice.send(&message("stray", "of-bob", &[])).await?;
        refused(&mut alice, "FORBIDDEN", "message:send").await?;
    }
    for n in 0..4 {
        send(&mut alice, &message(&format!("m-{n}"), "c", &[])).await?;
    }
    alice.send(&message("m-4", "c", &[])).await?;
    refused(&mut alice, "RATE_LIMITED", "message:send").await?;
    Ok(())
}

#[tokio::test]
async fn the_limit_counts_a_user_not_a_connection() -> Result<()> {
    let gateway = Gateway::start(mount("messages = { limit = 4, window_ms = 60000 }")).await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let mut phone = connect(&gateway, "alice").await?;
    for n in 0..3 {
        send(&mut phone, &message(&format!("m-{n}"), "c", &[])).await?;
    }
    for socket in [&mut alice, &mut phone] {
        socket.send(&message("m-9", "c", &[])).await?;
        refused(socket, "RATE_LIMITED", "message:send").await?;
    }
    send(&mut bob, &message("b-1", "c", &[])).await?;
    Ok(())
}

#[tokio::test]
async fn a_body_may_have_64_kib_after_decoding_and_no_more() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let largest = "é".repeat(32 * 1024);
    let mut frame = message("largest", "c", &[]);
    frame["body"] = json!(largest);
    send(&mut alice, &frame).await?;
    let heard = until(&mut bob, |f| is_message(f, "largest")).await?;
    ensure!(heard.last().is_some_and(|f| f["body"] == largest.as_str()), "whole");
    // Escapes make a frame longer, not its body.
    let escaped = format!(
        r#"{{"type":"message:send","messageId":"escaped","conversationId":"c","body":"{}"}}"#,
        r"\u0041".repeat(40_000)
    );
    alice.send_message(Message::text(escaped)).await?;
    alice.expect("message:acked").await?;
    frame["messageId"] = json!("larger");
    frame["body"] = json!(format!("{largest}x"));
    alice.send(&frame).await?;
    let error = refused(&mut alice, "PAYLOAD_TOO_LARGE", "message:send").await?;
    ensure!(error["details"]["messageId"] == "larger", "{error}");
    send(&mut alice, &message("after", "c", &[])).await?;
    let heard = until(&mut bob, |f| is_message(f, "after")).await?;
    ensure!(ids(&heard, "message:received") == ["escaped", "after"], "refused means not stored");
    Ok(())
}

#[tokio::test]
async fn metadata_may_not_be_larger_than_a_body() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, _bob) = pair(&gateway).await?;
    let mut frame = message("m-1", "c", &[]);
    frame["metadata"] = json!({"x": "y".repeat(64 * 1024)});
    alice.send(&frame).await?;
    refused(&mut alice, "PAYLOAD_TOO_LARGE", "message:send").await?;
    Ok(())
}

#[tokio::test]
async fn a_frame_may_have_256_kib_and_a_larger_one_closes_with_1009() -> Result<()> {
    let gateway = gateway().await?;
    let (mut alice, mut bob) = pair(&gateway).await?;
    let padded = |size: usize| {
        let head = r#"{"type":"presence:ping","x":""#;
        format!("{head}{}\"}}", "x".repeat(size - head.len() - 2))
    };
    alice.send_message(Message::text(padded(256 * 1024))).await?;
    let heard = settled(&mut alice, "alice").await?;
    ensure!(heard.len() == 1, "{heard:?}");
    alice.send_message(Message::text(padded(256 * 1024 + 1))).await?;
    ensure!(alice.closed().await? == Some(1009));
    send(&mut bob, &message("m-1", "c", &[])).await?;
    Ok(())
}

#[tokio::test]
async fn a_large_message_in_small_fragments_counts_as_one() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Bare::connect(&gateway, "alice").await?;
    alice.write(&frame(0x01, &[b' '; 100_000])).await?;
    alice.write(&frame(0x00, &[b' '; 100_000])).await?;
    alice.write(&frame(0x80, &[b' '; 100_000])).await?;
    ensure!(alice.closed().await? == 1009);
    Ok(())
}

#[tokio::test]
async fn fragments_make_one_message_and_a_ping_between_them_is_answered() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Bare::connect(&gateway, "alice").await?;
    alice.write(&frame(0x01, br#"{"type":"register_"#)).await?;
    alice.write(&frame(0x89, b"between")).await?;
    ensure!(alice.frame().await? == (0x8a, b"between".to_vec()), "a pong with the ping's payload");
    alice.write(&frame(0x80, br#"session","sessionId":"alice"}"#)).await?;
    let (first, payload) = alice.frame().await?;
    let answer: Value = serde_json::from_slice(&payload)?;
    ensure!(first == 0x81 && answer["type"] == "session_registered", "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_binary_frame_closes_with_1003() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    alice.send_message(Message::binary(br#"{"type":"presence:ping"}"#.to_vec())).await?;
    ensure!(alice.closed().await? == Some(1003));
    Ok(())
}

#[tokio::test]
async fn invalid_utf8_closes_with_1007() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Bare::connect(&gateway, "alice").await?;
    alice.write(&frame(0x81, b"{\"type\":\"\xff\"}")).await?;
    ensure!(alice.closed().await? == 1007);
    Ok(())
}

#[tokio::test]
async fn what_breaks_the_protocol_closes_with_1002() -> Result<()> {
    let gateway = gateway().await?;
    let unmasked = b"\x81\x02{}".to_vec();
    let reserved_bit = frame(0xc1, b"{}");
    let reserved_opcode = frame(0x83, b"{}");
    let stray_continuation = frame(0x80, b"{}");
    let fragmented_ping = frame(0x09, b"");
    let long_ping = frame(0x89, &[0; 126]);
    let garbage = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    for (name, bytes) in [
        ("unmasked", unmasked),
        ("reserved bit", reserved_bit),
        ("reserved opcode", reserved_opcode),
        ("stray continuation", stray_continuation),
        ("fragmented ping", fragmented_ping),
        ("long ping", long_ping),
        ("garbage", garbage),
    ] {
        let mut alice = Bare::connect(&gateway, "alice").await?;
        alice.write(&bytes).await?;
        let code = alice.closed().await.with_context(|| name)?;
        ensure!(code == 1002, "{name}: {code}");
    }
    let mut bob = connect(&gateway, "bob").await?;
    settled(&mut bob, "bob").await?;
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_begun_and_not_finished_ends_the_connection() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_LIMITS_MESSAGE_MS", "500")).await?;
    let mut alice = Bare::connect(&gateway, "alice").await?;
    let mut half = frame(0x81, br#"{"type":"presence:ping"}"#);
    half.truncate(12);
    alice.write(&half).await?;
    ensure!(alice.closed().await? == 1008);
    Ok(())
}

#[tokio::test]
async fn frames_beyond_two_hundred_a_second_wait_and_none_is_lost() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let began = Instant::now();
    for n in 0..400 {
        alice.send_message(Message::text(format!(r#"{{"type":"no-{n}"}}"#))).await?;
    }
    let heard = until(&mut alice, |f| f["details"]["event"] == "no-399").await?;
    let took = began.elapsed();
    ensure!(heard.len() == 400, "each is answered: {}", heard.len());
    // A full bucket of 200 at first, then 200 a second.
    ensure!(took >= Duration::from_millis(800) && took < Duration::from_secs(6), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused_over_http() -> Result<()> {
    let gateway = gateway().await?;
    let plain = gateway.public("GET", "/sechat", None).await?;
    ensure!(plain.status == 426, "{} {}", plain.status, plain.body);
    let nowhere = gateway.public("GET", "/nowhere", None).await?;
    ensure!(nowhere.status == 404, "{} {}", nowhere.status, nowhere.body);
    Ok(())
}
