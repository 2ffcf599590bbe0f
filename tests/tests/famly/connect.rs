//! famly: tokens, refusals, and connections the server ends.

use std::time::Duration;

use crate::support::{CHAT, World, as_user, heard, message, send};
use anyhow::{Context, Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{ConnectOptions, Options, SECRET, StockSocket, Transports, token};
use serde_json::{Value, json};

/// How a stock client sees a connection that the server closed without a word of Socket.IO: it comes back.
const CLOSED: &str = "transport close";
/// How it sees one that the server ended for good.
const ENDED: &str = "io server disconnect";

fn hour() -> u64 {
    expiry(Duration::from_secs(3600))
}

fn with_token(transports: Transports, token: Value) -> ConnectOptions {
    ConnectOptions::new(transports).auth(json!({ "token": token }))
}

/// Whom the server takes the socket for.
async fn identity(world: &World, socket: &StockSocket) -> Result<String> {
    socket.expect_connect().await?;
    let id = send(socket, &message("who am I")).await?;
    let (_, page) = world.backfill("carol", "c1/messages?limit=1").await?;
    let last = &page["messages"][0];
    ensure!(last["_id"] == id.as_str(), "{page}");
    Ok(last["senderId"].as_str().context("no sender")?.to_owned())
}

#[tokio::test]
async fn authentication_token_required() -> Result<()> {
    let world = World::shipped().await?;
    for transports in Transports::ALL {
        let without = [
            ConnectOptions::new(transports),
            ConnectOptions::new(transports).auth(json!({})),
            with_token(transports, json!("")),
            with_token(transports, json!(null)),
            with_token(transports, json!(7)),
            ConnectOptions::new(transports).query("token", ""),
            ConnectOptions::new(transports).header("authorization", "Basic YTpi"),
        ];
        for options in without {
            let refused = world.open(options)?.expect_refusal().await?;
            assert_eq!((refused.message.as_str(), refused.data), ("Authentication token required", None));
        }
    }
    Ok(())
}

#[tokio::test]
async fn authentication_failed() -> Result<()> {
    let world = World::shipped().await?;
    let good = json!({ "sub": "alice", "exp": hour() });
    let mut tampered = sign(&good, SECRET)?;
    tampered.insert(tampered.len() / 2, 'x');
    let bad = [
        ("expired", sign(&json!({ "sub": "alice", "exp": hour() - 3700 }), SECRET)?),
        ("of another secret", sign(&good, "another-secret-of-32-bytes-or-even-more")?),
        ("without exp", sign(&json!({ "sub": "alice" }), SECRET)?),
        ("without a user", sign(&json!({ "exp": hour() }), SECRET)?),
        ("not yet valid", sign(&json!({ "sub": "alice", "exp": hour(), "nbf": hour() - 60 }), SECRET)?),
        ("tampered with", tampered),
        ("no JWT", "a.b.c".to_owned()),
        ("a session token nobody can verify", "session".to_owned()),
    ];
    for (what, token) in bad {
        let shown = [
            with_token(Transports::Websocket, json!(token)),
            with_token(Transports::Polling, json!(token)),
            ConnectOptions::new(Transports::Upgrade).query("token", &token),
            ConnectOptions::new(Transports::Polling).header("authorization", &format!("Bearer {token}")),
        ];
        for options in shown {
            let refused = world.open(options)?.expect_refusal().await.context(what)?;
            assert_eq!((refused.message.as_str(), refused.data), ("Authentication failed", None), "{what}");
        }
        ensure!(!world.gateway.log().contains(&token) || token == "session", "a token in the log ({what})");
    }
    Ok(())
}

#[tokio::test]
async fn the_token_may_be_in_auth_in_the_query_or_in_a_header() -> Result<()> {
    let world = World::shipped().await?;
    for transports in Transports::ALL {
        let options = || ConnectOptions::new(transports);
        let shown = [
            ("auth", with_token(transports, json!(token("alice")?)), "alice"),
            ("query", options().query("token", &token("alice")?), "alice"),
            ("header", options().header("authorization", &format!("Bearer {}", token("alice")?)), "alice"),
            (
                "auth before query",
                with_token(transports, json!(token("alice")?)).query("token", &token("bob")?),
                "alice",
            ),
        ];
        for (place, options, user) in shown {
            let socket = world.open(options)?;
            assert_eq!(identity(&world, &socket).await.context(place)?, user, "{place}");
            socket.disconnect()?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_user_is_the_first_claim_that_is_there_and_a_number_its_digits() -> Result<()> {
    let world = World::shipped().await?;
    world.chat("numbers", &["carol", "42"]).await?;
    for (claims, user) in [
        (json!({ "userId": "alice" }), "alice"),
        (json!({ "sub": "alice", "userId": "bob" }), "alice"),
        (json!({ "user_id": "bob" }), "bob"),
    ] {
        let mut claims = claims;
        claims["exp"] = json!(hour());
        let socket = world.open(with_token(Transports::Websocket, json!(sign(&claims, SECRET)?)))?;
        assert_eq!(identity(&world, &socket).await?, user);
        socket.disconnect()?;
    }
    let claims = json!({ "sub": 42, "exp": hour() });
    let socket = world.open(with_token(Transports::Websocket, json!(sign(&claims, SECRET)?)))?;
    socket.expect_connect().await?;
    send(&socket, &json!({ "chatId": "numbers", "body": "b", "clientId": "m" })).await?;
    let (_, page) = world.backfill("carol", "numbers/messages").await?;
    assert_eq!(page["messages"][0]["senderId"], "42");
    Ok(())
}

#[tokio::test]
async fn after_a_refusal_the_transport_stays_open_for_another_connect() -> Result<()> {
    let world = World::shipped().await?;
    let mut io = world.unconnected().await?;
    io.send(&["40"]).await?;
    assert_eq!(io.packet().await?, r#"44{"message":"Authentication token required"}"#);
    io.send(&[r#"40{"token":"a.b.c"}"#]).await?;
    assert_eq!(io.packet().await?, r#"44{"message":"Authentication failed"}"#);
    io.send(&[format!("40{}", json!({ "token": token("alice")? }))]).await?;
    ensure!(io.packet().await?.starts_with(r#"40{"sid":""#), "the third is let in");
    assert_eq!(io.ask("room:join", &[json!({ "chatId": CHAT })]).await?, [json!({ "ok": true })]);
    Ok(())
}

#[tokio::test]
async fn the_handshake_tells_the_documented_timings_and_payload() -> Result<()> {
    let world = World::shipped().await?;
    for (transport, upgrades) in [("polling", json!(["websocket"])), ("websocket", json!([]))] {
        let mut open = if transport == "websocket" {
            world.unconnected().await?.handshake
        } else {
            let path = "/socket.io/?EIO=4&transport=polling";
            let open = world.gateway.public("GET", path, None).await?.body;
            serde_json::from_str(open.strip_prefix('0').context("no open packet")?)?
        };
        let sid = open["sid"].take();
        ensure!(sid.as_str().is_some_and(|sid| sid.len() >= 20), "{sid}");
        let told = json!({
            "sid": null, "upgrades": upgrades, "pingInterval": 25_000, "pingTimeout": 60_000, "maxPayload": 1_000_000,
        });
        assert_eq!(open, told, "{transport}");
    }
    Ok(())
}

#[tokio::test]
async fn who_does_not_connect_to_the_namespace_in_time_is_closed() -> Result<()> {
    let world = World::mounted("connect_timeout_ms = 600").await?;
    let mut in_time = world.by_hand("alice").await?;
    for refused in [false, true] {
        let mut io = world.unconnected().await?;
        if refused {
            io.send(&["40"]).await?;
            ensure!(io.packet().await?.starts_with("44"), "refused");
        }
        io.closed().await?;
    }
    in_time.ask("presence:ping", &[json!({})]).await.context("who did lives on")?;
    Ok(())
}

#[tokio::test]
async fn a_token_that_expires_closes_the_connection() -> Result<()> {
    let world = World::shipped().await?;
    // The leeway of five seconds has nearly passed when it connects.
    let brief = sign(&json!({ "sub": "alice", "exp": expiry(Duration::ZERO) - 2 }), SECRET)?;
    let sockets = [Transports::Websocket, Transports::Polling]
        .map(|transports| world.open(with_token(transports, json!(brief))));
    let bob = world.user("bob").await?;
    for socket in sockets {
        let socket = socket?;
        socket.expect_connect().await?;
        assert_eq!(socket.expect_disconnect().await?, CLOSED);
        assert_eq!(socket.expect_connect_error().await?, "Authentication failed", "it comes back in vain");
    }
    bob.emit_ack("presence:ping", &[]).await.context("others live on")?;
    Ok(())
}

/// Two sockets of alice's, on the transport they stay on.
async fn two_of_alice(world: &World, transports: Transports) -> Result<[StockSocket; 2]> {
    let sockets = [world.open(as_user("alice", transports)?)?, world.open(as_user("alice", transports)?)?];
    for socket in &sockets {
        socket.expect_connect().await?;
        if transports == Transports::Upgrade {
            socket.expect_upgrade().await?;
        }
    }
    world.gateway.until_presence("alice", "devices", 2).await?;
    Ok(sockets)
}

async fn disconnected_for_good(transports: Transports) -> Result<()> {
    let world = World::shipped().await?;
    let bob = world.user("bob").await?;
    let sockets = two_of_alice(&world, transports).await?;
    world
        .gateway
        .call("POST", "/api/v1/users/alice/disconnect", Some(&json!({ "reconnect": false })))
        .await?;
    for socket in &sockets {
        assert_eq!(socket.expect_disconnect().await?, ENDED, "{transports:?}");
    }
    world.gateway.until_presence("alice", "devices", 0).await?;
    for socket in &sockets {
        assert_eq!(socket.queued().await?, [], "it does not come back by itself");
    }
    // Who asks to come back may.
    sockets[0].reconnect()?;
    sockets[0].expect_connect().await?;
    bob.emit_ack("presence:ping", &[]).await.context("others live on")?;
    Ok(())
}

#[tokio::test]
async fn a_disconnect_by_the_backend_is_for_good_over_websocket() -> Result<()> {
    disconnected_for_good(Transports::Websocket).await?;
    disconnected_for_good(Transports::Upgrade).await
}

#[tokio::test]
async fn a_disconnect_by_the_backend_is_for_good_over_polling() -> Result<()> {
    disconnected_for_good(Transports::Polling).await
}

#[tokio::test]
async fn a_disconnect_by_the_backend_that_allows_it_is_followed_by_a_reconnect() -> Result<()> {
    let world = World::shipped().await?;
    for transports in Transports::ALL {
        let sockets = two_of_alice(&world, transports).await?;
        let why = json!({ "reconnect": true, "reason": "moved" });
        world.gateway.call("POST", "/api/v1/users/alice/disconnect", Some(&why)).await?;
        for socket in &sockets {
            assert_eq!(socket.expect_disconnect().await?, CLOSED, "{transports:?}");
            socket.expect_connect().await?;
        }
        for socket in &sockets {
            socket.disconnect()?;
        }
        world.gateway.until_presence("alice", "devices", 0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_stops_closes_transports_so_that_clients_come_back() -> Result<()> {
    let mut world = World::start(Options::default()).await?;
    let mut sockets = Vec::new();
    for transports in [Transports::Websocket, Transports::Polling] {
        let socket = world.open(as_user("alice", transports)?)?;
        socket.expect_connect().await?;
        sockets.push(socket);
    }
    ensure!(world.gateway.sigterm().await?.success(), "a clean stop");
    for socket in &sockets {
        let reason = socket.expect_disconnect().await?;
        ensure!([CLOSED, "transport error"].contains(&reason.as_str()), "{reason}");
    }
    world.gateway.restart().await?;
    for socket in &sockets {
        socket.expect_connect().await?;
    }
    let bob = world.inside("bob").await?;
    send(&sockets[0], &message("again")).await?;
    assert_eq!(heard(&bob, "message:new").await?["clientId"], "again");
    Ok(())
}
