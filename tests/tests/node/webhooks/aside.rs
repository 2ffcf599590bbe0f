//! What the backend will not take is put aside, holds nothing up, and can be told again.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use parlance_tests::{API_KEY, Gateway, built_binary};
use serde_json::json;

use super::{Listener, bodies, connect, say};
use parlance_redis_rig::Server;
use parlance_tests::metrics::until;

fn webhooks(gateway: &Gateway, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(built_binary()?);
    command.arg("webhooks").args(arguments);
    command
        .args(["--url", &format!("http://{}", gateway.internal_address())])
        .env("PARLANCE_API_KEY", API_KEY);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("no text")
}

#[tokio::test]
async fn an_event_that_is_refused_holds_up_no_other_and_is_told_again_on_demand() -> Result<()> {
    let mended = Arc::new(AtomicBool::new(false));
    let takes = mended.clone();
    let listener = Listener::deciding(move |_, call| {
        let poison = call["events"].as_array().into_iter().flatten().any(|e| e["data"]["body"] == "m-1");
        Some(if poison && !takes.load(Ordering::SeqCst) { 422 } else { 200 })
    })
    .await?;
    let options = listener.told_by("attempts = 4\nevents = [\"message.accepted\"]");
    let gateway = Gateway::start(options).await?;
    let mut alice = connect(&gateway, "alice").await?;
    for id in ["m-0", "m-1", "m-2"] {
        say(&mut alice, id, "c", &["bob"]).await?;
    }
    listener.until("the others", |l| bodies(&l.events(), "c") == ["m-0", "m-2"]).await?;
    let (_, answer) = gateway.api("GET", "/api/v1/webhooks", None).await?;
    ensure!(answer["aside"] == 1 && answer["events"][0]["data"]["body"] == "m-1", "{answer}");
    let id = answer["events"][0]["id"].as_str().context("no id")?.to_owned();
    let listed = webhooks(&gateway, &["list"])?;
    ensure!(listed.contains("given up: 1") && listed.contains(&id), "{listed}");
    mended.store(true, Ordering::SeqCst);
    ensure!(webhooks(&gateway, &["retry"])?.trim() == "told again: 1");
    listener.until("all", |l| bodies(&l.events(), "c") == ["m-0", "m-2", "m-1"]).await?;
    ensure!(listener.times().get(&id) == Some(&1), "the id is another one");
    until(&gateway, |page| page.sum("parlance_webhook_given_up_total", &[]) == 1.0).await?;
    let (_, answer) = gateway.api("GET", "/api/v1/webhooks", None).await?;
    ensure!(answer["aside"] == 0 && answer["events"] == json!([]), "{answer}");
    Ok(())
}

#[tokio::test]
async fn parts_that_are_refused_take_no_turn_from_others() -> Result<()> {
    let redis = Server::standalone().await?;
    let listener = Listener::deciding(|_, call| {
        let poison = call["events"].as_array().into_iter().flatten().any(|e| e["data"]["body"] == "poison");
        Some(if poison { 422 } else { 200 })
    })
    .await?;
    // Whoever is refused waits for longer than this test does, and there is one turn.
    let more = "max_in_flight = 1\nevents = [\"message.accepted\"]";
    let options = listener.told_by(more).env("PARLANCE_REDIS_URL", &redis.url());
    let waits = [("PARLANCE_WEBHOOKS_BACKOFF_MS", "600000"), ("PARLANCE_WEBHOOKS_BACKOFF_MAX_MS", "600000")];
    let gateway = Gateway::start(waits.iter().fold(options, |it, (name, value)| it.env(name, value))).await?;
    let mut alice = connect(&gateway, "alice").await?;
    for place in ["p-1", "p-2"] {
        say(&mut alice, "poison", place, &["bob"]).await?;
    }
    listener.backend().until_asked(2).await?;
    for place in ["c-1", "c-2", "c-3"] {
        say(&mut alice, "m-1", place, &["bob"]).await?;
    }
    listener.until("the others", |l| l.of("message.accepted").len() == 3).await
}
