//! What keeps events from going, and what goes nevertheless.

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::metrics::{Samples, until};
use parlance_tests::{Gateway, Options};
use serde_json::{Value, json};

use super::places::until_logged;
use super::{STREAM, WAITING, add, bodies, insert, length, of_stream, of_table, said, table, until_empty};

const EVENTS: &str = "parlance_app_outbox_events_total";

/// More than one page has, and more than are tried at once.
const MANY: usize = 120;

#[tokio::test]
async fn what_maintenance_lets_through_goes_though_very_much_waits_in_front_of_it() -> Result<()> {
    let postgres = table().await?;
    let node = Gateway::start(of_table(&postgres).env("PARLANCE_OUTBOX_BATCH", "50")).await?;
    for n in 0..MANY {
        node.conversation(&format!("c-{n}"), &["alice"]).await?;
    }
    let mut bob = node.connect("/ws", "bob").await?;
    node.call("PUT", "/api/v1/maintenance", Some(&json!({ "enabled": true }))).await?;
    let body = json!({ "senderId": "alice", "body": "hello" });
    let rows: String = (0..MANY).map(|n| insert("message", Some(&format!("c-{n}")), Some(&body))).collect();
    postgres.rows(&rows).await?;
    until(&node, |page| page.sum(EVENTS, &[("call", "message"), ("outcome", "later")]) >= 8.0).await?;
    let behind = insert("disconnect", Some("bob"), None)
        + &insert("revoke", None, Some(&json!({ "user": "bob" })))
        + &insert("conversation", None, Some(&json!({ "id": "new", "type": "group", "members": ["bob"] })));
    postgres.rows(&behind).await?;
    postgres.until(WAITING, i64::try_from(MANY)?).await?;
    bob.closed().await?;
    ensure!(node.call("GET", "/api/v1/conversations/new", None).await?["members"] == json!(["bob"]));
    node.call("PUT", "/api/v1/maintenance", Some(&json!({ "enabled": false }))).await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    for n in [0, MANY / 2, MANY - 1] {
        ensure!(bodies(&node, &format!("c-{n}")).await? == ["hello"]);
    }
    Ok(())
}

#[tokio::test]
async fn what_a_body_says_is_neither_logged_nor_noted_nor_answered() -> Result<()> {
    let postgres = table().await?;
    let node = Gateway::start(of_table(&postgres).env("PARLANCE_LOG_LEVEL", "debug")).await?;
    node.conversation("c", &["alice"]).await?;
    // Encoded twice, as it happens.
    let twice = Value::String(json!({ "senderId": "alice", "body": "numbat" }).to_string());
    let nested = json!({ "senderId": "alice", "body": ["numbat"] });
    let other = json!({ "senderId": "alice", "body": "hello", "type": "numbat" });
    for body in [&twice, &nested, &other] {
        postgres.rows(&insert("message", Some("c"), Some(body))).await?;
        let path = "/api/v1/conversations/c/messages";
        let (status, answer) = node.api("POST", path, Some(body)).await?;
        ensure!(status == 400 && !answer.to_string().contains("numbat"), "{status} {answer}");
    }
    postgres.until(WAITING, 0).await?;
    let noted = postgres.rows("SELECT refusal FROM parlance.outbox ORDER BY id").await?.concat();
    ensure!(noted.len() == 3 && noted[0].starts_with("invalid type, expected"), "{noted:?}");
    ensure!(!noted.concat().contains("numbat"), "{noted:?}");
    let id = noted[0].rsplit_once('(').map(|(_, id)| id.trim_end_matches(')').to_owned()).unwrap_or_default();
    let explained = node.call("GET", &format!("/api/v1/explain/{id}"), None).await?;
    ensure!(explained["found"] == true && !explained.to_string().contains("numbat"), "{explained}");
    ensure!(!node.log().contains("numbat"), "{}", node.log());
    Ok(())
}

#[tokio::test]
async fn a_full_redis_is_led_and_what_is_in_it_is_published_and_put_aside() -> Result<()> {
    let redis = Server::standalone().await?;
    let body = json!({ "senderId": "alice", "body": "one" });
    let made = json!({ "id": "c", "type": "group", "members": ["alice"] });
    add(&redis, "message", Some("nowhere"), Some(&body)).await?;
    add(&redis, "conversation", None, Some(&made)).await?;
    add(&redis, "message", Some("c"), Some(&body)).await?;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    ensure!(
        redis.command(&["SET", "more", "memory"]).await.is_err_and(|why| why.to_string().contains("OOM"))
    );
    let node = Gateway::start(of_stream(&redis)).await?;
    until_empty(&redis).await?;
    ensure!(bodies(&node, "c").await? == ["one"]);
    ensure!(length(&redis, &format!("{{{STREAM}}}:refused")).await? == 1);
    Ok(())
}

#[tokio::test]
async fn what_was_refused_is_put_back_whole_and_in_order_where_redis_is_full() -> Result<()> {
    let redis = Server::standalone().await?;
    let node = Gateway::start(of_stream(&redis)).await?;
    let (aside, url) = (format!("{{{STREAM}}}:refused"), redis.url());
    let say = |text: String| json!({ "senderId": "alice", "body": text });
    for n in 0..MANY {
        add(&redis, "message", Some("nowhere"), Some(&say(n.to_string()))).await?;
    }
    add(&redis, "message", Some("never"), Some(&say("x".repeat(1_000)))).await?;
    until_empty(&redis).await?;
    ensure!(length(&redis, &aside).await? == MANY + 1);
    node.conversation("nowhere", &["alice"]).await?;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    let refused = add(&redis, "message", Some("nowhere"), Some(&say("more".to_owned()))).await;
    ensure!(refused.is_err_and(|why| why.to_string().contains("OOM")));
    let environment = [("PARLANCE_OUTBOX_STREAM", STREAM), ("PARLANCE_OUTBOX_REDIS_URL", url.as_str())];
    // One by its id, and then all: what is refused once more lies aside once more, and once only.
    let first = redis.command(&["XRANGE", &aside, "-", "+", "COUNT", "1"]).await?;
    let first = first.lines().next().unwrap_or_default().to_owned();
    ensure!(said(&["retry", "--id", &first], &environment)? == "stream: tried again: 1\n");
    until_empty(&redis).await?;
    ensure!(said(&["retry"], &environment)? == format!("stream: tried again: {MANY}\n"));
    until_empty(&redis).await?;
    ensure!(bodies(&node, "nowhere").await? == (0..MANY).map(|n| n.to_string()).collect::<Vec<_>>());
    ensure!(length(&redis, &aside).await? == 1);
    Ok(())
}

