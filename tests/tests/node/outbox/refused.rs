//! What is refused lies aside with the reason, holds up nothing, and is published when it was put right.

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::Gateway;
use parlance_tests::metrics::until;
use serde_json::json;

use super::{STREAM, WAITING, add, bodies, insert, length, of_stream, of_table, said, table, until_empty};

#[tokio::test]
async fn rows_are_put_aside_and_tried_again() -> Result<()> {
    let postgres = table().await?;
    let gateway = Gateway::start(of_table(&postgres).env("PARLANCE_LIMITS_HTTP_BODY_BYTES", "70000")).await?;
    gateway.conversation("c", &["alice"]).await?;
    let message = |to: &str, by: &str, text: &str| {
        insert("message", Some(to), Some(&json!({ "senderId": by, "body": text })))
    };
    let all = [
        message("c", "alice", "one"),
        message("c", "mallory", "of a stranger"),
        message("nowhere", "alice", "to nobody"),
        insert("message", Some("c"), Some(&json!({ "senderId": "alice" }))),
        message("c", "alice", &"x".repeat(70_001)),
        insert("publish", None, Some(&json!({ "channel": "feed:x", "type": "message", "payload": 1 }))),
        message("c", "alice", "two"),
    ];
    postgres.rows(&all.concat()).await?;
    postgres.until(WAITING, 0).await?;
    ensure!(bodies(&gateway, "c").await? == ["one", "two"]);
    let codes = postgres.rows("SELECT refusal_code, refusals FROM parlance.outbox ORDER BY id").await?;
    ensure!(
        codes
            == [
                ["FORBIDDEN", "1"],
                ["NOT_FOUND", "1"],
                ["INVALID_REQUEST", "1"],
                ["PAYLOAD_TOO_LARGE", "1"],
                ["INVALID_REQUEST", "1"]
            ],
        "{codes:?}"
    );
    ensure!(!gateway.log().contains("of a stranger"), "a body is in the log");
    let environment = [("PARLANCE_OUTBOX_URL", postgres.url())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let status = said(&["status", "--limit", "2"], &environment)?;
    ensure!(status.contains("table: waiting: 0\ntable: refused: 5\n"), "{status}");
    ensure!(status.contains("message c  FORBIDDEN: ") && !status.contains("publish"), "{status}");
    // What is refused can be asked about as over HTTP.
    let reason =
        postgres.rows("SELECT refusal FROM parlance.outbox ORDER BY id LIMIT 1").await?.concat().concat();
    let id = reason.rsplit_once('(').map(|(_, id)| id.trim_end_matches(')').to_owned()).unwrap_or_default();
    let explained = gateway.call("GET", &format!("/api/v1/explain/{id}"), None).await?;
    ensure!(explained["found"] == true && explained.to_string().contains("outbox message c"), "{explained}");
    gateway.conversation("nowhere", &["alice"]).await?;
    let change = json!({ "addMembers": ["mallory"] });
    gateway.call("PATCH", "/api/v1/conversations/c", Some(&change)).await?;
    let first = postgres.number("SELECT min(id) FROM parlance.outbox").await?.to_string();
    ensure!(said(&["retry", "--id", &first], &environment)? == "table: tried again: 1\n");
    postgres.until("SELECT count(*) FROM parlance.outbox", 4).await?;
    ensure!(bodies(&gateway, "c").await? == ["one", "two", "of a stranger"]);
    ensure!(said(&["retry"], &environment)? == "table: tried again: 4\n");
    postgres.until("SELECT count(*) FROM parlance.outbox WHERE refusals = 2", 3).await?;
    ensure!(bodies(&gateway, "nowhere").await? == ["to nobody"]);
    Ok(())
}

#[tokio::test]
async fn the_table_takes_nothing_that_is_no_event() -> Result<()> {
    let postgres = table().await?;
    for row in [
        "INSERT INTO parlance.outbox (call, target) VALUES ('shout', 'c')",
        "INSERT INTO parlance.outbox (call, body) VALUES ('message', '{}')",
        "INSERT INTO parlance.outbox (call, target, body) VALUES ('publish', 'c', '{}')",
        "INSERT INTO parlance.outbox (call, body) VALUES ('publish', '{')",
        "INSERT INTO parlance.outbox (key, call, body) VALUES ('a b', 'publish', '{}')",
    ] {
        ensure!(postgres.rows(row).await.is_err(), "{row}");
    }
    Ok(())
}

#[tokio::test]
async fn entries_are_put_aside_and_tried_again() -> Result<()> {
    let redis = Server::standalone().await?;
    let gateway = Gateway::start(of_stream(&redis)).await?;
    gateway.conversation("c", &["alice"]).await?;
    let body = |text: &str| json!({ "senderId": "alice", "body": text });
    add(&redis, "message", Some("c"), Some(&body("one"))).await?;
    add(&redis, "message", Some("nowhere"), Some(&body("to nobody"))).await?;
    add(&redis, "shout", None, None).await?;
    redis.command(&["XADD", STREAM, "*", "something", "else"]).await?;
    add(&redis, "message", Some("c"), Some(&body("two"))).await?;
    until_empty(&redis).await?;
    ensure!(bodies(&gateway, "c").await? == ["one", "two"]);
    let aside = format!("{{{STREAM}}}:refused");
    ensure!(length(&redis, &aside).await? == 3);
    let url = redis.url();
    let environment = [("PARLANCE_OUTBOX_STREAM", STREAM), ("PARLANCE_OUTBOX_REDIS_URL", url.as_str())];
    let status = said(&["status"], &environment)?;
    ensure!(status.contains("stream: waiting: 0\nstream: refused: 3\n"), "{status}");
    ensure!(status.contains("message nowhere  NOT_FOUND: there is no such conversation"), "{status}");
    ensure!(status.contains("INVALID_REQUEST: there is no call \"shout\""), "{status}");
    gateway.conversation("nowhere", &["alice"]).await?;
    ensure!(said(&["retry"], &environment)? == "stream: tried again: 3\n");
    until_empty(&redis).await?;
    ensure!(bodies(&gateway, "nowhere").await? == ["to nobody"]);
    ensure!(length(&redis, &aside).await? == 2);
    // Keys are those that they had: nothing of it is another event.
    let kept = redis.command(&["XRANGE", &aside, "-", "+"]).await?;
    ensure!(kept.matches("outbox:").count() == 2, "{kept}");
    until(&gateway, |page| page.sum("parlance_app_outbox_aside_events", &[("source", "stream")]) == 2.0)
        .await?;
    Ok(())
}
