//! Who asks, in all wrong forms: tokens, keys, passes, origins.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parlance_tests::token::{expiry, sign};
use parlance_tests::{API_KEY, SECRET};
use serde_json::json;

use super::calls::{CALLS, Call, Side, Who};
use super::stage::{Setting, Stage, expect};

/// Something that stands where a token stands, put together from parts.
fn forged(header: &str, claims: &str, signature: &str) -> String {
    let coded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", coded(header), coded(claims), coded(signature))
}

/// Tokens that let nobody in.
fn bad_tokens() -> Result<Vec<(&'static str, String)>> {
    let soon = expiry(Duration::from_secs(3600));
    let good = sign(&json!({ "sub": "alice", "exp": soon }), SECRET)?;
    let (rest, signature) = good.rsplit_once('.').context("no token")?;
    let claims = format!(r#"{{"sub":"alice","exp":{soon}}}"#);
    let of = |claims: &serde_json::Value| sign(claims, SECRET);
    Ok(vec![
        ("no token at all", "x".to_owned()),
        ("two parts", rest.to_owned()),
        ("four parts", format!("{good}.x")),
        ("no signature", format!("{rest}.")),
        ("another signature", format!("{rest}.{}", signature.chars().rev().collect::<String>())),
        (
            "another secret",
            sign(&json!({ "sub": "alice", "exp": soon }), "another-secret-of-32-bytes-or-more")?,
        ),
        ("algorithm none", forged(r#"{"alg":"none"}"#, &claims, "")),
        ("algorithm None", forged(r#"{"alg":"None"}"#, &claims, "x")),
        ("algorithm RS256", forged(r#"{"alg":"RS256","typ":"JWT"}"#, &claims, "x")),
        ("no algorithm", forged("{}", &claims, "x")),
        ("a key of its own", forged(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"eA"}}"#, &claims, "x")),
        ("a key from elsewhere", forged(r#"{"alg":"HS256","jku":"http://127.0.0.1:1/"}"#, &claims, "x")),
        ("a key by path", forged(r#"{"alg":"HS256","kid":"../../dev/null"}"#, &claims, "")),
        ("no JSON", forged("x", "y", "z")),
        ("no base64", "a%b.c%d.e%f".to_owned()),
        ("deep JSON", forged(r#"{"alg":"HS256"}"#, &"[".repeat(2_000), "x")),
        ("no expiry", of(&json!({ "sub": "alice" }))?),
        ("expired", of(&json!({ "sub": "alice", "exp": 1_000_000 }))?),
        ("an expiry of text", of(&json!({ "sub": "alice", "exp": "never" }))?),
        ("an expiry of nothing", of(&json!({ "sub": "alice", "exp": null }))?),
        ("an expiry below zero", of(&json!({ "sub": "alice", "exp": -1 }))?),
        ("not yet", of(&json!({ "sub": "alice", "exp": soon, "nbf": soon }))?),
        ("nobody", of(&json!({ "exp": soon }))?),
        ("an empty name", of(&json!({ "sub": "", "exp": soon }))?),
        ("a name with a space", of(&json!({ "sub": "al ice", "exp": soon }))?),
        ("a name with a slash", of(&json!({ "sub": "../alice", "exp": soon }))?),
        ("a name that is too long", of(&json!({ "sub": "a".repeat(129), "exp": soon }))?),
        ("a name that is a list", of(&json!({ "sub": ["alice"], "exp": soon }))?),
        ("a name that is a fraction", of(&json!({ "sub": 1.5, "exp": soon }))?),
        ("a very long token", "x".repeat(6_000)),
    ])
}

fn of_users() -> impl Iterator<Item = &'static Call> {
    CALLS.iter().filter(|call| call.who == Who::Alice)
}

#[tokio::test]
async fn tokens_in_all_wrong_forms_are_refused_everywhere() -> Result<()> {
    let stage = Stage::plain().await?;
    for (name, token) in bad_tokens()? {
        for call in of_users() {
            let stranger = Call { who: Who::Anybody, ..*call };
            let body = call.body.unwrap_or_default();
            let about = format!("Authorization: Bearer {token}\r\nContent-Length: {}\r\n", body.len());
            let about =
                if call.body.is_some() { about } else { format!("Authorization: Bearer {token}\r\n") };
            let asked = stage.head(&stranger, &about) + body;
            let answer = stage.ask(Side::Public, asked).await.with_context(|| name.to_owned())?;
            expect(&answer, 401).with_context(|| format!("{name} at {}", call.target))?;
            let challenge = answer.header("www-authenticate") == Some("Bearer");
            ensure!(challenge, "{name} at {}: {answer:?}", call.target);
            ensure!(!answer.body.contains(&token), "{name}: the token comes back");
        }
        // In the query it is no better.
        let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
        for (target, socket) in [("/ws", true), ("/sechat", true), ("/v1/chats/c1/messages", false)] {
            let target = format!("{target}?token={token}");
            let upgrade = if socket { super::stage::UPGRADE } else { "" };
            let asked = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n");
            expect(&stage.ask(Side::Public, asked).await?, 401)
                .with_context(|| format!("{name} in {target}"))?;
        }
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn headers_that_carry_no_token_are_none() -> Result<()> {
    let stage = Stage::plain().await?;
    let good = stage.credentials(Who::Alice);
    let token = good.trim().rsplit_once(' ').context("no token")?.1.to_owned();
    for header in [
        String::new(),
        "Authorization:\r\n".to_owned(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: Bearer{token}\r\n"),
        format!("Authorization: Bearer \"{token}\"\r\n"),
        format!("Authorization: Bearer {token},{token}\r\n"),
        format!("Authorization: Bearer {token} x\r\n"),
        format!("X-Authorization: Bearer {token}\r\n"),
        format!("Proxy-Authorization: Bearer {token}\r\n"),
        format!("Cookie: token={token}\r\n"),
        "Authorization: Bearer \u{e9}\r\n".to_owned(),
        // The first one is the one that counts, as everywhere.
        format!("Authorization: Bearer x\r\nAuthorization: Bearer {token}\r\n"),
    ] {
        for call in of_users() {
            let stranger = Call { who: Who::Anybody, ..*call };
            let body = call.body.unwrap_or_default();
            let length =
                if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            let asked = stage.head(&stranger, &format!("{header}{length}")) + body;
            let answer = stage.ask(Side::Public, asked).await?;
            expect(&answer, 401).with_context(|| format!("{header:?} at {}", call.target))?;
        }
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn the_internal_listener_lets_in_keys_and_nodes_only() -> Result<()> {
    let stage = Stage::plain().await?;
    let alice = stage.credentials(Who::Alice);
    let long = "x".repeat(7_000);
    for header in [
        String::new(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: Bearer {}\r\n", API_KEY.to_uppercase()),
        format!("Authorization: Bearer {API_KEY}x\r\n"),
        format!("Authorization: Bearer {}\r\n", API_KEY.get(1..).unwrap_or_default()),
        format!("Authorization: Bearer {API_KEY},{API_KEY}\r\n"),
        format!("Authorization: {API_KEY}\r\n"),
        format!("Authorization: Basic {API_KEY}\r\n"),
        format!("X-Api-Key: {API_KEY}\r\n"),
        format!("Authorization: Bearer {long}\r\n"),
        "Authorization: Bearer \u{e9}\r\n".to_owned(),
        format!("Parlance-Pass: {API_KEY}\r\nParlance-Client: 127.0.0.1\r\n"),
        "Parlance-Pass: \r\n".to_owned(),
        alice,
    ] {
        for call in
            CALLS.iter().filter(|call| call.side == Side::Internal && matches!(call.who, Who::Backend))
        {
            let stranger = Call { who: Who::Anybody, ..*call };
            let answer = stage.ask(Side::Internal, stage.head(&stranger, &header)).await?;
            expect(&answer, 401).with_context(|| format!("{header:?} at {}", call.target))?;
        }
        for call in CALLS.iter().filter(|call| call.target.starts_with("/internal/")) {
            let answer = stage.ask(Side::Internal, stage.head(call, &header)).await?;
            expect(&answer, 401).with_context(|| format!("{header:?} at {}", call.target))?;
        }
        // A key in the query is in every proxy's log: it opens nothing.
        let asked =
            format!("GET /api/v1/nodes?token={API_KEY}&api_key={API_KEY} HTTP/1.1\r\nHost: x\r\n\r\n");
        expect(&stage.ask(Side::Internal, asked).await?, 401)?;
    }
    stage.left_as_before().await
}

#[tokio::test]
async fn origins_that_only_look_right_are_refused_everywhere() -> Result<()> {
    let stage =
        Stage::start(&Setting { top: "origins = [\"https://app.example\"]", ..Setting::default() }).await?;
    for origin in [
        "Origin: https://app.example.evil.example",
        "Origin: https://evilapp.example",
        "Origin: https://app.example@evil.example",
        "Origin: https://app.example:444",
        "Origin: http://app.example",
        "Origin: https://app.example/x",
        "Origin: https://app.example https://evil.example",
        "Origin: https://app.example, https://evil.example",
        "Origin: https://app.example\r\nOrigin: https://evil.example",
        "Origin: https://evil.example\r\nOrigin: https://app.example",
        "Origin: https://app.example.",
        "Origin: https://app.example%60.evil.example",
        "Origin: null",
        "Origin: ",
        "Origin: *",
        "Origin: file://",
        "Origin: data:text/html,x",
        "Origin: x",
        "Origin: http://x.evil",
        "Origin: http://x:1",
        "Origin: http://x@y",
        "Origin: \u{e9}",
    ] {
        for call in CALLS.iter().filter(|call| call.side == Side::Public) {
            let name = || format!("{origin:?} at {} {}", call.method, call.target);
            let answer = stage.ask(Side::Public, stage.head(call, &format!("{origin}\r\n"))).await?;
            ensure!(answer.status == 403, "{}: {answer:?}", name());
            ensure!(answer.header("access-control-allow-origin").is_none(), "{}: {answer:?}", name());
            ensure!(answer.header("access-control-allow-methods").is_none(), "{}: {answer:?}", name());
        }
    }
    for call in CALLS.iter().filter(|call| call.side == Side::Public && call.body.is_none()) {
        // Answers and refusals alike can be read by the page that is let in.
        let answer = stage.ask(Side::Public, stage.head(call, "Origin: https://app.example\r\n")).await?;
        let allowed = answer.header("access-control-allow-origin");
        let right = answer.status == call.status && allowed == Some("https://app.example");
        ensure!(right, "{}: {answer:?}", call.target);
    }
    Ok(())
}
