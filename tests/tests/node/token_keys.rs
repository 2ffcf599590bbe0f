//! What vouches for tokens changes while connections live: secrets and key sets are rotated, sessions end at their source.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_tests::token::{expiry, sign};
use parlance_tests::{Gateway, Options, Ws};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::remote::Remote;
use crate::token_sources::{address, jwk, refused, rs256};

const OLD: &str = "the-old-secret-of-at-least-32-bytes";
const NEW: &str = "the-new-secret-of-at-least-32-bytes";

fn signed(user: &str, secret: &str) -> Result<String> {
    let exp = expiry(Duration::from_secs(3600));
    sign(&json!({ "sub": user, "user_id": user, "exp": exp }), secret)
}

async fn connect(gateway: &Gateway, token: &str) -> Result<Ws> {
    Ws::connect(&address(gateway, token)).await
}

async fn is_alive(ws: &mut Ws) -> Result<()> {
    ws.send(&json!({ "type": "heartbeat" })).await?;
    ws.expect("heartbeat").await.map(drop)
}

async fn is_invalid(gateway: &Gateway, token: &str) -> Result<bool> {
    Ok(refused(gateway, token).await? == (401, "invalid token".to_owned()))
}

/// Told and closed, for good, within so many seconds.
async fn ends(ws: &mut Ws, seconds: f64) -> Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let told = timeout_at(until, ws.expect("error")).await.context("nothing is told")??;
    ensure!(told["payload"]["code"] == "INVALID_TOKEN", "{told}");
    ensure!(timeout_at(until, ws.closed()).await.context("not closed")?? == Some(1008));
    Ok(())
}

