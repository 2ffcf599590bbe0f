//! SocialHub: who is there.

use std::time::Duration;

use crate::support::{Client, gateway, until_devices};
use anyhow::{Context, Result, ensure};
use parlance_tests::Gateway;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The next status of a user that a watcher hears.
async fn status(watcher: &mut Client, user: &str) -> Result<String> {
    let frame = watcher.hear("presence").await?;
    ensure!(frame["payload"]["user_id"] == user, "of whom? {frame}");
    ensure!(frame["channel"] == format!("presence:{user}"), "where? {frame}");
    Ok(frame["payload"]["status"].as_str().context("no status")?.to_owned())
}

async fn queried(gateway: &Gateway, user: &str) -> Result<Value> {
    let (code, answer) = gateway.api("GET", &format!("/api/v1/users/{user}/presence"), None).await?;
    ensure!(code == 200, "{code} {answer}");
    Ok(answer)
}

#[tokio::test]
async fn who_subscribes_to_a_user_hears_at_once_how_things_stand() -> Result<()> {
    let gateway = gateway().await?;
    let mut watcher = Client::on(&gateway, "watcher", "presence:alice").await?;
    assert_eq!(status(&mut watcher, "alice").await?, "offline");
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.be("busy").await?;
    let mut late = Client::on(&gateway, "late", "presence:alice").await?;
    assert_eq!(status(&mut late, "alice").await?, "busy");
    late.heard_nothing(&gateway).await
}

