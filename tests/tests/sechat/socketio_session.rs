//! SeChat over Socket.IO: who a connection is, how it says so, and how long that holds.

use std::time::Duration;

use crate::socketio_support::*;
use anyhow::{Context, Result, bail, ensure};
use parlance_tests::exact::has_only;
use parlance_tests::io::{Came, Told, event};
use parlance_tests::stock::Report;
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, IoClient, SECRET, Stock, Transports, token};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Tokens that are no good.
fn bad_tokens() -> Result<[String; 4]> {
    let claims = json!({ "sub": "alice", "exp": expiry(Duration::from_secs(60)) });
    Ok([
        "not.a.token".to_owned(),
        sign(&claims, "another-secret-of-at-least-32-bytes!!")?,
        sign(&json!({ "sub": "alice", "exp": 1_000_000_000 }), SECRET)?,
        sign(&json!({ "sub": "alice" }), SECRET)?,
    ])
}

#[tokio::test]
async fn a_connect_without_auth_and_register_session_is_answered_by_session_registered_on_every_transport()
-> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    for transports in Transports::ALL {
        let alice = nobody(&stock, &gateway, transports).await?;
        let register = registration("alice", Some(&token("alice")?));
        let asked = Instant::now();
        alice.emit("register_session", std::slice::from_ref(&register))?;
        let registered = expect(&alice, "session_registered").await?;
        has_only(&registered, &["type", "status", "sessionId", "message"])?;
        assert_eq!((&registered["status"], &registered["sessionId"]), (&json!("success"), &json!("alice")));
        ensure!(asked.elapsed() < Duration::from_secs(10), "the client waits so long");
        // Again, as it does on every connect; with an acknowledgement that holds the same.
        let acked = alice.emit_ack("register_session", &[register]).await?;
        assert_eq!(acked.first(), Some(&registered));
        assert_eq!(expect(&alice, "session_registered").await?, registered);
        send(&alice, &message(&format!("m-{transports:?}"), "c", &["bob"])).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_token_at_connect_in_the_query_or_a_header_needs_no_registration() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let token = token("alice")?;
    let bearer = format!("Bearer {token}");
    for (n, options) in [
        options(Transports::Websocket).auth(json!({ "token": token })),
        options(Transports::Polling).auth(json!({ "token": bearer })),
        options(Transports::Websocket).query("token", &token),
        options(Transports::Polling).query("token", &token),
        options(Transports::Websocket).header("Authorization", &bearer),
        options(Transports::Polling).header("Authorization", &bearer),
    ]
    .into_iter()
    .enumerate()
    {
        let alice = stock.connect(gateway.address(), options)?;
        alice.expect_connect().await?;
        send(&alice, &message(&format!("m-{n}"), "c", &["bob"])).await.with_context(|| n.to_string())?;
        alice.emit("register_session", &[registration("alice", None)])?;
        expect(&alice, "session_registered").await?;
    }
    Ok(())
}

