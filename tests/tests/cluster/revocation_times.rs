//! How soon a revocation, or a removal from a conversation, holds at the other nodes; and that none is missed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Faults, Proxy, Server};
use parlance_tests::gateway::until_status;
use parlance_tests::http::Request;
use parlance_tests::{Gateway, IoClient, Options, SECRET, Ws, token};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

/// From the call to the last connection's end, and to the last refusal.
const PROMISED: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

async fn node(redis: &str) -> Result<Gateway> {
    let mount = r#"{ name = "socialhub", path = "/ws", dialect = "socialhub", membership = "managed",
        messages = { limit = 0, window_ms = 1 }, polls = { limit = 0, window_ms = 1 } },"#;
    let io = |name: &str, path: &str| {
        format!(
            r#"{{ name = "{name}", path = "{path}", dialect = "{name}", framing = "socketio", membership = "managed",
               messages = {{ limit = 0, window_ms = 1 }} }},"#
        )
    };
    let sechat = r#"{ name = "sechat", path = "/sechat", dialect = "sechat", membership = "managed",
        messages = { limit = 0, window_ms = 1 } },"#;
    let famly = io("famly", "/socket.io/");
    let (lingochat, chatgenius) =
        (io("lingochat", "/lingochat/socket.io/"), io("chatgenius", "/api/socket.io/"));
    let mounts = format!("[{mount}{sechat}{famly}{lingochat}{chatgenius}]").replace('\n', " ");
    Gateway::start(Options::default().env("PARLANCE_REDIS_URL", redis).env("PARLANCE_MOUNTS", &mounts)).await
}

fn issued(user: &str, jti: &str, age: u64) -> Result<String> {
    let now = token::expiry(Duration::ZERO);
    let claims = json!({ "sub": user, "user_id": user, "jti": jti, "iat": now - age, "exp": now + 3600 });
    token::sign(&claims, SECRET)
}

async fn revoke(gateway: &Gateway, what: &Value) -> Result<Value> {
    gateway.call("POST", "/api/v1/tokens/revoke", Some(what)).await
}

/// A user's connections at a node in every dialect, and a poll that waits.
struct Devices {
    raw: Vec<Ws>,
    io: Vec<IoClient>,
    poll: tokio::task::JoinHandle<Result<u16>>,
}

impl Devices {
    async fn connect(gateway: &Gateway, user: &str, token: &str) -> Result<Self> {
        let mut devices = Self { raw: Vec::new(), io: Vec::new(), poll: poll(gateway, user, token) };
        for path in ["/sechat", "/ws"] {
            devices.raw.push(Ws::connect(&gateway.url(&format!("{path}?token={token}"))).await?);
        }
        for path in ["/socket.io/", "/lingochat/socket.io/", "/api/socket.io/"] {
            let auth = json!({ "token": token });
            devices.io.push(IoClient::connect(&gateway.url(path), &auth).await?);
        }
        Ok(devices)
    }

    async fn ended(self, until: Instant) -> Result<()> {
        for mut raw in self.raw {
            ensure!(timeout_at(until, raw.closed()).await.context("a raw socket lives on")?? == Some(1008));
        }
        for mut io in self.io {
            timeout_at(until, io.rest()).await.context("a Socket.IO client lives on")??;
        }
        let answer = timeout_at(until, self.poll).await.context("a poll waits on")???;
        ensure!(answer == 401, "{answer}");
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a poll of the test's, which is awaited")]
fn poll(gateway: &Gateway, user: &str, token: &str) -> tokio::task::JoinHandle<Result<u16>> {
    let (address, token) = (gateway.address().to_owned(), token.to_owned());
    let path = format!("/api/v1/realtime/poll?user_id={user}&timeout=9&last_poll_id=0");
    tokio::spawn(async move {
        let request =
            Request { address: &address, method: "GET", path: &path, bearer: Some(&token), body: None };
        Ok(request.send().await?.status)
    })
}

async fn is_refused(gateway: &Gateway, user: &str, token: &str) -> Result<()> {
    let polls = format!("/api/v1/realtime/poll?user_id={user}&timeout=0");
    for path in ["/api/v1/conversations/room/messages", "/v1/chats/room/cursors", &polls] {
        let answer = gateway.public("GET", path, Some(token)).await?;
        ensure!(answer.status == 401, "{path}: {answer:?}");
    }
    let answer = Ws::refused(&gateway.url(&format!("/ws?token={token}"))).await?;
    ensure!(answer.status == 401, "{answer:?}");
    let auth = json!({ "token": token });
    ensure!(IoClient::connect(&gateway.url("/socket.io/"), &auth).await.is_err(), "famly lets it in");
    Ok(())
}

#[tokio::test]
async fn every_kind_of_revocation_ends_everything_at_another_node_within_a_second() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis.url()).await?, node(&redis.url()).await?);
    a.conversation("room", &["user", "bob"]).await?;
    let mut worst = [Duration::ZERO; 3];
    for round in 0..ROUNDS {
        for (kind, worst) in worst.iter_mut().enumerate() {
            // What is revoked for everybody goes on holding: each round's tokens are younger than the last one's.
            let (user, jti, age) =
                (format!("u{round}-{kind}"), format!("j{round}-{kind}"), 60 - round as u64 * 2);
            let token = issued(&user, &jti, age)?;
            let devices = Devices::connect(&b, &user, &token).await?;
            b.until_presence(&user, "status", "online").await?;
            let what = match kind {
                0 => json!({ "user": user }),
                1 => json!({ "jti": jti }),
                _ => json!({ "before": token::expiry(Duration::ZERO) - age }),
            };
            let called = Instant::now();
            revoke(&a, &what).await?;
            devices.ended(called + PROMISED).await.with_context(|| what.to_string())?;
            *worst = (*worst).max(called.elapsed());
            is_refused(&b, &user, &token).await.with_context(|| what.to_string())?;
            is_refused(&a, &user, &token).await.with_context(|| what.to_string())?;
        }
    }
    println!("slowest of {ROUNDS} rounds: user {:?}, jti {:?}, before {:?}", worst[0], worst[1], worst[2]);
    Ok(())
}

