//! Tokens of connections that live: their end, and new ones for old without a reconnect.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::io::Came;
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, IoClient, Options, SECRET, Ws};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// A token is taken for so long after its end, for clocks that differ.
const LEEWAY: f64 = 5.0;

/// Seconds since 1970, with their fraction: a token may end between two seconds.
#[expect(clippy::disallowed_methods, reason = "a test is outside the gateway and has no clock of its")]
fn now() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// A token that a connection can live on for so many seconds from now.
fn lasting(user: &str, jti: &str, seconds: f64) -> Result<String> {
    let now = now();
    let claims = json!({
        "sub": user, "user_id": user, "userId": user, "jti": jti, "iat": now, "exp": now + seconds - LEEWAY,
    });
    sign(&claims, SECRET)
}

/// The shipped mounts of all dialects that have a word for it, which tell of a token's end half a second ahead.
const WARNING: &str = r#"[
    { name = "sechat", path = "/sechat", dialect = "sechat" },
    { name = "sechat-io", path = "/sechat/socket.io/", dialect = "sechat", framing = "socketio" },
    { name = "lingochat", path = "/lingochat/socket.io/", dialect = "lingochat", framing = "socketio" },
    { name = "chatgenius", path = "/api/socket.io/", dialect = "chatgenius", framing = "socketio" },
    { name = "socialhub", path = "/ws", dialect = "socialhub" },
]"#;

fn warning() -> Options {
    let policy = r#"membership = "open", messages = { limit = 0, window_ms = 1 }, on_expiry = "warn",
        expiry_warning_ms = 500 },"#;
    Options::brief()
        .env("PARLANCE_MOUNTS", &WARNING.replace(" },", &format!(", {policy}")).replace('\n', " "))
}

async fn ws(gateway: &Gateway, path: &str, token: &str) -> Result<Ws> {
    Ws::connect(&gateway.url(&format!("{path}?token={token}"))).await
}

async fn io(gateway: &Gateway, path: &str, token: &str) -> Result<IoClient> {
    IoClient::connect(&gateway.url(path), &json!({ "token": token })).await
}

/// What is said of the token until the connection ends, and how many seconds after `begun`.
async fn said_by_ws(mut ws: Ws, begun: Instant) -> Result<Vec<(Value, f64)>> {
    let mut said = Vec::new();
    while let Some(line) = ws.line_or_end().await? {
        let frame: Value = serde_json::from_str(&line)?;
        if frame["type"] == "error" {
            said.push((frame, begun.elapsed().as_secs_f64()));
        }
    }
    ensure!(ws.closed().await? == Some(1008));
    said.push((Value::Null, begun.elapsed().as_secs_f64()));
    Ok(said)
}

async fn said_by_io(mut io: IoClient, begun: Instant) -> Result<Vec<(Value, f64)>> {
    let mut said = Vec::new();
    loop {
        match io.came().await? {
            Came::Event(told) if told.name.ends_with("error") => {
                said.push((json!([told.name, told.args[0]]), begun.elapsed().as_secs_f64()));
            }
            Came::Packet(packet) => ensure!(packet != "41", "a stock client would not come back"),
            Came::End(_) => break,
            _ => {}
        }
    }
    said.push((Value::Null, begun.elapsed().as_secs_f64()));
    Ok(said)
}

