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
/// For what nothing is promised of, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let (mut a, mut b) = (node(&redis).await?, node(&redis).await?);
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
    refused(&b, &kept).await?;
    soon_refused(&a, &kept).await?;
    drop(ws(&a, "/ws", &issued("alice", "new", 0)?).await?);
    a.restart().await?;
    refused(&a, &kept).await
}

/// What stands for everybody is held by each node, which has to hear of it.
async fn soon_refused(gateway: &Gateway, token: &str) -> Result<()> {
    let asked = async {
        while gateway.public("GET", "/v1/chats/room/messages", Some(token)).await?.status != 401 {
            tokio::task::yield_now().await;
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout_at(Instant::now() + PROMISED, asked).await.context("not refused in time")??;
    refused(gateway, token).await
}

#[tokio::test]
async fn revocations_of_one_token_at_once_on_two_nodes_all_stand() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis).await?, node(&redis).await?);
    for round in 0..10 {
        let jti = format!("j{round}");
        // One key: what stands must cover both users' tokens with it.
        let of = |user: &str| json!({ "user": user, "jti": jti });
        let (alices, bobs) = (of("alice"), of("bob"));
        tokio::try_join!(revoke(&a, &alices), revoke(&b, &bobs))?;
        refused(&a, &issued("alice", &jti, 60)?).await?;
        refused(&a, &issued("bob", &jti, 60)?).await?;
    }
    Ok(())
}

/// The keys of the log of orders, and what they are copied to.
async fn copied(redis: &Server) -> Result<Vec<(String, String)>> {
    let keys = redis.command(&["KEYS", "*~orders*"]).await?;
    ensure!(!keys.trim().is_empty(), "the log of orders has no keys");
    Ok(keys.lines().map(|key| (key.to_owned(), format!("copy:{key}"))).collect())
}

#[tokio::test]
async fn after_a_lost_tail_old_orders_are_left_alone_and_new_ones_carried_out() -> Result<()> {
    let redis = Server::standalone().await?;
    let gateway = node(&redis).await?;
    let stays_out = json!({ "reconnect": false });
    let disconnect = async |user: &str| {
        gateway.call("POST", &format!("/api/v1/users/{user}/disconnect"), Some(&stays_out)).await
    };
    for user in ["alice", "bob"] {
        let mut before = gateway.connect("/ws", user).await?;
        disconnect(user).await?;
        ensure!(before.closed().await? == Some(1008));
    }
    let keys = copied(&redis).await?;
    for (key, copy) in &keys {
        redis.command(&["COPY", key, copy]).await?;
    }
    let mut lost = gateway.connect("/ws", "carol").await?;
    disconnect("carol").await?;
    ensure!(lost.closed().await? == Some(1008));
    let (mut alice, mut carol) =
        (gateway.connect("/ws", "alice").await?, gateway.connect("/ws", "carol").await?);
    let (mut dave, mut erin) = (gateway.connect("/ws", "dave").await?, gateway.connect("/ws", "erin").await?);
    // As a failover does that loses the last order; as many new ones come as were lost.
    for (key, copy) in &keys {
        redis.command(&["COPY", copy, key, "REPLACE"]).await?;
    }
    disconnect("dave").await?;
    let closed = timeout_at(Instant::now() + Duration::from_secs(5), dave.closed()).await;
    ensure!(closed.context("dave's order was skipped")?? == Some(1008));
    // And it is lost with none after it: the next look finds a shorter log.
    for (key, copy) in &keys {
        redis.command(&["COPY", copy, key, "REPLACE"]).await?;
    }
    for untouched in [&mut alice, &mut carol, &mut erin] {
        untouched.assert_silent(Duration::from_secs(3)).await?;
    }
    disconnect("erin").await?;
    let closed = timeout_at(Instant::now() + Duration::from_secs(5), erin.closed()).await;
    ensure!(closed.context("erin's order was skipped")?? == Some(1008));
    alice.assert_silent(Duration::from_millis(100)).await
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

#[tokio::test]
async fn what_stands_for_everybody_holds_where_its_key_cannot_be_read() -> Result<()> {
    let redis = Server::standalone().await?;
    let gateway = node(&redis).await?;
    revoke(&gateway, &json!({ "before": token::expiry(Duration::ZERO) - 30 })).await?;
    let key = redis.command(&["KEYS", "*revoked:all*"]).await?;
    // Of another type: whoever reads it gets an error, as from a shard that is away. In one step: whoever read
    // between two would find that nothing stands.
    let script = "redis.call('DEL', KEYS[1]) redis.call('LPUSH', KEYS[1], 'x')";
    redis.command(&["EVAL", script, "1", key.trim()]).await?;
    // Until the node holds it itself, half a second at most, nobody is let in.
    let new = issued("alice", "new", 0)?;
    let come = async {
        while ws(&gateway, "/ws", &new).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout_at(Instant::now() + PATIENCE, come).await.context("nobody is let in any more")?;
    refused(&gateway, &issued("alice", "old", 60)?).await
}
