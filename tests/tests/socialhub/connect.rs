//! SocialHub: opening a connection, keeping it, and how it ends.

use std::time::Duration;

use crate::support::{Client, gateway, until_devices};
use anyhow::{Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, Response, SECRET, Ws, token};
use serde_json::json;

/// The connections one user may have.
const CONNECTIONS: usize = 10;

async fn refusal(gateway: &Gateway, query: &str) -> Result<Response> {
    Ws::refused(&gateway.url(&format!("/ws{query}"))).await
}

#[tokio::test]
async fn a_handshake_without_token_is_refused_with_401_missing_token() -> Result<()> {
    let gateway = gateway().await?;
    for query in ["", "?token=", "?other=x"] {
        let answer = refusal(&gateway, query).await?;
        assert_eq!(answer.status, 401, "{query}");
        assert_eq!(answer.json()?, json!({ "error": "missing token", "code": "MISSING_TOKEN" }), "{query}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    Ok(())
}

#[tokio::test]
async fn a_handshake_with_a_token_of_no_worth_is_refused_with_401_invalid_token() -> Result<()> {
    let gateway = gateway().await?;
    let good = token("alice")?;
    let exp = expiry(Duration::from_secs(60));
    let foreign =
        sign(&json!({ "user_id": "alice", "exp": exp }), "another-secret-of-32-bytes-or-even-more")?;
    let nobody = sign(&json!({ "exp": exp }), SECRET)?;
    let endless = sign(&json!({ "user_id": "alice" }), SECRET)?;
    // `{"alg":"none"}` and the claims of a good token, without a signature.
    let claims = good.split('.').nth(1).unwrap_or_default();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{claims}.");
    for bad in ["nonsense", "a.b.c", &foreign, &nobody, &endless, &unsigned, &good[..good.len() - 4]] {
        let answer = refusal(&gateway, &format!("?token={bad}")).await?;
        assert_eq!(answer.status, 401, "{bad}");
        assert_eq!(answer.json()?, json!({ "error": "invalid token", "code": "INVALID_TOKEN" }), "{bad}");
    }
    Ok(())
}

#[tokio::test]
async fn a_handshake_with_an_old_token_is_refused_with_401_token_expired() -> Result<()> {
    let gateway = gateway().await?;
    let old = sign(&json!({ "user_id": "alice", "exp": expiry(Duration::ZERO) - 120 }), SECRET)?;
    let answer = refusal(&gateway, &format!("?token={old}")).await?;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()?, json!({ "error": "token expired", "code": "TOKEN_EXPIRED" }));
    Ok(())
}

#[tokio::test]
async fn the_user_is_the_token_s_user_id_also_from_the_authorization_header() -> Result<()> {
    let gateway = gateway().await?;
    let claims = json!({ "user_id": "alice", "sub": "someone-else", "exp": expiry(Duration::from_secs(60)) });
    let bearer = format!("Bearer {}", sign(&claims, SECRET)?);
    let opened = Ws::open(&gateway.url("/ws"), &[("authorization", &bearer)]).await?;
    let Ok(_socket) = opened else { anyhow::bail!("refused") };
    until_devices(&gateway, "alice", 1).await?;
    until_devices(&gateway, "someone-else", 0).await
}

#[tokio::test]
async fn nothing_is_said_on_connecting() -> Result<()> {
    let gateway = gateway().await?;
    Client::connect(&gateway, "alice").await?.heard_nothing(&gateway).await
}

#[tokio::test]
async fn the_eleventh_connection_of_a_user_is_refused_until_another_ends() -> Result<()> {
    let gateway = gateway().await?;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(Client::connect(&gateway, "alice").await?);
    }
    let eleventh = refusal(&gateway, &format!("?token={}", token("alice")?)).await?;
    assert_eq!(eleventh.status, 429);
    assert_eq!(eleventh.json()?["code"], "MAX_CONNECTIONS");
    assert!(eleventh.json()?["error"].is_string());
    // The refused one took nothing from the others, nor from other users.
    open[0].accepted(json!({ "type": "heartbeat", "payload": {} })).await?;
    Client::connect(&gateway, "bob").await?;

    open.pop().unwrap().ws.close(1000).await?;
    until_devices(&gateway, "alice", 9).await?;
    Client::connect(&gateway, "alice").await?.accepted(json!({ "type": "connect", "payload": {} })).await?;
    Ok(())
}