#[tokio::test]
async fn a_user_s_channel_tells_of_that_user_only_and_the_global_one_of_all() -> Result<()> {
    let gateway = gateway().await?;
    let mut one = Client::on(&gateway, "one", "presence:alice").await?;
    assert_eq!(status(&mut one, "alice").await?, "offline");
    let mut all = Client::on(&gateway, "all", "presence").await?;
    let mut deaf = Client::connect(&gateway, "deaf").await?;
    assert_eq!(status(&mut all, "deaf").await?, "online");
    let _alice = Client::connect(&gateway, "alice").await?;
    let _bob = Client::connect(&gateway, "bob").await?;
    assert_eq!(status(&mut one, "alice").await?, "online");
    assert_eq!(status(&mut all, "alice").await?, "online");
    assert_eq!(status(&mut all, "bob").await?, "online");
    for watcher in [&mut one, &mut all, &mut deaf] {
        watcher.heard_nothing(&gateway).await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_watches_both_channels_hears_a_change_once() -> Result<()> {
    let gateway = gateway().await?;
    let mut watcher = Client::on(&gateway, "watcher", "presence").await?;
    watcher.subscribe("presence:alice").await?;
    assert_eq!(status(&mut watcher, "alice").await?, "offline");
    let _alice = Client::connect(&gateway, "alice").await?;
    assert_eq!(status(&mut watcher, "alice").await?, "online");
    watcher.heard_nothing(&gateway).await
}

#[tokio::test]
async fn a_user_is_as_its_strongest_device_says() -> Result<()> {
    let gateway = gateway().await?;
    let mut watcher = Client::on(&gateway, "watcher", "presence").await?;
    let mut phone = Client::connect(&gateway, "alice").await?;
    let mut desk = Client::connect(&gateway, "alice").await?;
    assert_eq!(status(&mut watcher, "alice").await?, "online");
    // What is not told is a combination that changes nothing.
    let steps: [(bool, &str, Option<&str>); 7] = [
        (true, "away", None),
        (false, "away", Some("away")),
        (true, "busy", Some("busy")),
        (false, "online", None),
        (true, "away", Some("online")),
        (false, "away", Some("away")),
        (true, "online", Some("online")),
    ];
    let refused = phone.refused(json!({"type": "presence", "payload": {"status": "offline"}})).await?;
    assert_eq!(refused["code"], "INVALID_MESSAGE", "a live device is not offline: {refused}");
    for (on_phone, says, told) in steps {
        let device = if on_phone { &mut phone } else { &mut desk };
        device.be(says).await?;
        let frames = watcher.all_before_now(&gateway).await?;
        let heard: Vec<_> = frames.iter().map(|f| f["payload"]["status"].as_str()).collect();
        assert_eq!(heard, told.map(Some).into_iter().collect::<Vec<_>>(), "{on_phone} {says}");
        if let Some(told) = told {
            assert_eq!(queried(&gateway, "alice").await?["status"], told);
        }
    }
    Ok(())
}

#[tokio::test]
async fn offline_is_told_at_once_but_only_when_the_last_device_goes() -> Result<()> {
    let gateway = gateway().await?;
    let mut watcher = Client::on(&gateway, "watcher", "presence").await?;
    let phone = Client::connect(&gateway, "alice").await?;
    let desk = Client::connect(&gateway, "alice").await?;
    assert_eq!(status(&mut watcher, "alice").await?, "online");
    phone.ws.close(1000).await?;
    until_devices(&gateway, "alice", 1).await?;
    watcher.heard_nothing(&gateway).await?;
    let left = Instant::now();
    // Without a goodbye: the connection just ends.
    drop(desk);
    assert_eq!(status(&mut watcher, "alice").await?, "offline");
    ensure!(left.elapsed() < Duration::from_secs(3), "{:?}", left.elapsed());
    assert_eq!(queried(&gateway, "alice").await?["devices"], 0);
    let _again = Client::connect(&gateway, "alice").await?;
    assert_eq!(status(&mut watcher, "alice").await?, "online");
    Ok(())
}

#[tokio::test]
async fn a_device_that_goes_takes_its_status_along() -> Result<()> {
    let gateway = gateway().await?;
    let mut watcher = Client::on(&gateway, "watcher", "presence").await?;
    let mut phone = Client::connect(&gateway, "alice").await?;
    let mut desk = Client::connect(&gateway, "alice").await?;
    phone.be("busy").await?;
    desk.be("away").await?;
    for expected in ["online", "busy"] {
        assert_eq!(status(&mut watcher, "alice").await?, expected);
    }
    drop(phone);
    assert_eq!(status(&mut watcher, "alice").await?, "away");
    Ok(())
}

#[tokio::test]
async fn last_seen_is_when_a_user_was_there_last() -> Result<()> {
    let gateway = gateway().await?;
    let mut watcher = Client::on(&gateway, "watcher", "presence").await?;
    let alice = Client::connect(&gateway, "alice").await?;
    let online = watcher.hear("presence").await?;
    alice.ws.close(1000).await?;
    let offline = watcher.hear("presence").await?;
    let seen = |frame: &Value| frame["payload"]["last_seen"].as_str().map(str::to_owned);
    let (before, after) = (seen(&online).context("none")?, seen(&offline).context("none")?);
    // ISO 8601 in UTC sorts as text.
    ensure!(before <= after, "{before} {after}");
    assert_eq!(queried(&gateway, "alice").await?["lastSeen"], after);
    let mut late = Client::on(&gateway, "late", "presence:alice").await?;
    assert_eq!(seen(&late.hear("presence").await?), Some(after), "the same for who asks later");
    Ok(())
}

#[tokio::test]
async fn set_presence_is_understood_and_other_words_are_not() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = Client::connect(&gateway, "alice").await?;
    alice.accepted(json!({ "type": "set_presence", "payload": { "status": "away" } })).await?;
    assert_eq!(queried(&gateway, "alice").await?["status"], "away");
    for payload in [json!({ "status": "invisible" }), json!({ "status": 1 }), json!({}), json!("away")] {
        let error = alice.refused(json!({ "type": "presence", "payload": payload })).await?;
        assert_eq!(error["code"], "INVALID_MESSAGE", "{payload}");
    }
    let for_bob = json!({ "type": "presence", "payload": { "status": "busy", "user_id": "bob" } });
    alice.refused(for_bob).await?;
    assert_eq!(queried(&gateway, "alice").await?["status"], "away");
    assert_eq!(queried(&gateway, "bob").await?["status"], "offline");
    Ok(())
}

#[tokio::test]
async fn after_unsubscribing_no_presence_is_heard() -> Result<()> {
    let gateway = gateway().await?;
    let mut watcher = Client::on(&gateway, "watcher", "presence").await?;
    watcher.accepted(json!({ "type": "unsubscribe", "payload": "presence" })).await?;
    let _alice = Client::connect(&gateway, "alice").await?;
    watcher.heard_nothing(&gateway).await
}
