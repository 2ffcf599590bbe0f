//! Members in bulk: what is counted, what is refused, what those who come and go hear; on the embedded engine.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::upload::lines;
use parlance_tests::{API_KEY, Gateway, IoClient, Options, Upload, Ws, token};
use serde_json::{Value, json};
use tokio::time::timeout;

async fn gateway() -> Result<Gateway> {
    Gateway::start(Options::default().env("PARLANCE_NO_LIMITS", "true")).await
}

async fn import(gateway: &Gateway, body: &str) -> Result<Value> {
    let mut upload = Upload::import(gateway, "room").await?;
    upload.send(body).await?;
    let answer = upload.finish().await?;
    ensure!(answer.status == 200, "{answer:?}");
    answer.json()
}

/// Lines, added, members before, rejected.
fn counts(told: &Value) -> (u64, u64, u64, u64) {
    let of = |name: &str| told[name].as_u64().unwrap_or(u64::MAX);
    (of("lines"), of("added"), of("alreadyMembers"), of("rejected"))
}

async fn members(gateway: &Gateway) -> Result<Vec<String>> {
    let room = gateway.call("GET", "/api/v1/conversations/room", None).await?;
    Ok(serde_json::from_value(room["members"].clone())?)
}

async fn say(gateway: &Gateway, text: &str) -> Result<()> {
    let body = json!({ "senderId": "alice", "body": text });
    gateway.call("POST", "/api/v1/conversations/room/messages", Some(&body)).await.map(drop)
}

fn many(from: usize, to: usize) -> impl Iterator<Item = String> {
    (from..to).map(|n| format!("user-{n:06}"))
}

#[tokio::test]
async fn everybody_comes_once_and_a_repetition_changes_nothing() -> Result<()> {
    let gateway = gateway().await?;
    gateway.conversation("room", &["alice"]).await?;
    let all = lines(many(0, 10_000));
    let mut upload = Upload::import(&gateway, "room").await?;
    // Wherever the pieces end.
    for piece in all.as_bytes().chunks(10_007) {
        upload.send(std::str::from_utf8(piece)?).await?;
    }
    let told = upload.finish().await?.json()?;
    ensure!(counts(&told) == (10_000, 10_000, 0, 0) && told["errors"] == json!([]), "{told}");
    ensure!(members(&gateway).await?.len() == 10_001);
    let before = gateway.call("GET", "/api/v1/conversations/room", None).await?;
    let told = import(&gateway, &all).await?;
    ensure!(counts(&told) == (10_000, 0, 10_000, 0), "{told}");
    let after = gateway.call("GET", "/api/v1/conversations/room", None).await?;
    ensure!(after["lastSequence"] == before["lastSequence"], "nothing was written");
    // The newcomers are members for everybody who asks, and others are not.
    let sent = json!({ "senderId": "user-009999", "body": "hello" });
    gateway.call("POST", "/api/v1/conversations/room/messages", Some(&sent)).await?;
    let sent = json!({ "senderId": "user-010000", "body": "hello" });
    ensure!(gateway.api("POST", "/api/v1/conversations/room/messages", Some(&sent)).await?.0 == 403);
    Ok(())
}

#[tokio::test]
async fn a_broken_line_is_named_and_the_others_are_carried_out() -> Result<()> {
    let gateway = gateway().await?;
    gateway.conversation("room", &["alice"]).await?;
    let long = "x".repeat(2_000);
    let body = format!(
        "{{\"userId\":\"bob\"}}\r\n\n{{\"userId\":\"not an id\"}}\n{{\"userId\":\"bob\"}}\n{long}\n[1]\n\
         {{\"userId\":\"dave\",\"remove\":true}}\n{{\"userId\":\"carol\"}}\n{{\"userId\":\"carol\",\"remove\":true}}\n\
         {{\"userId\":\"alice\"}}\n{{\"userId\":\"erin\"}}"
    );
    let told = import(&gateway, &body).await?;
    ensure!(counts(&told) == (11, 3, 2, 3), "{told}");
    ensure!((&told["removed"], &told["notMembers"]) == (&json!(1), &json!(1)), "{told}");
    let lines: Vec<&Value> = told["errors"].as_array().into_iter().flatten().map(|it| &it["line"]).collect();
    ensure!(lines == [3, 5, 6], "{told}");
    ensure!(members(&gateway).await? == ["alice", "bob", "erin"]);
    // However many there are, the answer stays short.
    let told = import(&gateway, &"nonsense\n".repeat(5_000)).await?;
    ensure!(told["rejected"] == 5_000 && told["errors"].as_array().is_some_and(|all| all.len() == 100));
    Ok(())
}

