//! What was put aside of a conversation that is over and forgotten stays away, and its next life is whole.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{API_KEY, Gateway, PATIENCE, Postgres, Ws};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::command::said;
use super::kept_in;
use crate::webhooks::{connect, say};

const TABLES: [&str; 7] = [
    "conversations",
    "messages",
    "superseded_messages",
    "entries",
    "reaction_states",
    "memberships",
    "receipts",
];

/// Rows of a conversation, by table; of those that have any.
async fn rows(postgres: &Postgres, id: &str) -> Result<Vec<(&'static str, i64)>> {
    let mut found = Vec::new();
    for table in TABLES {
        let column = if table == "conversations" { "id" } else { "conversation" };
        let sql = format!("SELECT count(*) FROM parlance.{table} WHERE {column} = '{id}'");
        found.push((table, postgres.number(&sql).await?));
    }
    found.retain(|(_, count)| *count > 0);
    Ok(found)
}

/// Refuses, and takes again, what is said and read in the conversation.
async fn refuse(postgres: &Postgres, whether: bool) -> Result<()> {
    for (table, rule) in [("messages", "body <> 'm-1'"), ("receipts", "read_seq IS NULL")] {
        let change = if whether {
            format!("ADD CONSTRAINT mine CHECK ({rule}) NOT VALID")
        } else {
            "DROP CONSTRAINT mine".to_owned()
        };
        postgres.rows(&format!("ALTER TABLE parlance.{table} {change}")).await?;
    }
    Ok(())
}

fn retry(gateway: &Gateway) -> Result<String> {
    let url = format!("http://{}", gateway.internal_address());
    said(&format!("retry --url {url}"), &[("PARLANCE_API_KEY", API_KEY)])
}

/// Waits until nothing is on its way any more, and so many steps lie aside.
async fn until_settled(gateway: &Gateway, aside: u64) -> Result<()> {
    let settled = async {
        loop {
            let told = gateway.call("GET", "/api/v1/archive", None).await?;
            if told["waiting"] == 0 && told["aside"] == aside {
                return anyhow::Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE * 6, settled).await.with_context(|| gateway.log())?
}

/// Bob has read what alice said.
async fn read(bob: &mut Ws, id: &str) -> Result<()> {
    while bob.expect("message:received").await?["body"] != id {}
    let read = json!({ "type": "receipt:read", "messageId": id, "conversationId": "c", "fromUserId": "bob", "toUserId": "alice" });
    bob.send(&read).await
}

async fn stays_away(gateway: &Gateway, postgres: &Postgres) -> Result<()> {
    let url = postgres.url();
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str())];
    let (mut alice, mut bob) = (connect(gateway, "alice").await?, connect(gateway, "bob").await?);
    say(&mut alice, "m-0", "c", &["bob"]).await?;
    until_settled(gateway, 0).await?;
    refuse(postgres, true).await?;
    say(&mut alice, "m-1", "c", &["bob"]).await?;
    read(&mut bob, "m-1").await?;
    // Each is tried for some seconds, one after the other.
    until_settled(gateway, 2).await?;
    refuse(postgres, false).await?;
    // The end is written, and all there was is forgotten.
    gateway.call("DELETE", "/api/v1/conversations/c", None).await?;
    postgres
        .until("SELECT count(*) FROM parlance.conversations WHERE id = 'c' AND deleted_at IS NOT NULL", 1)
        .await?;
    until_settled(gateway, 2).await?;
    let gone = said("forget --conversation c", &environment)?;
    ensure!(gone.contains("forgotten: 1 of conversations\n") && gone.contains("1 of messages\n"), "{gone}");
    ensure!(rows(postgres, "c").await?.is_empty());
    let again = retry(gateway)?;
    let count: u32 = again.trim().rsplit(' ').next().context("no count")?.parse()?;
    ensure!(count >= 2, "{again}");
    until_settled(gateway, 0).await?;
    ensure!(rows(postgres, "c").await?.is_empty(), "{:?}", rows(postgres, "c").await?);
    // The next life is written, with its beginning, its members and its receipts.
    gateway.conversation("c", &["alice", "bob"]).await?;
    say(&mut alice, "m-2", "c", &["bob"]).await?;
    read(&mut bob, "m-2").await?;
    until_settled(gateway, 0).await?;
    let known = "SELECT count(*) FROM parlance.conversations WHERE id = 'c' AND created_at IS NOT NULL AND deleted_at IS NULL";
    ensure!(postgres.number(known).await? == 1);
    let ids = postgres.rows("SELECT client_id FROM parlance.messages WHERE conversation = 'c'").await?;
    ensure!(ids == [["m-2"]], "{ids:?}");
    let members = "SELECT count(*) FROM parlance.memberships WHERE conversation = 'c' AND is_member";
    ensure!(postgres.number(members).await? == 2);
    postgres
        .until("SELECT count(*) FROM parlance.receipts WHERE conversation = 'c' AND user_id = 'bob'", 1)
        .await?;
    Ok(())
}

#[tokio::test]
async fn on_the_embedded_engine_what_is_over_and_forgotten_stays_away() -> Result<()> {
    let postgres = Postgres::start().await?;
    stays_away(&Gateway::start(kept_in(&postgres, "")).await?, &postgres).await
}

#[tokio::test]
async fn on_redis_what_is_over_and_forgotten_stays_away() -> Result<()> {
    let (postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    let options = kept_in(&postgres, "").env("PARLANCE_REDIS_URL", &redis.url());
    stays_away(&Gateway::start(options).await?, &postgres).await
}
