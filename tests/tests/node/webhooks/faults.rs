//! Nothing is lost while the backend, a node or Redis is away, and each event has one id for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::Gateway;

use super::{Listener, bodies, connect, say};

/// Each body once, in order.
fn is_whole(listener: &Listener, place: &str, count: usize) -> bool {
    let expected: Vec<String> = (0..count).map(|n| format!("m-{n}")).collect();
    bodies(&listener.events(), place) == expected
}

#[tokio::test]
async fn a_backend_that_fails_every_other_time_ends_with_every_event_once() -> Result<()> {
    let redis = Server::standalone().await?;
    // Taken and refused in turn; now and then it took a call, and its answer was lost.
    let listener =
        Listener::deciding(|before, _| [Some(503), Some(200), None, Some(500)][before % 4]).await?;
    let options = || listener.told_by("timeout_ms = 300\nbatch = 7").env("PARLANCE_REDIS_URL", &redis.url());
    let a = Gateway::start(options()).await?;
    let b = Gateway::start(options()).await?;
    let (mut alice, mut bob) = (connect(&a, "alice").await?, connect(&b, "bob").await?);
    for n in 0..60 {
        say(&mut alice, &format!("m-{n}"), "c", &["bob"]).await?;
        say(&mut bob, &format!("m-{n}"), "d", &["alice"]).await?;
    }
    listener.until("all of them", |l| is_whole(l, "c", 60) && is_whole(l, "d", 60)).await
}

#[tokio::test]
async fn what_a_killed_node_had_not_told_another_tells() -> Result<()> {
    let redis = Server::standalone().await?;
    let open = Arc::new(AtomicBool::new(false));
    let opened = open.clone();
    let listener =
        Listener::deciding(move |_, _| opened.load(Ordering::SeqCst).then_some(200).or(Some(503))).await?;
    let options = || listener.told_by("timeout_ms = 300").env("PARLANCE_REDIS_URL", &redis.url());
    let mut a = Gateway::start(options()).await?;
    let b = Gateway::start(options()).await?;
    let mut alice = connect(&a, "alice").await?;
    for n in 0..40 {
        say(&mut alice, &format!("m-{n}"), "c", &["bob"]).await?;
    }
    // While the backend is away whoever has the part holds it.
    listener.backend().until_asked(2).await?;
    a.kill9()?;
    open.store(true, Ordering::SeqCst);
    listener.until("all of them", |l| is_whole(l, "c", 40)).await?;
    let (status, answer) = b.api("GET", "/api/v1/webhooks", None).await?;
    ensure!(status == 200 && answer["aside"] == 0, "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_redis_that_was_away_loses_nothing_of_it() -> Result<()> {
    let mut redis = Server::standalone().await?;
    let listener = Listener::deciding(|before, _| Some(if before % 2 == 0 { 503 } else { 200 })).await?;
    let options = listener.told_by("timeout_ms = 300\nbatch = 3").env("PARLANCE_REDIS_URL", &redis.url());
    let gateway = Gateway::start(options).await?;
    let mut alice = connect(&gateway, "alice").await?;
    for n in 0..30 {
        say(&mut alice, &format!("m-{n}"), "c", &["bob"]).await?;
    }
    redis.written().await?;
    redis.kill9()?;
    redis.restart().await?;
    listener.until("all of them", |l| is_whole(l, "c", 30)).await
}

#[tokio::test]
async fn on_the_embedded_engine_a_killed_node_tells_the_rest_when_it_is_back() -> Result<()> {
    let open = Arc::new(AtomicBool::new(false));
    let opened = open.clone();
    let listener =
        Listener::deciding(move |_, _| opened.load(Ordering::SeqCst).then_some(200).or(Some(503))).await?;
    let mut gateway = Gateway::start(listener.told_by("batch = 5")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    for n in 0..20 {
        say(&mut alice, &format!("m-{n}"), "c", &["bob"]).await?;
    }
    listener.backend().until_asked(1).await?;
    gateway.kill9()?;
    open.store(true, Ordering::SeqCst);
    gateway.restart().await?;
    listener.until("all of them", |l| is_whole(l, "c", 20)).await?;
    let mut alice = connect(&gateway, "alice").await?;
    say(&mut alice, "m-20", "c", &["bob"]).await?;
    listener.until("the new one", |l| is_whole(l, "c", 21)).await
}
