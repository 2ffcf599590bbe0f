//! SeChat: who a connection is, how it says so, and how long that holds.

use std::time::Duration;

use crate::support::{connect, gateway, is_message, message, mount, refused, send, settled, until};
use anyhow::{Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, Options, SECRET, Ws, token};
use serde_json::{Value, json};
use tokio::time::Instant;

async fn nobody(gateway: &Gateway) -> Result<Ws> {
    Ws::connect(&gateway.url("/sechat")).await
}

fn register(session: &str, token: Option<&str>) -> Value {
    json!({"type": "register_session", "sessionId": session, "token": token, "timestamp": 1_755_633_600_000_u64})
}

#[tokio::test]
async fn a_token_in_the_first_frame_registers_the_session() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = nobody(&gateway).await?;
    alice.send(&register("alice", Some(&token("alice")?))).await?;
    let answer = alice.next().await?;
    ensure!(answer["type"] == "session_registered" && answer["status"] == "success", "{answer}");
    ensure!(answer["sessionId"] == "alice", "{answer}");
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    Ok(())
}

#[tokio::test]
async fn what_waits_comes_after_the_registration() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    let mut bob = nobody(&gateway).await?;
    bob.send(&register("bob", Some(&token("bob")?))).await?;
    ensure!(bob.next().await?["type"] == "session_registered");
    let heard = bob.next().await?;
    ensure!(is_message(&heard, "m-1") && heard["wasQueued"] == true, "{heard}");
    Ok(())
}

#[tokio::test]
async fn a_token_in_the_handshake_needs_no_registration() -> Result<()> {
    let gateway = gateway().await?;
    let bearer = format!("Bearer {}", token("alice")?);
    let opened = Ws::open(&gateway.url("/sechat"), &[("authorization", &bearer)]).await?;
    let Ok(mut by_header) = opened else { anyhow::bail!("refused") };
    send(&mut by_header, &message("m-1", "c", &["bob"])).await?;
    let mut by_query = gateway.connect("/sechat", "alice").await?;
    send(&mut by_query, &message("m-2", "c", &[])).await?;
    settled(&mut by_query, "alice").await?;
    Ok(())
}

#[tokio::test]
async fn without_a_token_nothing_is_registered_and_nothing_else_is_heard() -> Result<()> {
    let gateway = gateway().await?;
    let mut socket = nobody(&gateway).await?;
    socket.send(&register("alice", None)).await?;
    refused(&mut socket, "UNAUTHORIZED", "register_session").await?;
    for frame in [
        message("m-1", "c", &["bob"]),
        json!({"type": "presence:ping"}),
        json!({"type": "request_queued_events"}),
    ] {
        socket.send(&frame).await?;
        refused(&mut socket, "UNAUTHORIZED", frame["type"].as_str().unwrap_or_default()).await?;
    }
    socket.send(&register("alice", Some(&token("alice")?))).await?;
    ensure!(socket.next().await?["type"] == "session_registered", "refusals do not end the connection");
    Ok(())
}

#[tokio::test]
async fn a_session_id_that_is_not_the_tokens_subject_is_refused() -> Result<()> {
    let gateway = gateway().await?;
    let mut socket = nobody(&gateway).await?;
    socket.send(&register("bob", Some(&token("alice")?))).await?;
    refused(&mut socket, "FORBIDDEN", "register_session").await?;
    socket.send(&message("m-1", "c", &["bob"])).await?;
    refused(&mut socket, "UNAUTHORIZED", "message:send").await?;
    let mut alice = connect(&gateway, "alice").await?;
    alice.send(&register("bob", None)).await?;
    refused(&mut alice, "FORBIDDEN", "register_session").await?;
    alice.send(&register("alice", Some(&token("bob")?))).await?;
    refused(&mut alice, "FORBIDDEN", "register_session").await?;
    Ok(())
}

