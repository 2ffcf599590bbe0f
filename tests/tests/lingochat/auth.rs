//! Who is let in, as whom, and what others are told (2.1, 3.4.1).

use std::time::Duration;

use crate::support::{PATH, World, bearer, claims, fresh_id, heard_nothing, join, options, refused, send};
use anyhow::{Context, Result, ensure};
use parlance_tests::io::Told;
use parlance_tests::token::{expiry, sign};
use parlance_tests::{ConnectOptions, SECRET, StockSocket, Transports, token};
use serde_json::{Value, json};

const REQUIRED: &str = "Authentication token required";
const INVALID: &str = "Invalid or expired token";
const EXPIRED: &str = "Token expired";
const NOBODY: &str = "Invalid token: missing user identification";

async fn refusal(world: &World, options: ConnectOptions) -> Result<String> {
    let refused = world.open(options)?.expect_refusal().await?;
    ensure!(refused.data.is_none() && refused.status.is_none(), "{refused:?}");
    Ok(refused.message)
}

/// A token that ended so long ago.
fn ended(before: Duration) -> Result<String> {
    sign(&json!({ "sub": "alice", "exp": expiry(Duration::ZERO) - before.as_secs() }), SECRET)
}

/// Who the bearer of a token is to others.
async fn sender(world: &World, socket: &StockSocket) -> Result<Value> {
    join(socket, &json!("room")).await?;
    let id = send(socket, "room", &fresh_id(), "who am I?").await?;
    let came = socket.expect("message:new").await?;
    ensure!(came[0]["id"] == id, "{came:?}");
    world.gateway.api("DELETE", "/api/v1/conversations/room", None).await?;
    Ok(came[0]["senderId"].clone())
}