#[tokio::test]
async fn a_secret_is_replaced_without_a_restart() -> Result<()> {
    let secrets = |all: &[&str]| format!("[auth]\nsecrets = {}\n", json!(all));
    let options = Options::brief().env("PARLANCE_JWT_SECRET", "").config(&secrets(&[OLD]));
    let gateway = Gateway::start(options).await?;
    let (old, new) = (signed("alice", OLD)?, signed("bob", NEW)?);
    let mut alice = connect(&gateway, &old).await?;
    ensure!(is_invalid(&gateway, &new).await?);

    gateway.reload(&secrets(&[NEW, OLD])).await?;
    let mut bob = connect(&gateway, &new).await?;
    drop(connect(&gateway, &old).await.context("both are good")?);
    is_alive(&mut alice).await?;

    gateway.reload(&secrets(&[NEW])).await?;
    ensure!(is_invalid(&gateway, &old).await?);
    ends(&mut alice, 2.5).await.context("the old secret is withdrawn")?;
    is_alive(&mut bob).await?;

    // What cannot be used changes nothing.
    std::fs::write(gateway.data_dir().with_file_name("parlance.toml"), secrets(&["short"]))?;
    gateway.signal(rustix::process::Signal::HUP)?;
    let said = async {
        while !gateway.log().contains("the configuration is not reloaded") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout_at(Instant::now() + parlance_tests::PATIENCE, said).await?;
    is_alive(&mut bob).await?;
    drop(connect(&gateway, &new).await?);
    Ok(())
}

fn set(names: &[&str]) -> Result<String> {
    let keys: Vec<Value> = names.iter().map(|name| jwk(name)).collect::<Result<_>>()?;
    Ok(json!({ "keys": keys }).to_string())
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let asked = async {
        while !is_so().await? {
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    timeout_at(Instant::now() + parlance_tests::PATIENCE, asked).await.with_context(|| what.to_owned())?
}

#[tokio::test]
async fn a_key_set_is_rotated_and_may_be_away_for_a_while() -> Result<()> {
    let issuer = Remote::start(200, &set(&["a"])?).await?;
    let options = Options::brief()
        .env("PARLANCE_JWKS_URL", &issuer.url("/jwks"))
        .env("PARLANCE_AUTH_JWKS_REFRESH_MS", "300")
        .env("PARLANCE_AUTH_JWKS_KEEP_MS", "4000");
    let gateway = Gateway::start(options).await?;
    let (old, new) = (rs256("a", "a")?, rs256("b", "b")?);
    let mut on_old = connect(&gateway, &old).await?;
    issuer.answer(200, &set(&["a", "b"])?);
    until("the new key is never taken", async || Ok(Ws::open(&address(&gateway, &new), &[]).await?.is_ok()))
        .await?;
    let mut on_new = connect(&gateway, &new).await?;
    is_alive(&mut on_old).await?;

    // Nobody comes, and the withdrawn key ends what lives on it all the same.
    issuer.answer(200, &set(&["b"])?);
    ends(&mut on_old, 4.0).await.context("the old key is withdrawn")?;
    ensure!(is_invalid(&gateway, &old).await?);

    issuer.answer(500, "");
    let away = Instant::now();
    sleep(Duration::from_secs(1)).await;
    drop(connect(&gateway, &new).await.context("the keys there are are kept")?);
    until("the keys are kept for ever", async || Ok(refused_with(&gateway, &new).await? == Some(503)))
        .await?;
    ensure!(away.elapsed() > Duration::from_secs(2), "{:?}", away.elapsed());
    is_alive(&mut on_new).await.context("an outage is no withdrawal")?;
    issuer.answer(200, &set(&["b"])?);
    until("the issuer is back", async || Ok(Ws::open(&address(&gateway, &new), &[]).await?.is_ok())).await
}

async fn refused_with(gateway: &Gateway, token: &str) -> Result<Option<u16>> {
    Ok(Ws::open(&address(gateway, token), &[]).await?.err().map(|refusal| refusal.status))
}

#[tokio::test]
async fn strange_key_ids_have_the_set_fetched_once_in_a_while() -> Result<()> {
    let issuer = Remote::start(200, &set(&["a"])?).await?;
    let gateway = Gateway::start(Options::brief().env("PARLANCE_JWKS_URL", &issuer.url("/jwks"))).await?;
    let good = rs256("a", "a")?;
    drop(connect(&gateway, &good).await?);
    let strange = async |number: usize| {
        let token = rs256("b", &format!("strange-{number}"))?;
        ensure!(is_invalid(&gateway, &token).await?);
        Ok(())
    };
    futures_util::future::try_join_all((0..50).map(strange)).await?;
    ensure!(issuer.asked().len() == 1, "{}", issuer.asked().len());
    drop(connect(&gateway, &good).await?);
    // A reload keeps what was fetched, also while nothing can be.
    issuer.answer(500, "");
    gateway.reload("").await?;
    drop(connect(&gateway, &good).await?);
    Ok(())
}

async fn sessions(verifier: &Remote, max_age_ms: u64) -> Result<Gateway> {
    let options = Options::brief()
        .env("PARLANCE_AUTH_SESSION_URL", &verifier.url("/introspect"))
        .env("PARLANCE_AUTH_SESSION_RECHECK_MS", "800")
        .env("PARLANCE_AUTH_SESSION_MAX_AGE_MS", &max_age_ms.to_string());
    Gateway::start(options).await
}

const ALICE: &str = r#"{"active":true,"sub":"alice"}"#;

#[tokio::test]
async fn a_session_that_ends_at_its_source_ends_its_connections() -> Result<()> {
    let verifier = Remote::start(200, ALICE).await?;
    let gateway = sessions(&verifier, 60_000).await?;
    let mut devices = Vec::new();
    for _ in 0..3 {
        devices.push(connect(&gateway, "a-session").await?);
    }
    let mut with_jwt = connect(&gateway, &parlance_tests::token("alice")?).await?;
    sleep(Duration::from_secs(3)).await;
    let asked = verifier.asked().len();
    ensure!((3..=12).contains(&asked), "asked {asked} times, not about each connection by itself");

    verifier.answer(503, "");
    sleep(Duration::from_secs(2)).await;
    for device in &mut devices {
        is_alive(device).await.context("no answer is no end")?;
    }
    verifier.answer(200, r#"{"active":false}"#);
    for device in &mut devices {
        ends(device, 2.5).await?;
    }
    ensure!(is_invalid(&gateway, "a-session").await?, "what was remembered of it is gone too");
    is_alive(&mut with_jwt).await
}

#[tokio::test]
async fn a_session_that_is_asked_about_lives_beyond_one_answers_time() -> Result<()> {
    let verifier = Remote::start(200, ALICE).await?;
    let gateway = sessions(&verifier, 2_000).await?;
    let mut alice = connect(&gateway, "a-session").await?;
    sleep(Duration::from_secs(9)).await;
    is_alive(&mut alice).await.context("a yes prolongs it")?;
    // Another user's by now: nothing that a connection may become.
    verifier.answer(200, r#"{"active":true,"sub":"bob"}"#);
    ends(&mut alice, 2.5).await
}