#[tokio::test]
async fn a_heartbeat_is_echoed_and_acknowledged_when_asked() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.tell("heartbeat", json!({ "timestamp": "2024-03-01T12:00:00Z" })).await?;
    let echo = alice.hear("heartbeat").await?;
    assert!(echo["payload"]["timestamp"].is_string(), "{echo}");
    assert!(echo["id"].is_string() && echo["timestamp"].is_string(), "{echo}");
    alice.heard_nothing(&gateway).await?;

    let data = alice.accepted(json!({ "type": "heartbeat", "payload": {} })).await?;
    assert!(data["timestamp"].is_string(), "{data}");
    alice.hear("heartbeat").await?;
    Ok(())
}

#[tokio::test]
async fn connect_is_acknowledged_with_the_user() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    assert_eq!(alice.accepted(json!({ "type": "connect", "payload": {} })).await?["user_id"], "alice");
    let named = json!({ "type": "connect", "payload": { "user_id": "alice" } });
    assert_eq!(alice.accepted(named).await?["user_id"], "alice");
    Ok(())
}

#[tokio::test]
async fn connect_with_another_s_or_a_bad_token_is_refused_and_the_connection_stays_its_user_s() -> Result<()>
{
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let with = |token: &str| json!({ "type": "connect", "payload": { "token": token } });
    alice.refused(with(&token("bob")?)).await?;
    assert_eq!(alice.refused(with("nonsense")).await?["code"], "INVALID_TOKEN");
    let old = sign(&json!({ "user_id": "alice", "exp": expiry(Duration::ZERO) - 120 }), SECRET)?;
    assert_eq!(alice.refused(with(&old)).await?["code"], "TOKEN_EXPIRED");
    alice.refused(json!({ "type": "connect", "payload": { "user_id": "bob" } })).await?;
    assert_eq!(alice.accepted(json!({ "type": "connect" })).await?["user_id"], "alice");
    Ok(())
}

#[tokio::test]
async fn a_token_that_ends_on_a_live_connection_is_told_and_closes_it_with_1008() -> Result<()> {
    let gateway = gateway().await?;
    let brief = sign(&json!({ "user_id": "alice", "exp": expiry(Duration::from_secs(3)) }), SECRET)?;
    let mut alice = Client::with_token(&gateway, "alice", brief).await?;
    let error = alice.ws.next().await?;
    assert_eq!((&error["type"], &error["payload"]["code"]), (&json!("error"), &json!("TOKEN_EXPIRED")));
    assert_eq!(alice.ws.closed().await?, Some(1008));
    until_devices(&gateway, "alice", 0).await
}

#[tokio::test]
async fn a_fresh_token_extends_a_live_connection() -> Result<()> {
    let gateway = gateway().await?;
    let brief = sign(&json!({ "user_id": "alice", "exp": expiry(Duration::from_secs(3)) }), SECRET)?;
    // Another connection with the same brief token shows when that one ends.
    let mut alice = Client::with_token(&gateway, "alice", brief).await?;
    let mut other = alice.again(&gateway).await?;
    alice.accepted(json!({ "type": "connect", "payload": { "token": token("alice")? } })).await?;
    assert_eq!(other.ws.closed().await?, Some(1008));
    alice.heard_nothing(&gateway).await
}

#[tokio::test]
async fn a_disconnect_frame_closes_the_connection() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.tell("disconnect", json!({ "reason": "client_initiated" })).await?;
    assert_eq!(alice.ws.closed().await?, Some(1000));
    until_devices(&gateway, "alice", 0).await
}

#[tokio::test]
async fn sigterm_closes_with_1012_and_the_node_exits_with_0() -> Result<()> {
    let mut gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    let mut bob = Client::connect(&gateway, "bob").await?;
    alice.accepted(json!({ "type": "heartbeat", "payload": {} })).await?;
    let (ended, alice_closed, bob_closed) =
        tokio::join!(gateway.sigterm(), alice.ws.closed(), bob.ws.closed());
    assert_eq!((alice_closed?, bob_closed?), (Some(1012), Some(1012)));
    let ended = ended?;
    ensure!(ended.code() == Some(0), "{ended}");
    Ok(())
}
