//! Where an outbox may lie: a Cluster, and a database in which nobody may do more than has to be.

use anyhow::{Context, Result, bail, ensure};
use parlance_redis_rig::{Cluster, Server};
use parlance_tests::{Gateway, Options};
use serde_json::json;

use super::{STREAM, add, bodies, insert, said, table, until_empty};

/// At whichever server has the key.
async fn at_owner(cluster: &Cluster, words: &[&str]) -> Result<String> {
    for server in cluster.servers() {
        match server.command(words).await {
            Ok(answer) if !answer.contains("MOVED") => return Ok(answer),
            Err(error) if !error.to_string().contains("MOVED") => return Err(error),
            _ => {}
        }
    }
    bail!("nobody has it")
}

#[tokio::test]
async fn a_stream_may_lie_in_the_cluster_of_the_nodes() -> Result<()> {
    let cluster = Cluster::with(3, 0).await?;
    let url = cluster.url();
    let options = Options::default().env("PARLANCE_REDIS_URL", &url).env("PARLANCE_OUTBOX_STREAM", STREAM);
    let gateway = Gateway::start(options).await?;
    gateway.conversation("c", &["alice"]).await?;
    for text in ["one", "two"] {
        for to in ["c", "nowhere"] {
            let body = json!({ "senderId": "alice", "body": text }).to_string();
            let words = ["XADD", STREAM, "*", "call", "message", "target", to, "body", &body];
            at_owner(&cluster, &words).await?;
        }
    }
    let environment = [("PARLANCE_REDIS_URL", url.as_str()), ("PARLANCE_OUTBOX_STREAM", STREAM)];
    parlance_tests::metrics::until(&gateway, |page| {
        page.sum("parlance_app_outbox_aside_events", &[("source", "stream")]) == 2.0
    })
    .await?;
    ensure!(bodies(&gateway, "c").await? == ["one", "two"]);
    let status = said(&["status"], &environment)?;
    ensure!(status.contains("stream: waiting: 0\nstream: refused: 2\n"), "{status}");
    gateway.conversation("nowhere", &["alice"]).await?;
    ensure!(said(&["retry"], &environment)? == "stream: tried again: 2\n");
    parlance_tests::metrics::until(&gateway, |page| {
        page.sum("parlance_app_outbox_events_total", &[("source", "stream"), ("outcome", "published")]) == 4.0
    })
    .await?;
    ensure!(bodies(&gateway, "nowhere").await? == ["one", "two"]);
    Ok(())
}

/// Waits until a node has said it.
pub async fn until_logged(gateway: &Gateway, line: &str) -> Result<()> {
    let said = async {
        while !gateway.log().contains(line) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(parlance_tests::PATIENCE, said).await.with_context(|| gateway.log())
}

#[tokio::test]
async fn a_login_that_may_not_take_away_what_is_published_publishes_nothing() -> Result<()> {
    let redis = Server::standalone().await?;
    let rule = ["ACL", "SETUSER", "gateway", "on", ">pass", "~outbox", "~{outbox}:*", "+@all", "-xdel"];
    redis.command(&rule).await?;
    let url = redis.url().replace("redis://", "redis://gateway:pass@");
    let options = Options::brief().env("PARLANCE_OUTBOX_STREAM", STREAM);
    let gateway = Gateway::start(options.env("PARLANCE_OUTBOX_REDIS_URL", &url)).await?;
    gateway.conversation("c", &["alice"]).await?;
    add(&redis, "message", Some("c"), Some(&json!({ "senderId": "alice", "body": "one" }))).await?;
    until_logged(&gateway, "this user may not XDEL outbox").await?;
    ensure!(bodies(&gateway, "c").await?.is_empty(), "it is said again and again");
    redis.command(&["ACL", "SETUSER", "gateway", "+xdel"]).await?;
    until_empty(&redis).await?;
    ensure!(bodies(&gateway, "c").await? == ["one"]);
    Ok(())
}

#[tokio::test]
async fn the_rights_that_are_documented_are_enough_and_without_them_nothing_is_said_twice() -> Result<()> {
    let postgres = table().await?;
    let rights = "CREATE ROLE app LOGIN; CREATE ROLE gateway LOGIN;
        GRANT USAGE ON SCHEMA parlance TO app, gateway;
        GRANT INSERT ON parlance.outbox TO app;
        GRANT SELECT, DELETE ON parlance.outbox TO gateway;";
    postgres.rows(rights).await?;
    let url = postgres.url().replace("parlance@", "gateway@");
    let gateway = Gateway::start(Options::brief().env("PARLANCE_OUTBOX_URL", &url)).await?;
    gateway.conversation("c", &["alice"]).await?;
    let row = insert("message", Some("c"), Some(&json!({ "senderId": "alice", "body": "one" })));
    postgres.rows(&format!("SET ROLE app; {row}")).await?;
    until_logged(&gateway, "permission denied for table outbox").await?;
    ensure!(bodies(&gateway, "c").await?.is_empty(), "it is said again and again");
    postgres.rows("GRANT UPDATE ON parlance.outbox TO gateway").await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    ensure!(bodies(&gateway, "c").await? == ["one"]);
    Ok(())
}
