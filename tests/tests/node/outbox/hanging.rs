//! A PostgreSQL that does not answer, or not in time: nobody waits for it for ever, and nothing is said twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Faults, Proxy, Server};
use parlance_tests::{Gateway, Options, PATIENCE, Postgres};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{bodies, insert, table};

const LEADER: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";

fn row(text: &str) -> String {
    insert("message", Some("c"), Some(&json!({ "senderId": "alice", "body": text })))
}

/// Waits until a node has said it: a statement may take ten seconds.
async fn until_logged(node: &Gateway, line: &str) -> Result<()> {
    let said = async {
        while !node.log().contains(line) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE * 3, said).await.with_context(|| node.log())
}

async fn node_at(url: &str, redis: Option<&Server>) -> Result<Gateway> {
    let options = Options::default().env("PARLANCE_OUTBOX_URL", url);
    Gateway::start(match redis {
        Some(redis) => options.env("PARLANCE_REDIS_URL", &redis.url()),
        None => options.env("PARLANCE_ACK_LEVEL", "memory"),
    })
    .await
}

/// The way of one node, and where it leads.
async fn way(postgres: &Postgres) -> Result<(Proxy, String)> {
    let url = url::Url::parse(&postgres.url())?;
    let proxy = Proxy::start(url.port().context("no port")?, 1).await?;
    let there = postgres
        .url()
        .replace(&format!(":{}", url.port().unwrap_or_default()), &format!(":{}", proxy.port()));
    Ok((proxy, there))
}

/// A session from which nothing comes PostgreSQL ends, and with it the lead: another node goes on though this one still stands.
#[tokio::test]
async fn a_leader_that_postgresql_hears_nothing_of_is_replaced_and_says_nothing_twice() -> Result<()> {
    let (postgres, redis) = (table().await?, Server::standalone().await?);
    let (proxy, there) = way(&postgres).await?;
    let lost = node_at(&there, Some(&redis)).await?;
    postgres.until(LEADER, 1).await?;
    lost.conversation("c", &["alice"]).await?;
    let other = node_at(&postgres.url(), Some(&redis)).await?;
    postgres.rows(&row("one")).await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    proxy.set(Faults { freeze: true, ..Faults::default() });
    postgres.rows(&row("two")).await?;
    let began = Instant::now();
    until_logged(&lost, "no answer in time").await?;
    ensure!(began.elapsed() > Duration::from_secs(5), "it was not asked");
    // What arrives in the end is of a session that is over.
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    ensure!(began.elapsed() > Duration::from_secs(20), "the lead was taken from who still had it");
    proxy.heal();
    drop(other);
    postgres.rows(&row("three")).await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    ensure!(bodies(&lost, "c").await? == ["one", "two", "three"]);
    ensure!(lost.log().contains("the outbox is back"), "{}", lost.log());
    Ok(())
}

/// A table that somebody holds: the statement ends by itself, on both sides, and comes again.
#[tokio::test]
async fn a_table_that_is_held_is_given_up_in_time_and_looked_at_again() -> Result<()> {
    let postgres = table().await?;
    let node = node_at(&postgres.url(), None).await?;
    node.conversation("c", &["alice"]).await?;
    let held = format!("BEGIN; LOCK TABLE parlance.outbox; {} SELECT pg_sleep(600); COMMIT;", row("never"));
    let holds = postgres.rows(&held);
    let meanwhile = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'parlance-outbox' AND wait_event_type = 'Lock'";
        postgres.until(waits, 1).await?;
        until_logged(&node, "canceling statement due to").await?;
        // Nothing of it is left waiting there when it has been given up.
        let none = async {
            while postgres.number(waits).await? > 0 {
                sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        timeout(Duration::from_secs(2), none).await.context("it still waits")??;
        postgres
            .rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            .await
    };
    let (held, ended) = tokio::join!(holds, meanwhile);
    ended?;
    ensure!(held.is_err(), "it was ended");
    postgres.rows(&row("one")).await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    ensure!(bodies(&node, "c").await? == ["one"]);
    Ok(())
}