#[tokio::test]
async fn an_import_that_breaks_off_is_simply_repeated() -> Result<()> {
    let gateway = gateway().await?;
    gateway.conversation("room", &["alice"]).await?;
    let all = lines(many(0, 9_000));
    let mut upload = Upload::import(&gateway, "room").await?;
    upload.send(&all[..all.len() * 2 / 3]).await?;
    let answer = upload.cut().await?;
    ensure!(answer.status == 400 && answer.body.contains("after line"), "{answer:?}");
    let there = members(&gateway).await?.len() as u64 - 1;
    ensure!((1..9_000).contains(&there), "batches that were whole are done: {there}");
    let told = import(&gateway, &all).await?;
    ensure!(counts(&told) == (9_000, 9_000 - there, there, 0), "{told}");
    ensure!(members(&gateway).await?.len() == 9_001);
    Ok(())
}

#[tokio::test]
async fn what_is_no_import_is_refused_and_nothing_is_done() -> Result<()> {
    let options = Options::default().env("PARLANCE_LIMITS_IMPORT_BYTES", "100000");
    let gateway = Gateway::start(options).await?;
    gateway.conversation("room", &["alice"]).await?;
    let (kind, line) = ("application/x-ndjson", "{\"userId\":\"mallory\"}\n");
    for (room, key, kind, status, code) in [
        ("room", None, kind, 401, "UNAUTHORIZED"),
        ("room", Some("wrong"), kind, 401, "UNAUTHORIZED"),
        ("nowhere", Some(API_KEY), kind, 404, "NOT_FOUND"),
        ("room", Some(API_KEY), "application/json", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("not%20an%20id", Some(API_KEY), kind, 400, "INVALID_REQUEST"),
    ] {
        let mut upload = Upload::begin(&gateway, room, key, kind).await?;
        upload.send(line).await?;
        let answer = upload.finish().await?;
        ensure!(
            answer.status == status && answer.json()?["error"]["code"] == code,
            "{room} {key:?}: {answer:?}"
        );
    }
    ensure!(members(&gateway).await? == ["alice"]);
    let mut upload = Upload::import(&gateway, "room").await?;
    for _ in 0..10 {
        upload.send(&line.repeat(500)).await?;
    }
    ensure!(upload.finish().await?.status == 413, "beyond limits.import_bytes");
    Ok(())
}

async fn heard(ws: &mut Ws, text: &str) -> Result<()> {
    let told = timeout(Duration::from_secs(5), ws.expect("message:received")).await??;
    ensure!(told["body"] == text, "{told}");
    Ok(())
}

/// The next message; of single members nothing is told before it.
async fn next_said(io: &mut IoClient, text: &str) -> Result<()> {
    loop {
        let told = io.next().await?;
        ensure!(!told.name.starts_with("chat:member"), "{told:?}");
        if told.name == "message:new" {
            ensure!(told.args[0]["body"] == text, "{told:?}");
            return Ok(());
        }
    }
}

#[tokio::test]
async fn whoever_comes_hears_what_is_said_and_whoever_goes_does_not() -> Result<()> {
    let gateway = gateway().await?;
    gateway.conversation("room", &["alice"]).await?;
    let auth = json!({ "token": token("user-000007")? });
    let mut seven = IoClient::connect(&gateway.url("/socket.io/"), &auth).await?;
    let mut eight = gateway.connect("/sechat", "user-000008").await?;
    let auth = json!({ "token": token("alice")? });
    let mut watcher = IoClient::connect(&gateway.url("/socket.io/"), &auth).await?;
    watcher.ask("room:join", &[json!({ "chatId": "room" })]).await?;
    import(&gateway, &lines(many(0, 2_000))).await?;
    say(&gateway, "welcome").await?;
    heard(&mut eight, "welcome").await?;
    eight.expect("message:delivered").await?;
    let added = seven.expect("chat:member-added").await?;
    ensure!(added.args[0]["userId"] == "user-000007", "a newcomer is told of itself: {added:?}");
    // Those inside are told the next message, and not of two thousand newcomers before it.
    next_said(&mut watcher, "welcome").await?;
    let gone: String =
        many(0, 1_500).map(|it| format!("{{\"userId\":\"{it}\",\"remove\":true}}\n")).collect();
    let told = import(&gateway, &gone).await?;
    ensure!(told["removed"] == 1_500, "{told}");
    let removed = seven.expect("chat:member-removed").await?;
    ensure!(removed.args[0]["userId"] == "user-000007", "{removed:?}");
    say(&gateway, "SECRET").await?;
    next_said(&mut watcher, "SECRET").await?;
    eight.assert_silent(Duration::from_millis(500)).await
}
