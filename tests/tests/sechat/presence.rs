//! SeChat: who is told of whom coming and going, and when.

use std::time::Duration;

use crate::support::{
    Bare, connect, frame, gateway, is_message, is_presence, message, mount, send, settled, until, within,
};
use anyhow::{Result, anyhow, ensure};
use futures_util::future::try_join_all;
use parlance_tests::{Gateway, Options, Ws};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Long enough that a reconnect fits into it on a busy machine.
const BACKGROUND: Duration = Duration::from_millis(1_500);

async fn with_background() -> Result<Gateway> {
    Gateway::start(mount("background_ms = 1500")).await
}

/// What the frames say of one user.
fn said_of(frames: &[Value], user: &str) -> Vec<bool> {
    let of = frames.iter().filter(|f| f["type"] == "presence:update" && f["sessionId"] == user);
    of.filter_map(|f| f["isOnline"].as_bool()).collect()
}

/// All that is told up to the announced end of a short visit which begins now.
async fn through_a_visit(gateway: &Gateway, watcher: &mut Ws) -> Result<Vec<Value>> {
    connect(gateway, "visitor").await?.close(1000).await?;
    until(watcher, |f| is_presence(f, "visitor", false)).await
}

#[tokio::test]
async fn everyone_is_told_at_once_that_a_user_came() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let asked = Instant::now();
    let _bob = connect(&gateway, "bob").await?;
    let told = alice.next().await?;
    ensure!(is_presence(&told, "bob", true) && told["timestamp"].is_string(), "{told}");
    ensure!(asked.elapsed() < Duration::from_secs(3), "at once: {:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_closed_connection_is_announced_after_the_background_delay_and_once() -> Result<()> {
    let gateway = with_background().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let bob = connect(&gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    let closed = Instant::now();
    bob.close(1000).await?;
    until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    let took = closed.elapsed();
    ensure!(took >= BACKGROUND && took < BACKGROUND + Duration::from_secs(2), "{took:?}");
    let heard = through_a_visit(&gateway, &mut alice).await?;
    ensure!(said_of(&heard, "bob").is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn the_shipped_background_delay_is_five_seconds() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let bob = connect(&gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    let closed = Instant::now();
    bob.close(1000).await?;
    until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    let took = closed.elapsed();
    ensure!(took >= Duration::from_secs(5) && took < Duration::from_secs(7), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_quick_return_is_not_announced_at_all() -> Result<()> {
    let gateway = with_background().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let bob = connect(&gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    bob.close(1000).await?;
    let _bob = connect(&gateway, "bob").await?;
    let heard = through_a_visit(&gateway, &mut alice).await?;
    ensure!(said_of(&heard, "bob").is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_cut_connection_is_announced_like_a_closed_one() -> Result<()> {
    let gateway = with_background().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let bob = connect(&gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    drop(bob);
    until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    Ok(())
}

#[tokio::test]
async fn a_user_is_online_until_the_last_device_is_gone() -> Result<()> {
    let gateway = with_background().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let phone = connect(&gateway, "bob").await?;
    let tablet = connect(&gateway, "bob").await?;
    phone.close(1000).await?;
    let heard = through_a_visit(&gateway, &mut alice).await?;
    ensure!(said_of(&heard, "bob") == [true], "{heard:?}");
    tablet.close(1000).await?;
    let heard = until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    ensure!(said_of(&heard, "bob") == [false], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_user_may_say_to_be_away_and_back_on_an_open_connection() -> Result<()> {
    let gateway = with_background().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    let said = Instant::now();
    bob.send(&json!({"type": "presence:update", "sessionId": "bob", "isOnline": false, "deviceInfo": {}}))
        .await?;
    until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    ensure!(said.elapsed() >= BACKGROUND, "after the delay: {:?}", said.elapsed());
    let said = Instant::now();
    bob.send(&json!({"type": "presence:update", "isOnline": true})).await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    ensure!(said.elapsed() < BACKGROUND, "at once: {:?}", said.elapsed());
    Ok(())
}

#[tokio::test]
async fn the_aliases_offline_and_online_mean_the_same_and_a_flap_is_swallowed() -> Result<()> {
    let gateway = with_background().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    for kind in ["presence:offline", "presence:online"] {
        bob.send(&json!({"type": kind})).await?;
    }
    settled(&mut bob, "bob").await?;
    let heard = through_a_visit(&gateway, &mut alice).await?;
    ensure!(said_of(&heard, "bob").is_empty(), "{heard:?}");
    bob.send(&json!({"type": "presence:offline"})).await?;
    until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_is_told_of_themselves() -> Result<()> {
    let gateway = with_background().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let phone = connect(&gateway, "alice").await?;
    phone.close(1000).await?;
    alice.send(&json!({"type": "presence:update", "isOnline": false})).await?;
    let heard = through_a_visit(&gateway, &mut alice).await?;
    ensure!(said_of(&heard, "alice").is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_ping_is_answered_with_silence() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    alice.send(&json!({"type": "presence:ping", "sessionId": "alice"})).await?;
    let heard = settled(&mut alice, "alice").await?;
    ensure!(heard.len() == 1, "{heard:?}");
    Ok(())
}

/// Leases of 1.5 s instead of 35 s; sockets are closed for silence after 3 s.
fn short_leases() -> Options {
    mount("background_ms = 300\nping_interval_ms = 400\nping_timeout_ms = 2600")
        .env("PARLANCE_TIMINGS_PRESENCE_TTL_MS", "1500")
        .env("PARLANCE_TIMINGS_PRESENCE_REFRESH_MS", "300")
        .env("PARLANCE_TIMINGS_SWEEP_MS", "100")
}

#[tokio::test]
async fn a_silent_connection_is_announced_when_its_lease_ends_and_not_again_when_it_is_closed() -> Result<()>
{
    let gateway = Gateway::start(short_leases()).await?;
    let mut alice = connect(&gateway, "alice").await?;
    let silent = Instant::now();
    let mut bob = Bare::connect(&gateway, "bob").await?;
    let heard = until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    let took = silent.elapsed();
    ensure!(said_of(&heard, "bob") == [true, false], "{heard:?}");
    ensure!(took >= Duration::from_millis(1_500) && took < Duration::from_secs(5), "{took:?}");
    ensure!(bob.closed().await? == 1001, "no answer to pings");
    drop(bob);
    let heard = through_a_visit(&gateway, &mut alice).await?;
    ensure!(said_of(&heard, "bob").is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn any_sign_of_life_keeps_a_user_online() -> Result<()> {
    let gateway = Gateway::start(short_leases()).await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut pinging = Bare::connect(&gateway, "pinging").await?;
    let mut ponging = Bare::connect(&gateway, "ponging").await?;
    let _silent = Bare::connect(&gateway, "silent").await?;
    let ping = frame(0x81, br#"{"type":"presence:ping"}"#);
    // A pong that answers nothing is a sign of life as well.
    let pong = frame(0x8a, b"");
    let living = async {
        let mut every = tokio::time::interval(Duration::from_millis(250));
        loop {
            every.tick().await;
            pinging.write(&ping).await?;
            ponging.write(&pong).await?;
        }
    };
    let heard = tokio::select! {
        heard = until(&mut alice, |f| is_presence(f, "silent", false)) => heard?,
        end = living => { let end: Result<()> = end; end?; unreachable!("it lives for ever") }
    };
    for user in ["pinging", "ponging"] {
        ensure!(!said_of(&heard, user).contains(&false), "{user}: {heard:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_speaks_again_after_its_lease_ended_is_back() -> Result<()> {
    let gateway = Gateway::start(short_leases()).await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = Bare::connect(&gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    bob.write(&frame(0x81, br#"{"type":"presence:ping"}"#)).await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    Ok(())
}

#[tokio::test]
async fn a_dead_connection_is_announced_35_to_38_seconds_after_its_last_byte() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = Bare::connect(&gateway, "bob").await?;
    until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    let last_byte = Instant::now();
    bob.write(&frame(0x81, br#"{"type":"presence:ping"}"#)).await?;
    let heard = within(&mut alice, Duration::from_secs(42), |f| is_presence(f, "bob", false)).await?;
    let took = last_byte.elapsed();
    ensure!(said_of(&heard, "bob") == [false], "{heard:?}");
    ensure!(took >= Duration::from_secs(35) && took <= Duration::from_secs(38), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn with_contacts_only_those_who_share_a_conversation_are_told() -> Result<()> {
    let gateway = Gateway::start(mount("presence_scope = \"contacts\"\nbackground_ms = 300")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    let stranger = connect(&gateway, "stranger").await?;
    let mut bob = crate::support::arrive(&gateway, "bob").await?;
    until(&mut bob, |f| is_message(f, "m-1")).await?;
    let heard = until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    ensure!(said_of(&heard, "stranger").is_empty(), "{heard:?}");
    stranger.close(1000).await?;
    bob.close(1000).await?;
    let heard = until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    ensure!(said_of(&heard, "stranger").is_empty(), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn with_contacts_a_first_message_makes_contacts_of_two_who_are_online() -> Result<()> {
    let gateway = Gateway::start(mount("presence_scope = \"contacts\"\nbackground_ms = 300")).await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut bob = connect(&gateway, "bob").await?;
    send(&mut alice, &message("m-1", "c", &["bob"])).await?;
    until(&mut bob, |f| is_message(f, "m-1")).await?;
    // Nothing tells when she has begun to watch him: only what changes after that is told. At the latest he comes again.
    bob.close(1000).await?;
    if until(&mut alice, |f| is_presence(f, "bob", false)).await.is_err() {
        let bob = crate::support::arrive(&gateway, "bob").await?;
        until(&mut alice, |f| is_presence(f, "bob", true)).await?;
        bob.close(1000).await?;
        until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    }
    Ok(())
}

/// Beyond five hundred connections presence is gathered for a moment and told together.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_hears_each_change_of_others_once_and_in_order() -> Result<()> {
    let gateway = gateway().await?;
    let mut alice = connect(&gateway, "alice").await?;
    let mut crowd = Vec::new();
    for some in 0..26 {
        let names: Vec<String> = (0..20).map(|one| format!("u{}", some * 20 + one)).collect();
        crowd.extend(try_join_all(names.iter().map(|name| connect(&gateway, name))).await?);
    }
    let bob = connect(&gateway, "bob").await?;
    let heard = until(&mut alice, |f| is_presence(f, "bob", true)).await?;
    for user in 0..crowd.len() {
        ensure!(said_of(&heard, &format!("u{user}")) == [true], "u{user}: {}", heard.len());
    }
    ensure!(said_of(&heard, "alice").is_empty(), "of oneself nothing is told");
    bob.close(1000).await?;
    let last = crowd.last_mut().ok_or_else(|| anyhow!("nobody came"))?;
    let heard = until(last, |f| is_presence(f, "bob", false)).await?;
    ensure!(said_of(&heard, "bob") == [true, false], "in order: {:?}", said_of(&heard, "bob"));
    let heard = until(&mut alice, |f| is_presence(f, "bob", false)).await?;
    ensure!(said_of(&heard, "alice").is_empty(), "of oneself nothing is told");
    Ok(())
}