#[tokio::test]
async fn before_registration_everything_is_unauthorized_and_refusals_do_not_end_the_connection() -> Result<()>
{
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let socket = nobody(&stock, &gateway, Transports::Websocket).await?;
    socket.emit("register_session", &[registration("alice", None)])?;
    refused(&socket, "UNAUTHORIZED", "register_session").await?;
    for (event, payload) in [
        ("message:send", message("m-1", "c", &["bob"])),
        ("typing", json!({ "conversationId": "c", "isTyping": true })),
        ("presence:ping", json!({})),
        ("presence:update", json!({ "isOnline": true })),
        ("receipt:read", receipt("m", "alice", "bob")),
        ("request_queued_events", json!({})),
        ("send_message", json!({ "recipientId": "bob", "message": "x" })),
    ] {
        let acked = socket.emit_ack(event, &[payload]).await?;
        let error = refused(&socket, "UNAUTHORIZED", event).await?;
        assert_eq!(acked, [error]);
    }
    socket.emit("register_session", &[registration("alice", Some(&token("alice")?))])?;
    expect(&socket, "session_registered").await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_token_in_register_session_is_unauthorized_and_not_repeated() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let socket = nobody(&stock, &gateway, Transports::Websocket).await?;
    for token in bad_tokens()? {
        socket.emit("register_session", &[registration("alice", Some(&token))])?;
        let error = refused(&socket, "UNAUTHORIZED", "register_session").await?;
        ensure!(!error.to_string().contains(&token), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_token_at_connect_is_refused_as_unauthorized_with_its_code() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    for token in bad_tokens()? {
        for options in [
            options(Transports::Websocket).auth(json!({ "token": token })),
            options(Transports::Polling).auth(json!({ "token": token })),
            options(Transports::Websocket).query("token", &token),
        ] {
            let refusal = stock.connect(gateway.address(), options)?.expect_refusal().await?;
            ensure!(refusal.message.starts_with("Unauthorized: "), "{refusal:?}");
            assert_eq!(refusal.data, Some(json!({ "code": "UNAUTHORIZED" })));
            ensure!(!refusal.message.contains(&token), "{refusal:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn after_a_refused_connect_the_transport_stays_and_another_connect_may_follow() -> Result<()> {
    let gateway = gateway().await?;
    let mut io = IoClient::open(&gateway.url(PATH)).await?;
    io.send(&[r#"40{"token":"nonsense"}"#]).await?;
    let Came::Packet(refusal) = io.came().await? else { anyhow::bail!("not refused") };
    ensure!(refusal.starts_with(r#"44{"message":"Unauthorized: "#), "{refusal}");
    io.join(&json!({ "token": token("alice")? })).await?;
    io.send(&[event(Some(0), "message:send", &[message("m-1", "c", &["bob"])])]).await?;
    assert_eq!(io.expect("message:acked").await?.args[0]["messageId"], "m-1");
    ensure!(matches!(io.came().await?, Came::Ack(0, _)), "the acknowledgement follows the event");
    Ok(())
}

#[tokio::test]
async fn a_session_id_that_is_not_the_tokens_subject_is_forbidden() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let socket = nobody(&stock, &gateway, Transports::Websocket).await?;
    socket.emit("register_session", &[registration("bob", Some(&token("alice")?))])?;
    refused(&socket, "FORBIDDEN", "register_session").await?;
    socket.emit("presence:ping", &[json!({})])?;
    refused(&socket, "UNAUTHORIZED", "presence:ping").await?;
    let alice = connect(&stock, &gateway, "alice").await?;
    for (session, token) in [("bob", None), ("bob", Some(token("bob")?)), ("alice", Some(token("bob")?))] {
        alice.emit("register_session", &[registration(session, token.as_deref())])?;
        refused(&alice, "FORBIDDEN", "register_session").await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_claim_to_be_another_is_forbidden() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let alice = connect(&stock, &gateway, "alice").await?;
    let mut send = message("m-1", "c", &["bob"]);
    send["fromUserId"] = json!("bob");
    for (event, payload) in [
        ("message:send", send),
        ("presence:update", json!({ "sessionId": "bob", "isOnline": false })),
        ("presence:ping", json!({ "sessionId": "bob" })),
        ("typing", json!({ "conversationId": "c", "fromUserId": "bob", "isTyping": true })),
        ("receipt:read", receipt("m", "bob", "carol")),
        ("request_queued_events", json!({ "sessionId": "bob" })),
    ] {
        alice.emit(event, &[payload])?;
        refused(&alice, "FORBIDDEN", event).await?;
    }
    Ok(())
}

#[tokio::test]
async fn whoever_is_not_registered_within_the_connect_timeout_is_told_unauthorized_and_closed() -> Result<()>
{
    let gateway = Gateway::start(mount("connect_timeout_ms = 600")).await?;
    let mut alice = IoClient::open(&gateway.url(PATH)).await?;
    alice.join(&json!({})).await?;
    let registration = registration("alice", Some(&token("alice")?));
    alice.emit("register_session", &[registration]).await?;
    alice.expect("session_registered").await?;
    let mut socket = IoClient::open(&gateway.url(PATH)).await?;
    let opened = Instant::now();
    socket.join(&json!({})).await?;
    // An event is no excuse.
    socket.emit("presence:ping", &[json!({})]).await?;
    let (came, _) = socket.rest().await?;
    let took = opened.elapsed();
    let [Came::Event(Told { args: ping, .. }), Came::Event(Told { name, args: last })] = &came[..] else {
        anyhow::bail!("{came:?}")
    };
    ensure!(ping[0]["details"]["event"] == "presence:ping", "{came:?}");
    ensure!(name == "error" && last[0]["code"] == "UNAUTHORIZED", "never 41: {came:?}");
    ensure!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
    // Whoever has registered stays, though her time is over as well.
    alice.send(&[event(Some(0), "presence:ping", &[json!({})])]).await?;
    ensure!(matches!(alice.came().await?, Came::Ack(0, _)));
    Ok(())
}

#[tokio::test]
async fn an_unmodified_app_without_token_is_let_in_only_with_allow_unauthenticated_sessions() -> Result<()> {
    let (gateway, stock) =
        (Gateway::start(mount("allow_unauthenticated_sessions = true")).await?, Stock::start()?);
    let mut sockets = Vec::new();
    for user in ["alice", "bob"] {
        let socket = nobody(&stock, &gateway, Transports::Upgrade).await?;
        let register = json!({ "sessionId": user, "timestamp": "2025-08-19T22:00:00.123456" });
        socket.emit("register_session", &[register])?;
        assert_eq!(expect(&socket, "session_registered").await?["sessionId"], user);
        sockets.push(socket);
    }
    send(&sockets[0], &message("m-1", "c", &["bob"])).await?;
    until_heard(&sockets[1], "m-1").await?;
    // Who shows a token is still held to it.
    let socket = nobody(&stock, &gateway, Transports::Websocket).await?;
    socket.emit("register_session", &[registration("bob", Some(&token("alice")?))])?;
    refused(&socket, "FORBIDDEN", "register_session").await?;
    ensure!(gateway.log().contains("allow_unauthenticated_sessions"), "no warning: {}", gateway.log());
    Ok(())
}

#[tokio::test]
async fn a_token_that_ends_on_a_live_socket_is_told_unauthorized_and_ends_it_on_every_transport() -> Result<()>
{
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let mut sockets = Vec::new();
    for transports in Transports::ALL {
        let short = sign(&json!({ "sub": "alice", "exp": expiry(Duration::from_secs(1)) }), SECRET)?;
        let options = options(transports).auth(json!({ "token": short })).reconnection(false);
        sockets.push((stock.connect(gateway.address(), options)?, transports));
    }
    for (socket, transports) in sockets {
        socket.expect_connect().await?;
        let told = async {
            loop {
                match socket.next().await? {
                    Report::Event(event) if event.name == "error" => return Ok(event.args[0]["code"].clone()),
                    Report::Disconnect { reason } => {
                        bail!("{transports:?}: not told before its end: {reason}")
                    }
                    _ => {}
                }
            }
        };
        assert_eq!(told.await?, "UNAUTHORIZED");
        socket.expect_disconnect().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_fresh_token_in_register_session_keeps_a_live_socket() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let short = |secs| sign(&json!({ "sub": "alice", "exp": expiry(Duration::from_secs(secs)) }), SECRET);
    let options = || options(Transports::Websocket).reconnection(false);
    let alice = stock.connect(gateway.address(), options().auth(json!({ "token": short(1)? })))?;
    let other = stock.connect(gateway.address(), options().auth(json!({ "token": short(1)? })))?;
    alice.expect_connect().await?;
    alice.emit("register_session", &[registration("alice", Some(&token("alice")?))])?;
    expect(&alice, "session_registered").await?;
    other.expect_disconnect().await?;
    send(&alice, &message("m-1", "c", &["bob"])).await?;
    alice.assert_none("error").await?;
    Ok(())
}

#[tokio::test]
async fn more_connections_than_the_mount_allows_are_rate_limited_at_connect_and_at_registration() -> Result<()>
{
    let (gateway, stock) = (Gateway::start(mount("connections_per_user = 2")).await?, Stock::start()?);
    let _one = connect(&stock, &gateway, "alice").await?;
    let _two = connect(&stock, &gateway, "alice").await?;
    let third = options(Transports::Websocket).auth(json!({ "token": token("alice")? }));
    let refusal = stock.connect(gateway.address(), third)?.expect_refusal().await?;
    assert_eq!(refusal.data.context("no data")?["code"], "RATE_LIMITED");
    let late = nobody(&stock, &gateway, Transports::Websocket).await?;
    late.emit("register_session", &[registration("alice", Some(&token("alice")?))])?;
    refused(&late, "RATE_LIMITED", "register_session").await?;
    connect(&stock, &gateway, "bob").await?;
    Ok(())
}

#[tokio::test]
async fn the_open_packet_has_the_shipped_ping_settings() -> Result<()> {
    let gateway = gateway().await?;
    let open = IoClient::open(&gateway.url(PATH)).await?.handshake;
    has_only(&open, &["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"])?;
    assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&json!(25_000), &json!(20_000)));
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_is_not_mounted_is_invalid() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let elsewhere =
        stock.connect(gateway.address(), options(Transports::Websocket).namespace("/elsewhere"))?;
    assert_eq!(elsewhere.expect_connect_error().await?, "Invalid namespace");
    Ok(())
}

#[tokio::test]
async fn the_server_api_disconnects_every_device_with_a_disconnect_packet_on_every_transport() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let mut devices = Vec::new();
    for transports in Transports::ALL {
        devices.push((over(&stock, &gateway, "alice", transports).await?, transports));
    }
    let bob = connect(&stock, &gateway, "bob").await?;
    let call = json!({ "reason": "signed out", "reconnect": false });
    let (status, body) = gateway.api("POST", "/api/v1/users/alice/disconnect", Some(&call)).await?;
    ensure!(status == 202, "{status} {body}");
    for (device, transports) in &devices {
        assert_eq!(device.expect_disconnect().await?, "io server disconnect", "{transports:?}");
    }
    // Nobody else.
    send(&bob, &message("m-1", "c", &["alice"])).await?;
    Ok(())
}

#[tokio::test]
async fn a_session_with_a_token_at_connect_is_recovered_with_what_it_missed() -> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let bob = connect(&stock, &gateway, "bob").await?;
    let alice = stock.connect(
        gateway.address(),
        options(Transports::Websocket).auth(json!({ "token": token("alice")? })),
    )?;
    alice.expect_connect().await?;
    send(&bob, &message("m-1", "c", &["alice"])).await?;
    until(&alice, |name, p| name == "message:delivered" && p["messageId"] == "m-1").await?;
    alice.drop_transport()?;
    alice.expect_disconnect().await?;
    send(&bob, &message("m-2", "c", &[])).await?;
    ensure!(alice.expect_connect().await?.recovered, "recovered");
    send(&bob, &message("m-3", "c", &[])).await?;
    let heard = until_heard(&alice, "m-3").await?;
    assert_eq!(ids(&heard, "message:received"), ["m-2", "m-3"], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_registers_late_comes_back_by_itself_within_two_seconds_and_hears_what_waited()
-> Result<()> {
    let (gateway, stock) = (gateway().await?, Stock::start()?);
    let (alice, bob) = pair(&stock, &gateway).await?;
    bob.emit_ack("receipt:delivered", &[receipt("first", "bob", "alice")]).await?;
    bob.drop_transport()?;
    bob.expect_disconnect().await?;
    let lost = Instant::now();
    send(&alice, &message("m-1", "c", &[])).await?;
    ensure!(
        !bob.expect_connect().await?.recovered,
        "there is nothing to recover for whoever did not say who it is"
    );
    bob.emit("register_session", &[registration("bob", Some(&token("bob")?))])?;
    let heard = until_heard(&bob, "m-1").await?;
    ensure!(lost.elapsed() < Duration::from_secs(5), "{:?}", lost.elapsed());
    assert_eq!(heard[0].0, "session_registered", "{heard:?}");
    let received: Vec<&Value> =
        heard.iter().filter(|(n, _)| n == "message:received").map(|(_, p)| p).collect();
    ensure!(received.iter().all(|p| p["wasQueued"] == true && p["messageId"] != "first"), "{heard:?}");
    Ok(())
}