#[tokio::test]
async fn a_node_that_was_cut_off_learns_what_it_missed_before_it_lets_anybody_in() -> Result<()> {
    let redis = Server::standalone().await?;
    let way = Proxy::start(redis.port(), 1).await?;
    let (a, b) = (node(&redis.url()).await?, node(&way.url()).await?);
    let tokens =
        [issued("alice", "j-alice", 50)?, issued("bob", "j-bob", 50)?, issued("carol", "j-carol", 100)?];
    let mut alive = Ws::connect(&b.url(&format!("/ws?token={}", tokens[0]))).await?;
    way.set(Faults { blackhole: true, ..Faults::default() });
    way.cut_all();
    revoke(&a, &json!({ "user": "alice" })).await?;
    revoke(&a, &json!({ "jti": "j-bob" })).await?;
    revoke(&a, &json!({ "before": token::expiry(Duration::ZERO) - 80 })).await?;
    until_status(&b, "/readyz", 503).await?;
    way.heal();
    let until = Instant::now() + Duration::from_secs(20);
    for token in [&tokens[2], &tokens[0], &tokens[1]] {
        // Refused for the moment, as nothing can be found out, then for good; never let in between.
        while let 503 = Ws::refused(&b.url(&format!("/ws?token={token}"))).await.context("let in")?.status {
            ensure!(Instant::now() < until, "it does not come back");
            tokio::task::yield_now().await;
        }
        ensure!(Ws::refused(&b.url(&format!("/ws?token={token}"))).await?.status == 401);
    }
    ensure!(timeout_at(until, alive.closed()).await?? == Some(1008), "who was there goes as well");
    let late = node(&redis.url()).await?;
    for (token, user) in tokens.iter().zip(["alice", "bob", "carol"]) {
        is_refused(&late, user, token).await?;
    }
    Ok(())
}

#[tokio::test]
async fn revocations_survive_a_restart_of_a_node_without_redis() -> Result<()> {
    let mut gateway = Gateway::start(Options::default()).await?;
    let tokens = [issued("alice", "a", 50)?, issued("bob", "b", 50)?, issued("carol", "c", 100)?];
    let good = issued("dave", "d", 50)?;
    revoke(&gateway, &json!({ "user": "alice" })).await?;
    revoke(&gateway, &json!({ "jti": "b" })).await?;
    revoke(&gateway, &json!({ "before": token::expiry(Duration::ZERO) - 80 })).await?;
    gateway.restart().await?;
    for (token, user) in tokens.iter().zip(["alice", "bob", "carol"]) {
        is_refused(&gateway, user, token).await?;
    }
    drop(Ws::connect(&gateway.url(&format!("/ws?token={good}"))).await?);
    Ok(())
}

/// What a client of each dialect hears of a conversation.
async fn hears(devices: &mut Devices, text: &str, until: Instant) -> Result<bool> {
    let mut heard = false;
    for raw in &mut devices.raw {
        while let Ok(line) = timeout_at(until, raw.line()).await {
            heard |= line?.contains(text);
        }
    }
    for io in &mut devices.io {
        while let Ok(packet) = timeout_at(until, io.packet()).await {
            heard |= packet?.contains(text);
        }
    }
    Ok(heard)
}

#[tokio::test]
async fn a_removed_member_hears_nothing_at_another_node_after_a_second() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis.url()).await?, node(&redis.url()).await?);
    a.conversation("room", &["alice", "bob"]).await?;
    let mut alice = Devices::connect(&b, "alice", &issued("alice", "j", 10)?).await?;
    let channel =
        json!({ "type": "subscribe", "payload": { "channel": "conversation:room" }, "ack_id": "s" });
    alice.raw[1].send(&channel).await?;
    alice.raw[1].expect("ack").await?;
    alice.io[0].ask("room:join", &[json!({ "chatId": "room" })]).await?;
    let say = async |text: &str| {
        let body = json!({ "senderId": "bob", "body": text });
        a.call("POST", "/api/v1/conversations/room/messages", Some(&body)).await
    };
    say("before").await?;
    ensure!(alice.raw[0].expect("message:received").await?["body"] == "before");
    let removed = Instant::now();
    a.call("PATCH", "/api/v1/conversations/room", Some(&json!({ "removeMembers": ["alice"] }))).await?;
    while removed.elapsed() < PROMISED {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    say("after").await?;
    ensure!(!hears(&mut alice, "after", Instant::now() + PROMISED).await?);
    Ok(())
}

#[tokio::test]
async fn a_node_that_hears_no_signals_ends_them_all_the_same() -> Result<()> {
    let redis = Server::standalone().await?;
    let (a, b) = (node(&redis.url()).await?, node(&redis.url()).await?);
    let token = issued("alice", "j", 50)?;
    let mut alice = Ws::connect(&b.url(&format!("/ws?token={token}"))).await?;
    // Publications arrive no more, and commands do.
    redis.command(&["ACL", "SETUSER", "default", "-ssubscribe", "-subscribe"]).await?;
    redis.command(&["CLIENT", "KILL", "TYPE", "PUBSUB"]).await?;
    let called = Instant::now();
    revoke(&a, &json!({ "jti": "j" })).await?;
    ensure!(timeout_at(called + PROMISED, alice.closed()).await.context("it lives on")?? == Some(1008));
    is_refused(&b, "alice", &token).await
}