#[tokio::test]
async fn r2_1_1_a_connection_without_a_token_is_refused() -> Result<()> {
    let world = World::start().await?;
    for transports in Transports::ALL {
        let bare = ConnectOptions::new(transports).path(PATH);
        assert_eq!(refusal(&world, bare).await?, REQUIRED, "{transports:?}");
    }
    for auth in [json!({}), json!({ "token": "" }), json!({ "token": "  " }), json!({ "token": null })] {
        let options = ConnectOptions::new(Transports::Websocket).path(PATH).auth(auth.clone());
        assert_eq!(refusal(&world, options).await?, REQUIRED, "{auth}");
    }
    // No packet of the dialect is carried out before CONNECT.
    let mut io = world.unconnected().await?;
    io.send(&[r#"42["conversation:join","room"]"#]).await?;
    io.closed().await?;
    Ok(())
}

#[tokio::test]
async fn r2_1_2_invalid_and_expired_tokens_are_refused() -> Result<()> {
    let world = World::start().await?;
    let good = token("alice")?;
    let mut tampered = good.clone();
    let at = good.rfind('.').context("no signature")? + 3;
    tampered.replace_range(at..=at, if &good[at..=at] == "A" { "B" } else { "A" });
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.";
    let endless = sign(&json!({ "sub": "alice" }), SECRET)?;
    let early = claims(json!({ "sub": "alice", "nbf": expiry(Duration::from_secs(60)) }))?;
    for (why, token, message) in [
        ("no token at all", "nonsense".to_owned(), INVALID),
        ("a changed signature", tampered, INVALID),
        (
            "another secret",
            sign(&json!({ "sub": "alice", "exp": 4_102_444_800_u64 }), &"x".repeat(40))?,
            INVALID,
        ),
        ("no signature", unsigned.to_owned(), INVALID),
        ("no end", endless, INVALID),
        ("not valid yet", early, INVALID),
        ("ended a minute ago", ended(Duration::from_secs(60))?, EXPIRED),
    ] {
        assert_eq!(refusal(&world, bearer(&token, Transports::Websocket)).await?, message, "{why}");
        ensure!(!world.gateway.log().contains(&token) || token == "nonsense", "{why}: a token in the log");
    }
    for transports in Transports::ALL {
        let old = bearer(&ended(Duration::from_secs(60))?, transports);
        assert_eq!(refusal(&world, old).await?, EXPIRED, "{transports:?}");
    }
    Ok(())
}

#[tokio::test]
async fn r2_1_2_a_refused_client_may_try_again_over_the_same_connection() -> Result<()> {
    let world = World::start().await?;
    let mut io = world.unconnected().await?;
    io.send(&[r#"40{"token":"nonsense"}"#]).await?;
    assert_eq!(io.packet().await?, format!("44{}", json!({ "message": INVALID })));
    io.send(&["40"]).await?;
    assert_eq!(io.packet().await?, format!("44{}", json!({ "message": REQUIRED })));
    io.send(&[format!("40{}", json!({ "token": token("alice")? }))]).await?;
    ensure!(io.packet().await?.starts_with("40{"), "the good token is good");
    Ok(())
}

#[tokio::test]
async fn r2_1_3_the_first_present_claim_names_the_user() -> Result<()> {
    let world = World::unlimited().await?;
    let members = ["42", "open-1", "alice", "-7", "0", "9007199254740992", "9007199254740993", "007"];
    for (given, expected) in [
        (json!({ "userId": 42, "openId": "open-1", "sub": "alice" }), json!(42)),
        (json!({ "userId": "42" }), json!(42)),
        (json!({ "userId": "alice", "openId": "open-1" }), json!("alice")),
        (json!({ "openId": "open-1", "sub": "alice", "user_id": "42" }), json!("open-1")),
        (json!({ "userId": null, "openId": "open-1" }), json!("open-1")),
        (json!({ "sub": "alice", "user_id": "42" }), json!("alice")),
        (json!({ "userId": 0, "sub": "alice" }), json!(0)),
        (json!({ "userId": -7 }), json!("-7")),
        (json!({ "userId": 9_007_199_254_740_992_u64 }), json!(9_007_199_254_740_992_u64)),
        (json!({ "userId": 9_007_199_254_740_993_u64 }), json!("9007199254740993")),
        (json!({ "userId": "007" }), json!("007")),
    ] {
        world.room("room", &members).await?;
        let socket = world.open(bearer(&claims(given.clone())?, Transports::Websocket))?;
        socket.expect_connect().await.with_context(|| given.to_string())?;
        let who = sender(&world, &socket).await.with_context(|| given.to_string())?;
        assert_eq!(who, expected, "{given}");
    }
    Ok(())
}

#[tokio::test]
async fn r2_1_3_a_token_that_names_nobody_is_refused() -> Result<()> {
    let world = World::start().await?;
    for given in [
        json!({}),
        json!({ "user_id": "alice", "email": "alice@example.com" }),
        json!({ "userId": null, "openId": null, "sub": null }),
        // The first claim that is there counts, also when it is no name.
        json!({ "userId": "", "sub": "alice" }),
        json!({ "userId": {}, "openId": "alice" }),
        json!({ "userId": 1.5, "sub": "alice" }),
        json!({ "userId": true, "sub": "alice" }),
    ] {
        let token = claims(given.clone())?;
        assert_eq!(refusal(&world, bearer(&token, Transports::Websocket)).await?, NOBODY, "{given}");
    }
    Ok(())
}

#[tokio::test]
async fn r2_1_3_what_a_client_says_of_itself_is_not_believed() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    let forged = json!({
        "text": "I am bob", "senderId": "bob", "sender_id": "bob", "userId": "bob", "id": 1, "createdAt": "1999-01-01T00:00:00Z",
    });
    alice.emit("message:send", &[json!("room"), forged])?;
    let came = bob.expect("message:new").await?;
    assert_eq!(came[0]["senderId"], "alice");
    assert!(came[0]["id"].as_u64() > Some(1) && came[0]["createdAt"].as_str() > Some("2024"), "{came:?}");
    alice.emit("typing:start", &[json!("room"), json!("bob")])?;
    assert_eq!(bob.expect("typing:start").await?[0], "alice");
    Ok(())
}

#[tokio::test]
async fn r2_1_4_the_token_may_come_in_every_place_of_the_handshake() -> Result<()> {
    let world = World::start().await?;
    let good = token("alice")?;
    for transports in Transports::ALL {
        let plain = || ConnectOptions::new(transports).path(PATH);
        for (place, options) in [
            ("auth", plain().auth(json!({ "token": good }))),
            ("auth with its scheme", plain().auth(json!({ "token": format!("Bearer {good}") }))),
            ("the query", plain().query("token", &good)),
            ("a header", plain().header("Authorization", &format!("Bearer {good}"))),
            ("auth before the query", plain().auth(json!({ "token": good })).query("token", "nonsense")),
        ] {
            let socket = world.open(options)?;
            socket.expect_connect().await.with_context(|| format!("{place} {transports:?}"))?;
        }
        for (place, options) in [
            ("the query", plain().query("token", "nonsense")),
            ("a header", plain().header("Authorization", "Bearer nonsense")),
            ("auth before the query", plain().auth(json!({ "token": "nonsense" })).query("token", &good)),
        ] {
            assert_eq!(refusal(&world, options).await?, INVALID, "{place} {transports:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn r2_1_2_a_token_that_ends_ends_the_connection() -> Result<()> {
    let world = World::start().await?;
    world.room("room", &["alice", "bob"]).await?;
    let bob = world.joined("bob", "room").await?;
    // Clocks may differ by five seconds: two are left of this one.
    let alice = world.open(bearer(&ended(Duration::from_secs(3))?, Transports::Websocket))?;
    alice.expect_connect().await?;
    join(&alice, &json!("room")).await?;
    send(&alice, "room", "c-1", "while it is good").await?;
    assert_eq!(bob.expect("user:online").await?[0], "alice");
    let reason = alice.expect_disconnect().await?;
    assert!(["transport close", "transport error"].contains(&reason.as_str()), "it may come back: {reason}");
    assert_eq!(alice.expect("error").await?[0], EXPIRED);
    assert_eq!(alice.expect_connect_error().await?, EXPIRED, "with the same token it may not");
    assert_eq!(bob.expect("user:offline").await?[0], "alice");
    Ok(())
}

#[tokio::test]
async fn r2_1_2_a_revoked_session_does_not_come_back_with_a_foreign_token() -> Result<()> {
    let world = World::start().await?;
    let (alice, bob) = world.pair("room").await?;
    send(&alice, "room", "c-1", "one").await?;
    let mut io = world.by_hand("alice").await?;
    let connected = io.joined.clone();
    io.emit("conversation:join", &[json!("room")]).await?;
    assert_eq!(io.next().await?.name, "user:online");
    send(&bob, "room", "c-2", "for alice").await?;
    let Told { name, args } = io.next().await?;
    assert_eq!((name.as_str(), &args[0]["text"]), ("message:new", &json!("for alice")));
    drop(io);
    send(&bob, "room", "c-3", "missed by alice").await?;
    // mallory knows alice's session, and is not even told that there was one.
    for who in ["mallory", "bob"] {
        let mut thief = world.unconnected().await?;
        let auth = json!({ "token": token(who)?, "pid": connected["pid"], "offset": args[1] });
        thief.send(&[format!("40{auth}")]).await?;
        let answer = thief.packet().await?;
        assert!(
            answer.starts_with("40{") && !answer.contains(connected["pid"].as_str().unwrap_or("-")),
            "{answer}"
        );
        thief.send(&[r#"421["typing:stop","room"]"#]).await?;
        let next = thief.packet().await?;
        assert!(!next.contains("missed by alice"), "{next}");
    }
    let mut own = world.unconnected().await?;
    let auth = json!({ "token": token("alice")?, "pid": connected["pid"], "offset": args[1] });
    own.send(&[format!("40{auth}")]).await?;
    assert_eq!(own.next().await?.args[0]["text"], "missed by alice");
    let again = own.packet().await?;
    assert_eq!(serde_json::from_str::<Value>(&again[2..])?["pid"], connected["pid"], "{again}");
    Ok(())
}

#[tokio::test]
async fn r3_4_1_no_stranger_learns_anything() -> Result<()> {
    let world = World::start().await?;
    let (alice, _bob) = world.pair("room").await?;
    let mallory = world.open(options("mallory", Transports::Websocket)?)?;
    mallory.expect_connect().await?;
    let sentence = "not a member of this conversation";
    for room in ["room", "no-such-room"] {
        refused(&mallory, "conversation:join", &[json!(room)], sentence).await?;
        refused(&mallory, "messages:sync", &[json!(room), Value::Null], sentence).await?;
    }
    let id = send(&alice, "room", "c-1", "a secret").await?;
    refused(&mallory, "message:read", &[json!(id)], "no such message").await?;
    refused(&mallory, "message:read", &[json!(1_u64 << 40)], "no such message").await?;
    heard_nothing(&world, &alice, ("mallory", &mallory)).await
}
