//! Who may enter a conversation and write to it, of those who are in it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::metrics::Samples;
use parlance_tests::tongue::Action;
use parlance_tests::{Device, Gateway, Map};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{asking, sechat_message};
use crate::backend::{Backend, http, no, yes};

/// Nobody enters `closed`, nobody writes to `mute`.
fn house(question: &Value) -> Option<String> {
    match (question["action"].as_str(), question["conversation"].as_str()) {
        (Some("join"), Some("closed")) => no("closed for now"),
        (Some("send"), Some("mute")) => no("nobody speaks here"),
        _ => yes(),
    }
}

/// Whether a vocabulary says of a refusal what it should.
fn is_told(heard: &str, vocabulary: &str, reason: &str) -> bool {
    let says = |field: &str, text: &str| heard.contains(&format!("\"{field}\":\"{text}\""));
    match vocabulary {
        "sechat" => says("code", "FORBIDDEN") && says("message", reason),
        "famly" => says("error", "FORBIDDEN") && says("message", reason),
        "chatgenius" => says("error", "Access denied to channel"),
        "socialhub" => says("code", "CHANNEL_NOT_FOUND") && says("message", reason),
        _ => says("error", reason),
    }
}

/// The answer to a try, and everything that was told beside it.
async fn tries(device: &mut Device, action: Action<'_>, place: &str, word: &str) -> Result<String> {
    let answer = device.attempt(action, place, Some(word)).await?;
    let told = device.until_now("room").await?;
    Ok(format!(
        "{answer} {}",
        json!(told.iter().map(|told| json!([told.name, told.args])).collect::<Vec<_>>())
    ))
}

#[tokio::test]
async fn entering_and_writing_are_asked_about_in_every_dialect() -> Result<()> {
    let backend = Backend::start(house).await?;
    let gateway = Gateway::start(asking(&backend, "")).await?;
    let map = Map::load()?;
    let users: Vec<String> = map.tongues.iter().map(|tongue| format!("{}-u", tongue.name)).collect();
    for place in ["room", "closed", "mute"] {
        gateway.conversation(place, &users).await?;
    }
    for (tongue, user) in map.tongues.iter().zip(&users) {
        let name = &tongue.name;
        let mut device = Device::connect(&gateway, tongue, user).await?;
        let vocabulary = tongue.vocabulary.clone();
        let enter = match vocabulary.as_str() {
            "lingochat" => Some("conversation:join"),
            "lingochat-room" | "famly" => Some("room:join"),
            "chatgenius" => Some("channel:join"),
            "socialhub" => Some("subscribe"),
            _ => None,
        };
        if let Some(enter) = enter {
            device.act(Action::Room, "room", Some(enter)).await.with_context(|| name.clone())?;
            let refused = tries(&mut device, Action::Room, "closed", enter).await?;
            ensure!(is_told(&refused, &vocabulary, "closed for now"), "{name}: {refused}");
        }
        let say = map.row("body")?.does(&vocabulary).context("no word")?;
        let action = |id| Action::Send { body: "hello", id };
        let (first, second) =
            ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002");
        device.act(action(first), "room", Some(say)).await.with_context(|| name.clone())?;
        let refused = tries(&mut device, action(second), "mute", say).await?;
        ensure!(is_told(&refused, &vocabulary, "nobody speaks here"), "{name}: {refused}");
    }
    let history = gateway.call("GET", "/api/v1/conversations/mute/messages", None).await?;
    ensure!(history["messages"] == json!([]), "{history}");
    let history = gateway.call("GET", "/api/v1/conversations/room/messages", None).await?;
    ensure!(history["messages"].as_array().map(Vec::len) == Some(users.len()), "{history}");
    Ok(())
}

#[tokio::test]
async fn an_answer_is_good_for_a_while_and_no_longer_than_it_says() -> Result<()> {
    let backend = Backend::start(|_| yes()).await?;
    let gateway = Gateway::start(asking(&backend, "")).await?;
    gateway.conversation("room", &["alice", "bob"]).await?;
    let (mut alice, mut bob) =
        (gateway.connect("/sechat", "alice").await?, gateway.connect("/sechat", "bob").await?);
    for n in 0..5 {
        alice.send(&sechat_message(&format!("m-{n}"), "room", &[])).await?;
        alice.expect("message:acked").await?;
    }
    bob.send(&sechat_message("m-b", "room", &[])).await?;
    bob.expect("message:acked").await?;
    ensure!((backend.times("connect"), backend.times("send")) == (2, 2), "{:?}", backend.asked());
    let cached = Samples::of(&gateway).await?;
    let cached =
        cached.sum("parlance_authoriser_questions_total", &[("action", "send"), ("outcome", "cached")]);
    ensure!(cached == 4.0, "{cached}");

    backend.decide(|question| match question["action"] == "send" {
        true => http(200, r#"{"allow":true,"ttl_ms":0}"#),
        false => no("not now"),
    });
    gateway.connect("/sechat", "alice").await.context("a yes is remembered")?;
    gateway.conversation("other", &["alice"]).await?;
    for n in 0..3 {
        alice.send(&sechat_message(&format!("o-{n}"), "other", &[])).await?;
        alice.expect("message:acked").await?;
    }
    ensure!(backend.times("send") == 5, "each of three: {:?}", backend.asked());
    for _ in 0..3 {
        ensure!(super::turned_away(&gateway, "/ws", "carol").await?.0 == 403, "a no");
    }
    ensure!(backend.times("connect") == 3, "a no is remembered, too: {:?}", backend.asked());
    Ok(())
}

#[tokio::test]
async fn those_who_come_together_share_one_question() -> Result<()> {
    let backend = Backend::start(|_| None).await?;
    let options = asking(&backend, "timeout_ms = 8000\ncache_entries = 0");
    let gateway = Gateway::start(options).await?;
    let come = futures_util::future::join_all((0..5).map(|_| gateway.connect("/sechat", "alice")));
    let watched = async {
        backend.until_asked(1).await?;
        // Nobody else asks while one does.
        sleep(Duration::from_millis(300)).await;
        ensure!(backend.asked().len() == 1, "{:?}", backend.asked());
        Ok(())
    };
    tokio::select! {
        _ = come => anyhow::bail!("let in without a word"),
        done = watched => done,
    }
}

#[tokio::test]
async fn what_was_sent_before_is_acknowledged_again_whoever_may_write_now() -> Result<()> {
    let backend = Backend::start(|_| http(200, r#"{"allow":true,"ttl_ms":0}"#)).await?;
    let gateway = Gateway::start(asking(&backend, "")).await?;
    gateway.conversation("room", &["alice"]).await?;
    let mut alice = gateway.connect("/sechat", "alice").await?;
    alice.send(&sechat_message("m-1", "room", &[])).await?;
    let first = alice.expect("message:acked").await?;
    backend.decide(|_| no("no more"));
    alice.send(&sechat_message("m-1", "room", &[])).await?;
    let again = alice.expect("message:acked").await?;
    ensure!(again["messageId"] == first["messageId"], "{again}");
    alice.send(&sechat_message("m-2", "room", &[])).await?;
    let refused = alice.expect("error").await?;
    ensure!(refused["message"] == "no more", "{refused}");
    Ok(())
}
