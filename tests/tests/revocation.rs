//! Revoked tokens: refused by every node, and the connections that live on them closed, in each dialect's words.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::io::Came;
use parlance_tests::{Gateway, IoClient, Options, SECRET, Ws, token};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

/// From the call's answer to the last connection's end.
const PROMISED: Duration = Duration::from_secs(1);

async fn node(redis: &Server) -> Result<Gateway> {
    Gateway::start(Options::default().env("PARLANCE_REDIS_URL", &redis.url())).await
}

/// A token that was issued `age` seconds ago (or will be, when negative).
fn issued(user: &str, jti: &str, age: i64) -> Result<String> {
    let now = token::expiry(Duration::ZERO).cast_signed();
    let claims = json!({ "sub": user, "user_id": user, "jti": jti, "iat": now - age, "exp": now + 3600 });
    token::sign(&claims, SECRET)
}

async fn revoke(gateway: &Gateway, what: &Value) -> Result<Value> {
    gateway.call("POST", "/api/v1/tokens/revoke", Some(what)).await
}

async fn ws(gateway: &Gateway, path: &str, token: &str) -> Result<Ws> {
    Ws::connect(&gateway.url(&format!("{path}?token={token}"))).await
}

async fn io(gateway: &Gateway, path: &str, token: &str) -> Result<IoClient> {
    IoClient::connect(&gateway.url(path), &json!({ "token": token })).await
}

/// Whether a Socket.IO client is told to stay away: a stock client comes back by itself otherwise.
async fn sent_away(mut io: IoClient, until: Instant) -> Result<Vec<Came>> {
    let (came, _) = timeout_at(until, io.rest()).await.context("not closed in time")??;
    ensure!(came.contains(&Came::Packet("41".to_owned())), "{came:?}");
    Ok(came)
}

async fn refused(gateway: &Gateway, token: &str) -> Result<()> {
    let answer = Ws::refused(&gateway.url(&format!("/ws?token={token}"))).await?;
    ensure!(answer.status == 401 && answer.json()?["code"] == "INVALID_TOKEN", "{answer:?}");
    let answer = gateway.public("GET", "/v1/chats/room/messages", Some(token)).await?;
    ensure!(answer.status == 401, "{answer:?}");
    ensure!(io(gateway, "/socket.io/", token).await.is_err(), "famly lets it in");
    Ok(())
}

#[tokio::test]
async fn a_users_connections_end_everywhere_in_each_dialects_words() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis).await?, node(&redis).await?);
    a.conversation("room", &["alice", "bob"]).await?;
    let old = issued("alice", "j1", 60)?;
    let mut sechat = ws(&a, "/sechat", &old).await?;
    let mut socialhub = ws(&b, "/ws", &old).await?;
    let (famly, lingochat) =
        (io(&a, "/socket.io/", &old).await?, io(&b, "/lingochat/socket.io/", &old).await?);
    let chatgenius = io(&b, "/api/socket.io/", &old).await?;
    let (mut bob_a, mut bob_b) =
        (b.connect("/ws", "bob").await?, ws(&b, "/sechat", &issued("bob", "j2", 60)?).await?);
    let answer = revoke(&a, &json!({ "user": "alice" })).await?;
    ensure!(answer["user"] == "alice" && answer["before"].is_string(), "{answer}");
    let until = Instant::now() + PROMISED;
    let said = timeout_at(until, sechat.expect("error")).await??;
    ensure!(said["code"] == "UNAUTHORIZED", "{said}");
    ensure!(timeout_at(until, sechat.closed()).await?? == Some(1008));
    let said = timeout_at(until, socialhub.expect("error")).await??;
    ensure!(said["payload"]["code"] == "INVALID_TOKEN", "{said}");
    ensure!(timeout_at(until, socialhub.closed()).await?? == Some(1008));
    for io in [famly, lingochat, chatgenius] {
        sent_away(io, until).await?;
    }
    refused(&a, &old).await?;
    refused(&b, &old).await?;
    // Issued later: a user who logs in again.
    drop(ws(&b, "/ws", &issued("alice", "j3", -2)?).await?);
    bob_a.assert_silent(Duration::from_millis(100)).await?;
    bob_b.send(&json!({ "type": "heartbeat" })).await?;
    bob_b.next().await?;
    Ok(())
}

#[tokio::test]
async fn one_token_is_revoked_and_stays_so_over_a_restart() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, mut b) = (node(&redis).await?, node(&redis).await?);
    let (lost, kept) = (issued("alice", "lost", 60)?, issued("alice", "kept", 60)?);
    let (mut gone, mut stays) = (ws(&b, "/ws", &lost).await?, ws(&b, "/ws", &kept).await?);
    revoke(&a, &json!({ "jti": "lost" })).await?;
    ensure!(timeout_at(Instant::now() + PROMISED, gone.closed()).await?? == Some(1008));
    stays.assert_silent(Duration::from_millis(100)).await?;
    b.restart().await?;
    refused(&b, &lost).await?;
    drop(ws(&b, "/ws", &kept).await?);
    // Everybody's tokens of before.
    revoke(&b, &json!({ "before": token::expiry(Duration::ZERO) - 30 })).await?;
    refused(&a, &kept).await?;
    drop(ws(&a, "/ws", &issued("alice", "new", 0)?).await?);
    Ok(())
}

#[tokio::test]
async fn what_is_not_understood_is_refused() -> Result<()> {
    let gateway = Gateway::start(Options::brief()).await?;
    for wrong in [
        json!({}),
        json!({ "user": "a b" }),
        json!({ "jti": "" }),
        json!({ "user": "alice", "before": "yesterday" }),
        json!({ "user": "alice", "until": 1 }),
    ] {
        let (status, answer) = gateway.api("POST", "/api/v1/tokens/revoke", Some(&wrong)).await?;
        ensure!(status == 400 && answer["error"]["code"] == "INVALID_REQUEST", "{wrong}: {status} {answer}");
    }
    // The embedded engine revokes as well.
    let old = issued("alice", "j", 60)?;
    let mut alice = ws(&gateway, "/ws", &old).await?;
    revoke(&gateway, &json!({ "user": "alice", "before": "2100-01-01T00:00:00Z" })).await?;
    ensure!(timeout_at(Instant::now() + PROMISED, alice.closed()).await?? == Some(1008));
    refused(&gateway, &old).await
}
