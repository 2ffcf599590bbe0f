//! Tokens the gateway cannot judge by itself: signed with keys it fetches, or known to a session verifier.

use std::time::Duration;

use crate::remote::Remote;
use anyhow::{Context, Result, ensure};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parlance_tests::stock::Report;
use parlance_tests::token::expiry;
use parlance_tests::{ConnectOptions, Gateway, Options, Stock, Transports, Ws};
use serde_json::{Value, json};

/// The gateway asks for unknown keys at most every ten seconds.
const ROTATION: Duration = Duration::from_secs(20);

/// An issuer's key by the name of its file.
fn key(name: &str) -> Result<EncodingKey> {
    let path = format!("{}/keys/dev-only-rsa-{name}.pem", env!("CARGO_MANIFEST_DIR"));
    Ok(EncodingKey::from_rsa_pem(&std::fs::read(path)?)?)
}

pub fn jwk(name: &str) -> Result<Value> {
    let mut jwk = Jwk::from_encoding_key(&key(name)?, Algorithm::RS256)?;
    jwk.common.key_id = Some(name.to_owned());
    Ok(serde_json::to_value(jwk)?)
}

fn claims() -> Value {
    json!({ "sub": "alice", "exp": expiry(Duration::from_secs(3600)) })
}

pub fn rs256(name: &str, kid: &str) -> Result<String> {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::RS256) };
    Ok(encode(&header, &claims(), &key(name)?)?)
}

async fn gateway(variable: &str, url: &str) -> Result<Gateway> {
    Gateway::start(Options::brief().env(variable, url)).await
}

pub fn address(gateway: &Gateway, token: &str) -> String {
    let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
    gateway.url(&format!("/ws?token={token}"))
}

pub async fn refused(gateway: &Gateway, token: &str) -> Result<(u16, String)> {
    let refusal = Ws::refused(&address(gateway, token)).await?;
    Ok((refusal.status, refusal.json()?["error"].as_str().context("no error")?.to_owned()))
}

fn invalid() -> (u16, String) {
    (401, "invalid token".to_owned())
}

#[tokio::test]
async fn tokens_signed_with_a_fetched_key_are_good() -> Result<()> {
    let issuer = Remote::start(200, &json!({ "keys": [jwk("a")?] }).to_string()).await?;
    let gateway = gateway("PARLANCE_JWKS_URL", &issuer.url("/jwks")).await?;
    let good = rs256("a", "a")?;
    for shown in [good.clone(), format!("Bearer {good}")] {
        Ws::connect(&address(&gateway, &shown)).await.with_context(|| format!("{shown:.10}"))?;
    }
    assert_eq!(issuer.asked().len(), 1, "fetched once");
    let known = parlance_tests::token("bob")?;
    Ws::connect(&address(&gateway, &known)).await.context("the configured secret is good beside the set")?;

    let mut tampered = good.clone();
    tampered.replace_range(
        good.len() - 20..good.len() - 19,
        if good.as_bytes()[good.len() - 20] == b'A' { "B" } else { "A" },
    );
    for (why, token) in [
        ("a key that is not in the set", rs256("b", "b")?),
        ("another key under a known name", rs256("b", "a")?),
        ("an unknown name", rs256("a", "c")?),
        ("another algorithm than the key's", encode(&Header::new(Algorithm::RS512), &claims(), &key("a")?)?),
        ("a changed signature", tampered),
    ] {
        assert_eq!(refused(&gateway, &token).await?, invalid(), "{why}");
    }
    Ok(())
}

