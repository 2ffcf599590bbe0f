//! Who may connect, and what somebody hears who may not.

use anyhow::{Context, Result, ensure};
use parlance_tests::metrics::total;
use parlance_tests::token::{expiry, sign};
use parlance_tests::tongue::{Tongue, auth};
use parlance_tests::{Device, Gateway, IoClient, Map, Options, Ws, token};
use serde_json::{Value, json};
use std::time::Duration;

use super::{SECRET, asking, turned_away};
use crate::backend::{Backend, no, yes};

/// Somebody called `eve` may nothing.
fn not_eve(question: &Value) -> Option<String> {
    if question["user"].as_str().is_some_and(|user| user.starts_with("eve")) { no("banned") } else { yes() }
}

/// What a Socket.IO client hears that joins its namespace.
async fn joins(gateway: &Gateway, tongue: &Tongue, user: &str) -> Result<Vec<String>> {
    let mut client = IoClient::open(&gateway.url(&tongue.mount)).await?;
    client.send(&[format!("40{}", auth(tongue, user)?)]).await?;
    let mut heard = vec![client.packet().await?];
    if tongue.vocabulary == "chatgenius" {
        // The dialect lets it in to tell it, and sends it away.
        heard.push(client.packet().await?);
    }
    Ok(heard)
}

#[tokio::test]
async fn whoever_may_not_connect_hears_so_in_every_dialect() -> Result<()> {
    let backend = Backend::start(not_eve).await?;
    let gateway = Gateway::start(asking(&backend, "")).await?;
    for tongue in &Map::load()?.tongues {
        let name = &tongue.name;
        Device::connect(&gateway, tongue, "alice").await.with_context(|| name.clone())?;
        if !tongue.socketio {
            let refusal = turned_away(&gateway, &tongue.mount, "eve").await?;
            ensure!(
                refusal == (403, json!({ "error": "banned", "code": "FORBIDDEN" })),
                "{name}: {refusal:?}"
            );
            continue;
        }
        let heard = joins(&gateway, tongue, "eve").await?;
        let expected = match tongue.vocabulary.as_str() {
            "chatgenius" => {
                r#"42["connection:error",{"error":"banned","reason":"auth_error","reconnectAttempt":1}]"#
            }
            "lingochat" | "lingochat-room" => r#"44{"message":"banned"}"#,
            _ => r#"44{"message":"banned","data":{"code":"FORBIDDEN"}}"#,
        };
        ensure!(heard.last().is_some_and(|last| last == expected), "{name}: {heard:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_names_itself_late_and_who_polls_are_asked_about_too() -> Result<()> {
    let backend = Backend::start(not_eve).await?;
    let gateway = Gateway::start(asking(&backend, "")).await?;
    let mut late = Ws::connect(&gateway.url("/sechat")).await?;
    late.send(&json!({ "type": "register_session", "sessionId": "eve", "token": token("eve")? })).await?;
    let refused = late.expect("error").await?;
    ensure!(refused["code"] == "FORBIDDEN" && refused["message"] == "banned", "{refused}");
    late.send(&json!({ "type": "register_session", "sessionId": "alice", "token": token("alice")? })).await?;
    late.expect("session_registered").await?;
    let poll = async |user: &str| {
        let path = format!("/api/v1/realtime/poll?user_id={user}&timeout=0");
        gateway.public("GET", &path, Some(&token(user)?)).await
    };
    let refused = poll("eve").await?;
    ensure!(refused.status == 403 && refused.json()?["code"] == "FORBIDDEN", "{refused:?}");
    ensure!(poll("alice").await?.status == 200, "alice polls");
    Ok(())
}

#[tokio::test]
async fn a_question_says_who_where_and_the_chosen_claims_and_is_signed() -> Result<()> {
    let backend = Backend::start(|_| yes()).await?;
    let gateway = Gateway::start(asking(&backend, "claims = [\"roles\", \"team\", \"essay\"]")).await?;
    let claims = json!({
        "sub": "alice", "user_id": "alice", "exp": expiry(Duration::from_secs(60)), "roles": ["admin", { "of": 1 }],
        "hidden": "x", "essay": "long".repeat(1050),
    });
    let token = sign(&claims, parlance_tests::SECRET)?;
    let mut alice = Ws::connect(&gateway.url(&format!("/sechat?token={token}"))).await?;
    alice.send(&super::sechat_message("m-1", "room", &["bob", "carol"])).await?;
    alice.expect("message:acked").await?;
    alice.send(&super::sechat_message("m-2", "room", &[])).await?;
    alice.expect("message:acked").await?;
    let asked = backend.asked();
    let bodies: Vec<&Value> = asked.iter().map(|asked| &asked.body).collect();
    let roles = json!({ "roles": ["admin", { "of": 1 }] });
    let base = json!({ "user": "alice", "mount": "sechat", "dialect": "sechat", "claims": roles });
    let with = |more: Value| {
        let mut all = base.clone();
        for (name, value) in more.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        all
    };
    let expected = [
        with(json!({ "action": "connect" })),
        with(
            json!({ "action": "send", "conversation": "room", "member": false, "members": ["alice", "bob", "carol"] }),
        ),
        with(json!({ "action": "send", "conversation": "room", "member": true })),
    ];
    ensure!(bodies == expected.iter().collect::<Vec<_>>(), "{bodies:?}");
    for asked in &asked {
        let head = asked.head.to_lowercase();
        ensure!(
            head.starts_with("post /authorise http/1.1") && head.contains("parlance-timestamp: "),
            "{head}"
        );
        ensure!(head.contains("parlance-signature: v1="), "{head}");
        ensure!(!head.contains("authorization") && !head.contains(&token.to_lowercase()), "{head}");
    }
    let log = gateway.log();
    ensure!(!log.contains(SECRET) && !log.contains("SECRET words"), "{log}");
    Ok(())
}

#[tokio::test]
async fn nobody_is_asked_about_what_is_not_named_or_switched_off() -> Result<()> {
    let backend = Backend::start(|_| no("never")).await?;
    let gateway = Gateway::start(asking(&backend, "actions = [\"send\"]")).await?;
    let mut alice = gateway.connect("/sechat", "alice").await?;
    ensure!(backend.asked().is_empty(), "{:?}", backend.asked());
    alice.send(&super::sechat_message("m-1", "room", &["bob"])).await?;
    let refused = alice.expect("error").await?;
    ensure!(refused["code"] == "FORBIDDEN" && refused["message"] == "never", "{refused}");
    let asked = backend.asked().len();
    gateway.reload("").await?;
    alice.send(&super::sechat_message("m-1", "room", &["bob"])).await?;
    alice.expect("message:acked").await?;
    gateway.reload(&format!("[authoriser]\nurl = \"{}\"", backend.url())).await?;
    ensure!(turned_away(&gateway, "/ws", "bob").await?.0 == 403, "switched on again");
    ensure!(backend.asked().len() == asked + 1, "{:?}", backend.asked());

    let plain = Gateway::start(Options::brief()).await?;
    plain.connect("/sechat", "alice").await?;
    ensure!(total(&plain, "parlance_authoriser_questions_total").await? == 0.0);
    ensure!(total(&plain, "parlance_authoriser_seconds_count").await? == 0.0);
    Ok(())
}
