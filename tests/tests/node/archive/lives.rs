//! Nobody is shown anything of a conversation's earlier life, whatever the archive knows of its end.

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, Options, Postgres};
use serde_json::json;

use super::story::{Page, short};
use crate::webhooks::connect;

/// An id that is its own number: messages of both lives have ids of the same kind.
const PLACE: &str = "/api/v1/conversations/77";

async fn say(gateway: &Gateway, from: usize, to: usize, body: &str) -> Result<()> {
    for n in from..to {
        let message = json!({ "senderId": "alice", "body": format!("{body}-{n}") });
        gateway.call("POST", &format!("{PLACE}/messages"), Some(&message)).await?;
    }
    Ok(())
}

async fn shown(gateway: &Gateway, query: &str) -> Result<Page> {
    let answer = gateway.read("bob", &format!("{PLACE}/messages?limit=200&{query}")).await?;
    Ok(serde_json::from_str(&answer.to_string())?)
}

/// `archived`: whether the archive hears of the end of the first life.
async fn is_gone(options: &Options, silent: &Options, postgres: &Postgres, archived: bool) -> Result<()> {
    let mut gateway = Gateway::start(options.clone()).await?;
    gateway.conversation("77", &["alice", "bob"]).await?;
    say(&gateway, 0, 80, "secret").await?;
    let count = |of: &str| format!("SELECT count(*) FROM parlance.messages WHERE body LIKE '{of}%'");
    postgres.until(&count("secret"), 80).await?;
    ensure!(shown(&gateway, "").await?.messages.len() == 80);
    let old = shown(&gateway, "").await?;
    if !archived {
        gateway.kill9()?;
        gateway = Gateway::start(silent.clone()).await?;
    }
    gateway.api("DELETE", PLACE, None).await?;
    ensure!(gateway.read("bob", &format!("{PLACE}/messages")).await.is_err(), "it is gone");
    gateway.conversation("77", &["bob", "alice"]).await?;
    let mut bob = connect(&gateway, "bob").await?;
    say(&gateway, 0, 70, "new").await?;
    if archived {
        postgres.until(&count("new"), 70).await?;
    }
    let first = bob.expect("message:received").await?;
    ensure!(first["body"] == "new-0", "{first}");
    let is_new = |bodies: &[String]| bodies.iter().all(|body| body.starts_with("new"));
    let oldest: serde_json::Value = serde_json::from_str(old.messages[0].get())?;
    let id = oldest["id"].as_str().unwrap_or_default().to_owned();
    for query in ["", "since=2001-01-01T00:00:00Z", &format!("after={id}"), &format!("before={id}")] {
        let page = shown(&gateway, query).await?;
        let bodies = page.bodies()?;
        ensure!(is_new(&bodies), "{query}: {bodies:?}");
        ensure!(!archived || query.starts_with("before") || bodies.len() == 70, "{query}: {}", bodies.len());
    }
    let mut alice = connect(&gateway, "alice").await?;
    alice.send(&json!({ "type": "request_queued_events", "sessionId": "alice" })).await?;
    let queued = alice.expect("queued_events").await?;
    ensure!(!queued.to_string().contains("secret"), "{queued}");
    Ok(())
}

#[tokio::test]
async fn on_the_embedded_engine_an_earlier_life_is_gone() -> Result<()> {
    let postgres = Postgres::start().await?;
    let options = short(&postgres, "");
    is_gone(&options, &options, &postgres, true).await
}

#[tokio::test]
async fn on_redis_an_earlier_life_is_gone_also_where_its_end_is_not_archived() -> Result<()> {
    let (postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    let options = short(&postgres, "").env("PARLANCE_REDIS_URL", &redis.url());
    let silent = short(&postgres, "run = false").env("PARLANCE_REDIS_URL", &redis.url());
    is_gone(&options, &silent, &postgres, false).await
}

/// A Redis that lost everything knows of no earlier life: the log begins at its first place again, below where that one ended.
#[tokio::test]
async fn on_a_redis_that_was_emptied_the_end_of_an_earlier_life_hides_nothing_of_the_new_one() -> Result<()> {
    let (postgres, mut redis) = (Postgres::start().await?, Server::standalone().await?);
    let options = short(&postgres, "").env("PARLANCE_REDIS_URL", &redis.url());
    let mut gateway = Gateway::start(options.clone()).await?;
    gateway.conversation("77", &["alice", "bob"]).await?;
    say(&gateway, 0, 130, "secret").await?;
    gateway.api("DELETE", PLACE, None).await?;
    let ends = "SELECT count(*) FROM parlance.entries WHERE kind = 'deleted'";
    postgres.until(ends, 1).await?;
    // A log that begins anew is known by the second it begins in.
    postgres.until(&format!("{ends} AND epoch < floor(extract(epoch FROM clock_timestamp()))"), 1).await?;
    gateway.kill9()?;
    redis.restart_empty().await?;
    let gateway = Gateway::start(options).await?;
    gateway.conversation("77", &["bob", "alice"]).await?;
    say(&gateway, 0, 100, "new").await?;
    postgres.until("SELECT count(*) FROM parlance.messages WHERE body LIKE 'new%'", 100).await?;
    ensure!(postgres.number(ends).await? == 1, "the new log has come to where the old one ended");
    let expected: Vec<String> = (0..100).map(|n| format!("new-{n}")).collect();
    for query in ["", "since=2001-01-01T00:00:00Z"] {
        let page = shown(&gateway, query).await?;
        let bodies = page.bodies()?;
        ensure!(bodies == expected && !page.has_more && !page.truncated, "{query}: {bodies:?}");
    }
    Ok(())
}