#[tokio::test]
async fn the_public_key_is_no_shared_secret() -> Result<()> {
    let set = json!({ "keys": [jwk("a")?] });
    let issuer = Remote::start(200, &set.to_string()).await?;
    let gateway = gateway("PARLANCE_JWKS_URL", &issuer.url("/jwks")).await?;
    Ws::connect(&address(&gateway, &rs256("a", "a")?)).await.context("the set was fetched")?;
    let jwk = &set["keys"][0];
    let modulus = jwk["n"].as_str().context("no modulus")?;
    for secret in [modulus.to_owned(), jwk.to_string(), set.to_string()] {
        for kid in [None, Some("a".to_owned())] {
            let header = Header { kid, ..Header::new(Algorithm::HS256) };
            let forged = encode(&header, &claims(), &EncodingKey::from_secret(secret.as_bytes()))?;
            assert_eq!(refused(&gateway, &forged).await?, invalid());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_new_key_is_fetched_and_a_withdrawn_one_is_no_longer_good() -> Result<()> {
    let issuer = Remote::start(200, &json!({ "keys": [jwk("a")?] }).to_string()).await?;
    let gateway = gateway("PARLANCE_JWKS_URL", &issuer.url("/jwks")).await?;
    let (old, new) = (rs256("a", "a")?, rs256("b", "b")?);
    Ws::connect(&address(&gateway, &old)).await?;
    issuer.answer(200, &json!({ "keys": [jwk("b")?] }).to_string());
    let rotated = async {
        while Ws::open(&address(&gateway, &new), &[]).await?.is_err() {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(ROTATION, rotated).await.context("the new key is never taken")??;
    assert_eq!(issuer.asked().len(), 2, "strange names do not hammer the issuer");
    assert_eq!(refused(&gateway, &old).await?, invalid());
    Ok(())
}

#[tokio::test]
async fn a_session_token_is_what_its_verifier_says() -> Result<()> {
    let verifier = Remote::start(200, r#"{"active":true,"sub":"alice","name":"Alice"}"#).await?;
    let gateway = gateway("PARLANCE_SESSION_URL", &verifier.url("/introspect")).await?;
    let body = json!({ "id": "room", "type": "group", "members": ["alice"] });
    ensure!(gateway.api("POST", "/api/v1/conversations", Some(&body)).await?.0 == 201);

    const GOOD: &str = "good-session.with-signature";
    let mut alice = Ws::connect(&address(&gateway, GOOD)).await?;
    alice.send(&json!({ "type": "message", "payload": { "conversation_id": "room", "content": "hi" }, "ack_id": "1" })).await?;
    assert_eq!(alice.expect("ack").await?["payload"]["status"], "success");
    let page = gateway.public("GET", "/v1/chats/room/messages", Some(GOOD)).await?.json()?;
    assert_eq!(page["messages"][0]["senderId"], "alice");
    let asked = verifier.asked();
    assert_eq!(asked.len(), 1, "one answer is good for a while, whoever asks");
    assert!(
        asked[0].starts_with("POST /introspect ") && asked[0].ends_with(&format!("token={GOOD}")),
        "{asked:?}"
    );

    verifier.answer(200, r#"{"active":false}"#);
    assert_eq!(refused(&gateway, "ended-session").await?, invalid());
    verifier.answer(500, "");
    let refusal = Ws::refused(&address(&gateway, "a-session-in-bad-times")).await?;
    assert_eq!((refusal.status, refusal.header("retry-after")), (503, Some("1")), "{refusal:?}");
    let refusal = gateway.public("GET", "/v1/chats/room/messages", Some("another")).await?;
    assert_eq!((refusal.status, &refusal.json()?["error"]), (503, &json!("INTERNAL")));
    Ws::connect(&address(&gateway, GOOD)).await.context("what is remembered is good during an outage")?;
    Ws::connect(&address(&gateway, &parlance_tests::token("alice")?))
        .await
        .context("JWTs need no verifier")?;
    let log = gateway.log();
    assert!(log.contains("session verifier") && !log.contains("session-in-bad-times"), "{log}");
    Ok(())
}

#[tokio::test]
async fn chatgenius_takes_a_fetched_key_with_bearer_before_the_token() -> Result<()> {
    let issuer = Remote::start(200, &json!({ "keys": [jwk("a")?] }).to_string()).await?;
    let gateway = gateway("PARLANCE_JWKS_URL", &issuer.url("/jwks")).await?;
    let stock = Stock::start()?;
    let open = |token: String| {
        let auth = json!({ "token": format!("Bearer {token}"), "userId": "alice" });
        let options = ConnectOptions::new(Transports::Websocket).path("/api/socket.io/").auth(auth);
        stock.connect(gateway.address(), options.reconnection(false))
    };
    let good = open(rs256("a", "a")?)?;
    assert_eq!(good.expect("connection:success").await?[0]["userId"], "alice");
    for token in [rs256("b", "a")?, rs256("b", "b")?] {
        let refused = open(token)?;
        assert_eq!(refused.expect("connection:error").await?[0]["reason"], "auth_error");
    }
    Ok(())
}

#[tokio::test]
async fn famly_takes_a_session_token() -> Result<()> {
    let verifier = Remote::start(200, r#"{"active":true,"sub":"alice"}"#).await?;
    let gateway = gateway("PARLANCE_SESSION_URL", &verifier.url("/introspect")).await?;
    let body = json!({ "id": "room", "type": "group", "members": ["alice"] });
    ensure!(gateway.api("POST", "/api/v1/conversations", Some(&body)).await?.0 == 201);
    let stock = Stock::start()?;
    let open = |token: &str| {
        let auth = json!({ "token": token });
        let options = ConnectOptions::new(Transports::Websocket).auth(auth);
        stock.connect(gateway.address(), options.reconnection(false))
    };
    let alice = open("a-session")?;
    alice.expect_connect().await?;
    let joined = alice.emit_ack("room:join", &[json!({ "chatId": "room" })]).await?;
    assert_eq!(joined[0]["ok"], true, "{joined:?}");
    let send = json!({ "chatId": "room", "body": "hi", "clientId": "00000000-0000-4000-8000-000000000001" });
    let sent = alice.emit_ack("message:send", &[send]).await?;
    assert_eq!(sent[0]["ok"], true, "{sent:?}");

    let live = alice.expect("message:new").await?;
    let history = gateway.public("GET", "/v1/chats/room/messages", Some("a-session")).await?.json()?;
    assert_eq!(history["messages"], json!([live[0]["message"]]), "the very object of the event");
    let spoken = "/api/v1/conversations/room/messages?dialect=famly";
    let spoken = gateway.public("GET", spoken, Some("a-session")).await?.json()?;
    assert_eq!(spoken["messages"], json!([live[0]]));
    let read = json!({ "chatId": "room", "messageId": live[0]["_id"] });
    assert_eq!(alice.emit_ack("receipt:read", &[read]).await?[0]["ok"], true);
    let cursors = gateway.public("GET", "/v1/chats/room/cursors", Some("a-session")).await?.json()?;
    assert_eq!(cursors["cursors"][0]["messageId"], live[0]["_id"]);

    verifier.answer(200, r#"{"active":false}"#);
    assert_eq!(open("an-ended-session")?.expect_connect_error().await?, "Authentication failed");
    Ok(())
}

/// A stock client that is refused gives up; one whose connection closes tries again by itself.
#[tokio::test]
async fn a_client_that_comes_while_its_token_cannot_be_verified_is_let_in_later() -> Result<()> {
    let verifier = Remote::start(503, "").await?;
    let gateway = gateway("PARLANCE_SESSION_URL", &verifier.url("/introspect")).await?;
    let stock = Stock::start()?;
    for path in ["/socket.io/", "/api/socket.io/", "/lingochat/socket.io/"] {
        verifier.answer(503, "");
        let auth = json!({ "token": format!("a-session-for-{}", path.len()) });
        let options = ConnectOptions::new(Transports::Websocket).path(path).auth(auth);
        let socket = stock.connect(gateway.address(), options)?;
        while !matches!(socket.next().await?, Report::ReconnectAttempt { attempt: 1 }) {}
        verifier.answer(200, r#"{"active":true,"sub":"alice"}"#);
        socket.expect_connect().await.context(path)?;
        let refused = |report: &Report| matches!(report, Report::ConnectError(_));
        ensure!(!socket.queued().await?.iter().any(refused), "{path}");
        socket.assert_none("connection:error").await?;
    }
    Ok(())
}