#[tokio::test]
async fn every_claim_to_be_another_session_is_refused() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    for frame in [
        json!({"type": "presence:update", "sessionId": "bob", "isOnline": false}),
        json!({"type": "presence:ping", "sessionId": "bob"}),
        json!({"type": "typing", "conversationId": "c", "fromUserId": "bob", "toUserIds": ["bob"], "isTyping": true}),
        json!({"type": "receipt:read", "messageId": "m", "fromUserId": "bob", "toUserId": "carol"}),
    ] {
        alice.send(&frame).await?;
        refused(&mut alice, "FORBIDDEN", frame["type"].as_str().unwrap_or_default()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn bad_tokens_are_refused_in_the_first_frame_and_in_the_handshake() -> Result<()> {
    let gateway = gateway().await?;
    let claims = json!({"sub": "alice", "exp": expiry(Duration::from_secs(60))});
    let bad = [
        "not.a.token".to_owned(),
        sign(&claims, "another-secret-of-at-least-32-bytes!!")?,
        sign(&json!({"sub": "alice", "exp": 1_000_000_000}), SECRET)?,
        sign(&json!({"sub": "alice"}), SECRET)?,
    ];
    for token in bad {
        let mut socket = nobody(&gateway).await?;
        socket.send(&register("alice", Some(&token))).await?;
        let error = refused(&mut socket, "UNAUTHORIZED", "register_session").await?;
        ensure!(!error.to_string().contains(&token), "the token is not repeated: {error}");
        let refusal = Ws::refused(&gateway.url(&format!("/sechat?token={token}"))).await?;
        ensure!(refusal.status == 401, "{} {}", refusal.status, refusal.body);
    }
    Ok(())
}

#[tokio::test]
async fn whoever_does_not_register_in_time_is_told_and_closed() -> Result<()> {
    let gateway = Gateway::start(Options::default().env("PARLANCE_LIMITS_UNAUTHENTICATED_MS", "500")).await?;
    let began = Instant::now();
    let mut socket = nobody(&gateway).await?;
    socket.send(&json!({"type": "presence:ping"})).await?;
    refused(&mut socket, "UNAUTHORIZED", "presence:ping").await?;
    ensure!(socket.next().await?["code"] == "UNAUTHORIZED", "a frame is no excuse");
    ensure!(socket.closed().await? == Some(1008));
    let took = began.elapsed();
    ensure!(took >= Duration::from_millis(500) && took < Duration::from_secs(4), "{took:?}");
    // Whoever is registered stays.
    let mut alice = connect(&gateway, "alice").await?;
    alice.assert_silent(Duration::from_millis(800)).await?;
    Ok(())
}

#[tokio::test]
async fn a_session_without_token_is_let_in_only_where_the_operator_says_so() -> Result<()> {
    let gateway = Gateway::start(mount("allow_unauthenticated_sessions = true")).await?;
    let mut alice = nobody(&gateway).await?;
    alice.send(&register("alice", None)).await?;
    ensure!(alice.next().await?["type"] == "session_registered");
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_that_ends_on_a_live_socket_is_told_and_closes_it() -> Result<()> {
    let gateway = gateway().await?;
    let short = sign(&json!({"sub": "alice", "exp": expiry(Duration::from_secs(2))}), SECRET)?;
    let mut alice = Ws::connect(&gateway.url(&format!("/sechat?token={short}"))).await?;
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    let error = alice.expect("error").await?;
    ensure!(error["code"] == "UNAUTHORIZED", "{error}");
    ensure!(alice.closed().await? == Some(1008));
    Ok(())
}

#[tokio::test]
async fn a_fresh_token_keeps_a_live_socket_open() -> Result<()> {
    let gateway = gateway().await?;
    let short = sign(&json!({"sub": "alice", "exp": expiry(Duration::from_secs(2))}), SECRET)?;
    let mut alice = Ws::connect(&gateway.url(&format!("/sechat?token={short}"))).await?;
    alice.send(&register("alice", Some(&token("alice")?))).await?;
    alice.expect("session_registered").await?;
    alice.assert_silent(Duration::from_millis(2_500)).await?;
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    Ok(())
}

#[tokio::test]
async fn a_user_has_only_so_many_connections_where_the_mount_says_so() -> Result<()> {
    let gateway = Gateway::start(mount("connections_per_user = 2")).await?;
    let _one = connect(&gateway, "alice").await?;
    let two = connect(&gateway, "alice").await?;
    let refusal = Ws::refused(&gateway.url(&format!("/sechat?token={}", token("alice")?))).await?;
    ensure!(refusal.status == 429, "{} {}", refusal.status, refusal.body);
    let mut late = nobody(&gateway).await?;
    late.send(&register("alice", Some(&token("alice")?))).await?;
    refused(&mut late, "RATE_LIMITED", "register_session").await?;
    let _bob = connect(&gateway, "bob").await?;
    two.close(1000).await?;
    let mut late = nobody(&gateway).await?;
    loop {
        late.send(&register("alice", Some(&token("alice")?))).await?;
        let answer = late.next().await?;
        if answer["type"] == "session_registered" {
            return Ok(());
        }
        ensure!(answer["code"] == "RATE_LIMITED", "{answer}");
    }
}

#[tokio::test]
async fn the_server_api_disconnects_every_device_of_a_user_and_nobody_else() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut phone = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    let call = json!({"reason": "signed out", "reconnect": false});
    let (status, body) = gateway.api("POST", "/api/v1/users/alice/disconnect", Some(&call)).await?;
    ensure!(status == 202, "{status} {body}");
    for socket in [&mut alice, &mut phone] {
        ensure!(socket.closed().await? == Some(1008));
    }
    send(&mut bob, &message("m-1", "c", &["alice"])).await?;
    let mut alice = gateway.connect("/sechat", "alice").await?;
    until(&mut alice, |f| is_message(f, "m-1")).await?;
    Ok(())
}