/// Told half a second before `exp`, again at its end with the leeway, and closed then.
fn is_warned(said: &[(Value, f64)], words: [&str; 2]) -> Result<()> {
    let [(ahead, first), (end, second), (_, closed)] = said else { anyhow::bail!("{said:?}") };
    ensure!(ahead.to_string().contains(words[0]) && end.to_string().contains(words[1]), "{said:?}");
    ensure!((0.5..2.5).contains(first) && (6.0..8.0).contains(second) && closed - second < 0.5, "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_is_warned_in_its_dialects_words_and_closed_at_the_end() -> Result<()> {
    let gateway = Gateway::start(warning()).await?;
    // `exp` is 1.2 s away, its leeway's end 6.2 s.
    let token = lasting("alice", "j", 1.2 + LEEWAY)?;
    let begun = Instant::now();
    let (sechat, socialhub, sechat_io, lingochat, chatgenius) = tokio::try_join!(
        async { said_by_ws(ws(&gateway, "/sechat", &token).await?, begun).await },
        async { said_by_ws(ws(&gateway, "/ws", &token).await?, begun).await },
        async { said_by_io(io(&gateway, "/sechat/socket.io/", &token).await?, begun).await },
        async { said_by_io(io(&gateway, "/lingochat/socket.io/", &token).await?, begun).await },
        async { said_by_io(io(&gateway, "/api/socket.io/", &token).await?, begun).await },
    )?;
    for said in [&sechat, &sechat_io] {
        is_warned(said, ["Token expires in", "token expired"]).context("sechat")?;
        ensure!(said[0].0.to_string().contains(r#""code":"UNAUTHORIZED""#), "{said:?}");
        ensure!(said[0].0.to_string().contains(r#""field":"exp""#), "{said:?}");
    }
    is_warned(&socialhub, ["Token expires in", "token expired"]).context("socialhub")?;
    ensure!(socialhub[0].0["payload"]["code"] == "TOKEN_EXPIRED", "{socialhub:?}");
    ensure!(socialhub[0].0["payload"]["details"]["field"] == "exp", "{socialhub:?}");
    is_warned(&lingochat, [r#"["error","Token expires in 0 s"]"#, r#"["error","Token expired"]"#])?;
    is_warned(&chatgenius, ["Token expires in", "Token expired"]).context("chatgenius")?;
    ensure!(chatgenius[0].0[1]["reason"] == "auth_error", "{chatgenius:?}");
    Ok(())
}

#[tokio::test]
async fn a_warning_needs_a_word_for_it() -> Result<()> {
    let famly = r#"[{ name = "famly", path = "/socket.io/", dialect = "famly", framing = "socketio",
        membership = "open", messages = { limit = 0, window_ms = 1 }, on_expiry = "warn" }]"#;
    let options = Options::brief().env("PARLANCE_MOUNTS", &famly.replace('\n', " "));
    let refused = Gateway::start(options).await.err().context("it starts")?;
    ensure!(format!("{refused:#}").contains("on_expiry: famly has no word"), "{refused:#}");
    Ok(())
}

/// Presents a token on a live connection; the answer.
async fn present(ws: &mut Ws, path: &str, user: &str, token: &str) -> Result<Value> {
    if path == "/ws" {
        ws.send(&json!({ "type": "connect", "payload": { "token": token }, "ack_id": "refresh" })).await?;
        return Ok(ws.expect("ack").await?["payload"].clone());
    }
    ws.send(&json!({ "type": "register_session", "sessionId": user, "token": token })).await?;
    loop {
        let frame = ws.next().await?;
        if frame["type"] == "session_registered" || frame["type"] == "error" {
            return Ok(frame);
        }
    }
}

fn accepted(answer: &Value) -> bool {
    answer["status"] == "success"
}

/// A message that is on its way while a token is presented.
fn message(path: &str, number: usize) -> Value {
    let (id, text) = (format!("m-{path}-{number}"), format!("text {number}"));
    match path {
        "/ws" => json!({ "type": "message", "ack_id": id, "payload": {
            "conversation_id": "room", "content": text } }),
        _ => json!({ "type": "message:send", "messageId": id, "conversationId": "room", "body": text }),
    }
}

#[tokio::test]
async fn ten_tokens_follow_each_other_on_one_connection_with_messages_on_their_way() -> Result<()> {
    let gateway = Gateway::start(Options::brief()).await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    let refreshed = async |path: &str| {
        let mut alice = ws(&gateway, path, &lasting("alice", "j0", 1.5)?).await?;
        for number in 1..=10 {
            // Some come in the last moment, when `exp` is over and only its leeway is left.
            sleep(Duration::from_millis(400)).await;
            let token = lasting("alice", &format!("j{number}"), 1.5)?;
            alice.send(&message(path, number)).await?;
            let answer = if path == "/ws" {
                let ack = alice.expect("ack").await?;
                ensure!(ack["payload"]["status"] == "success", "{ack}");
                present(&mut alice, path, "alice", &token).await?
            } else {
                present(&mut alice, path, "alice", &token).await?
            };
            ensure!(accepted(&answer), "{path} {number}: {answer}");
        }
        // The last one's end ends it.
        let last = Instant::now();
        ensure!(alice.closed().await? == Some(1008));
        ensure!((1.0..3.0).contains(&last.elapsed().as_secs_f64()), "{:?}", last.elapsed());
        Ok(())
    };
    let socketio = async {
        let mut alice = io(&gateway, "/sechat/socket.io/", &lasting("alice", "j0", 1.5)?).await?;
        for number in 1..=10 {
            sleep(Duration::from_millis(400)).await;
            let token = lasting("alice", &format!("j{number}"), 1.5)?;
            let answer =
                alice.ask("register_session", &[json!({ "sessionId": "alice", "token": token })]).await?;
            ensure!(accepted(&answer[0]), "{answer:?}");
        }
        Ok(())
    };
    tokio::try_join!(refreshed("/sechat"), refreshed("/ws"), socketio)?;
    let kept = gateway.read("alice", "/api/v1/conversations/room/messages").await?;
    ensure!(kept["messages"].as_array().is_some_and(|all| all.len() == 20), "{kept}");
    Ok(())
}

#[tokio::test]
async fn a_bad_token_is_refused_and_the_good_one_stays() -> Result<()> {
    let gateway = Gateway::start(Options::brief()).await?;
    let revoke =
        async |jti: &str| gateway.call("POST", "/api/v1/tokens/revoke", Some(&json!({ "jti": jti }))).await;
    for (path, code) in [
        ("/sechat", ["FORBIDDEN", "UNAUTHORIZED", "UNAUTHORIZED", "UNAUTHORIZED"]),
        ("/ws", ["INVALID_TOKEN", "TOKEN_EXPIRED", "INVALID_TOKEN", "INVALID_TOKEN"]),
    ] {
        let name = |jti: &str| format!("{jti}-{}", &path[1..]);
        let mut alice = ws(&gateway, path, &lasting("alice", &name("first"), 60.0)?).await?;
        revoke(&name("revoked")).await?;
        let bad = [
            lasting("bob", "j", 60.0)?,
            lasting("alice", "j", -1.0)?,
            lasting("alice", &name("revoked"), 60.0)?,
            sign(
                &json!({ "sub": "alice", "user_id": "alice", "exp": now() + 60.0 }),
                "another-secret-of-32-bytes-or-more!",
            )?,
        ];
        for (token, code) in bad.iter().zip(code) {
            let answer = present(&mut alice, path, "alice", token).await?;
            let told = if path == "/ws" { &answer["error"]["code"] } else { &answer["code"] };
            ensure!(told == code, "{path}: {answer}");
        }
        // It is alice still, and what she lives on is the first token, then the second.
        let answer = present(&mut alice, path, "alice", &lasting("alice", &name("second"), 60.0)?).await?;
        ensure!(accepted(&answer) && answer.to_string().contains("alice"), "{answer}");
        revoke(&name("first")).await?;
        alice
            .assert_silent(Duration::from_millis(300))
            .await
            .context("the first token is not hers any more")?;
        revoke(&name("second")).await?;
        ensure!(alice.closed().await? == Some(1008));
    }
    Ok(())
}

#[tokio::test]
async fn subscriptions_follow_to_the_new_token() -> Result<()> {
    let gateway = Gateway::start(Options::brief()).await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    let (old, new) = (lasting("alice", "old", 60.0)?, lasting("alice", "new", 60.0)?);
    let mut alice = ws(&gateway, "/ws", &old).await?;
    let channel =
        json!({ "type": "subscribe", "payload": { "channel": "conversation:room" }, "ack_id": "s" });
    alice.send(&channel).await?;
    ensure!(accepted(&alice.expect("ack").await?["payload"]));
    ensure!(accepted(&present(&mut alice, "/ws", "alice", &new).await?));
    // Cut off, not said goodbye.
    drop(alice);
    gateway.until_gone("alice").await?;
    let body = json!({ "senderId": "bob", "body": "meanwhile" });
    gateway.call("POST", "/api/v1/conversations/room/messages", Some(&body)).await?;
    let mut alice = ws(&gateway, "/ws", &new).await?;
    let told = alice.expect("message").await?;
    ensure!(told["payload"]["content"] == "meanwhile", "{told}");
    Ok(())
}

#[tokio::test]
async fn a_waiting_poll_ends_with_its_token() -> Result<()> {
    let gateway = Gateway::start(Options::brief()).await?;
    let token = sign(&json!({ "user_id": "alice", "sub": "alice", "exp": now() + 1.5 }), SECRET)?;
    let begun = Instant::now();
    let path = "/api/v1/realtime/poll?user_id=alice&timeout=8&last_poll_id=0";
    let answer = gateway.public("GET", path, Some(&token)).await?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!((1.0..3.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    let old =
        sign(&json!({ "user_id": "alice", "sub": "alice", "exp": expiry(Duration::ZERO) - 10 }), SECRET)?;
    let answer = gateway.public("GET", path, Some(&old)).await?;
    ensure!(answer.status == 401 && answer.json()?["code"] == "TOKEN_EXPIRED", "{answer:?}");
    Ok(())
}