#[tokio::test]
async fn a_login_that_changes_is_taken_over() -> Result<()> {
    let redis = Server::standalone().await?;
    let rule = ["ACL", "SETUSER", "gateway", "on", ">one", "~outbox", "~{outbox}:*", "+@all"];
    redis.command(&rule).await?;
    let with = |password: &str| {
        let url = redis.url().replace("redis://", &format!("redis://gateway:{password}@"));
        format!("[outbox]\nstream = \"{STREAM}\"\nredis_url = \"{url}\"\n")
    };
    let node = Gateway::start(Options::brief().config(&with("one"))).await?;
    node.conversation("c", &["alice"]).await?;
    let say = async |text: &str| {
        add(&redis, "message", Some("c"), Some(&json!({ "senderId": "alice", "body": text }))).await
    };
    say("one").await?;
    until_empty(&redis).await?;
    redis.command(&["ACL", "SETUSER", "gateway", "resetpass", ">two"]).await?;
    redis.command(&["CLIENT", "KILL", "USER", "gateway"]).await?;
    say("two").await?;
    until_logged(&node, "the outbox cannot be read").await?;
    node.reload(&with("two")).await?;
    until_empty(&redis).await?;
    ensure!(bodies(&node, "c").await? == ["one", "two"]);
    Ok(())
}

#[tokio::test]
async fn who_may_settle_no_more_publishes_no_more() -> Result<()> {
    let postgres = table().await?;
    let rights = "CREATE ROLE gateway LOGIN; GRANT USAGE ON SCHEMA parlance TO gateway;
        GRANT SELECT, UPDATE, DELETE ON parlance.outbox TO gateway;";
    postgres.rows(rights).await?;
    let url = postgres.url().replace("parlance@", "gateway@");
    let node = Gateway::start(Options::brief().env("PARLANCE_OUTBOX_URL", &url)).await?;
    node.conversation("c", &["alice"]).await?;
    let row = insert("message", Some("c"), Some(&json!({ "senderId": "alice", "body": "one" })));
    postgres.rows(&row).await?;
    postgres.until(WAITING, 0).await?;
    // Together, so that the first attempt finds it so.
    postgres.rows(&format!("BEGIN; REVOKE DELETE ON parlance.outbox FROM gateway; {row} COMMIT;")).await?;
    until_logged(&node, "permission denied for table outbox").await?;
    // It tries to lead again meanwhile, and may not.
    let rollbacks = "SELECT xact_rollback FROM pg_stat_database WHERE datname = 'postgres'";
    let enough = postgres.number(rollbacks).await? + 2;
    postgres.until(&format!("SELECT (({rollbacks}) >= {enough})::int"), 1).await?;
    ensure!(Samples::of(&node).await?.sum(EVENTS, &[("outcome", "repeated")]) == 0.0);
    postgres.rows("GRANT DELETE ON parlance.outbox TO gateway").await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    ensure!(bodies(&node, "c").await? == ["one", "one"]);
    ensure!(Samples::of(&node).await?.sum(EVENTS, &[("outcome", "repeated")]) == 1.0);
    Ok(())
}

#[tokio::test]
async fn what_is_carried_out_while_a_node_stops_is_settled() -> Result<()> {
    const ALL: usize = 3_000;
    const PLACES: usize = 5;
    let postgres = table().await?;
    let mut node = Gateway::start(of_table(&postgres)).await?;
    for at in 0..PLACES {
        node.conversation(&format!("c-{at}"), &["alice"]).await?;
    }
    let place = |n: usize| format!("c-{}", n % PLACES);
    let say = |n: usize| {
        insert("message", Some(&place(n)), Some(&json!({ "senderId": "alice", "body": n.to_string() })))
    };
    postgres.rows(&(0..ALL).map(say).collect::<String>()).await?;
    until(&node, |page| page.sum(EVENTS, &[("outcome", "published")]) >= 1.0).await?;
    ensure!(node.sigterm().await?.success());
    let left = f64::from(u32::try_from(postgres.number(WAITING).await?)?);
    node.restart().await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    until(&node, |page| page.sum(EVENTS, &[("outcome", "published")]) == left).await?;
    for at in 0..PLACES {
        ensure!(bodies(&node, &place(at)).await?.len() == ALL / PLACES);
    }
    Ok(())
}

#[tokio::test]
async fn where_nobody_is_to_publish_that_shows() -> Result<()> {
    let postgres = table().await?;
    let options = of_table(&postgres).env("PARLANCE_OUTBOX_RUN", "false");
    let node = Gateway::start(options).await?;
    let page = Samples::of(&node).await?;
    let shown = page.all.iter().filter(|sample| sample.name == "parlance_app_outbox_leads");
    ensure!(shown.map(|sample| sample.value).collect::<Vec<_>>() == [0.0], "{}", page.text);
    Ok(())
}
