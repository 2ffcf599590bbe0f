//! Every event is heard once and in order, whoever is killed meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::{Kind, Server, Setup};
use parlance_tests::metrics::Samples;
use parlance_tests::{Gateway, Options, PATIENCE};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use super::{STREAM, WAITING, insert, of_stream, of_table, table, until_empty};

const WRITERS: usize = 4;
/// Conversations of each.
const PLACES: usize = 5;
/// Messages in each of them.
const MESSAGES: usize = 100;
const ALL: usize = WRITERS * PLACES * MESSAGES;

fn place(writer: usize, place: usize) -> String {
    format!("c-{writer}-{place}")
}

/// What a writer says, in order: every conversation is made by it, too.
fn events(writer: usize) -> Vec<(String, &'static str, Option<String>, Value)> {
    let mut all = Vec::new();
    for at in 0..PLACES {
        let id = place(writer, at);
        let made = json!({ "id": id, "type": "group", "members": ["alice", "late"] });
        all.push((format!("{id}-made"), "conversation", None, made));
    }
    for n in 0..MESSAGES {
        for at in 0..PLACES {
            let id = place(writer, at);
            let said = json!({ "senderId": "alice", "body": n.to_string() });
            all.push((format!("{id}-{n}"), "message", Some(id), said));
        }
    }
    all
}

fn row((key, call, target, body): &(String, &'static str, Option<String>, Value)) -> String {
    let row = insert(call, target.as_deref(), Some(body));
    row.replace("(call,", "(key, call,").replace("VALUES (", &format!("VALUES ('{key}', "))
}

async fn execute(url: &str, sql: &str) -> Result<()> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let mut mover = JoinSet::new();
    mover.spawn(async move { drop(connection.await) });
    timeout(PATIENCE, client.batch_execute(sql)).await??;
    Ok(())
}

/// Writes everything in transactions, and says some things that are taken back. A transaction of which it is not known whether it was
/// committed is repeated: its events have their keys.
async fn write_rows(url: String, writer: usize, committed: Arc<AtomicUsize>) -> Result<()> {
    for (number, part) in events(writer).chunks(3 + writer).enumerate() {
        let rows = part.iter().map(row).collect::<String>();
        if number % 5 == 0 {
            let never = row(&(
                "never".to_owned(),
                "message",
                Some(place(writer, 0)),
                json!({ "senderId": "alice", "body": "never" }),
            ));
            drop(execute(&url, &format!("BEGIN; {never} ROLLBACK;")).await);
        }
        let end = Instant::now() + PATIENCE * 3;
        while let Err(why) = execute(&url, &format!("BEGIN; {rows} COMMIT;")).await {
            ensure!(Instant::now() < end, "{why}");
            sleep(Duration::from_millis(20)).await;
        }
        committed.fetch_add(part.len(), Ordering::SeqCst);
    }
    Ok(())
}

async fn until_committed(committed: &AtomicUsize, count: usize) -> Result<()> {
    let there = async {
        while committed.load(Ordering::SeqCst) < count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE * 3, there).await.context("nothing is written")
}

/// Which of them publishes.
async fn leader(nodes: &[Gateway], source: &str) -> Result<usize> {
    let end = Instant::now() + PATIENCE * 3;
    loop {
        for (index, node) in nodes.iter().enumerate() {
            if let Ok(page) = Samples::of(node).await
                && page.sum("parlance_app_outbox_leads", &[("source", source)]) == 1.0
            {
                return Ok(index);
            }
        }
        ensure!(Instant::now() < end, "nobody leads");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Each message is there once, those of a conversation in order, and so they are heard by somebody who comes now.
async fn are_whole(nodes: &[&Gateway]) -> Result<()> {
    let expected: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    for (writer, at) in (0..WRITERS).flat_map(|writer| (0..PLACES).map(move |at| (writer, at))) {
        for node in nodes {
            let bodies = super::bodies(node, &place(writer, at)).await?;
            ensure!(bodies == expected, "{bodies:?}");
        }
    }
    let node = nodes.first().context("no node")?;
    let mut late = node.connect("/sechat", "late").await?;
    let mut heard: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..ALL {
        let message = late.expect("message:received").await?;
        let next = heard.entry(message["conversationId"].to_string()).or_default();
        let expected = next.to_string();
        ensure!(message["body"] == expected.as_str(), "{message} instead of {next}");
        *next += 1;
    }
    ensure!(heard.len() == WRITERS * PLACES);
    let end = json!({ "senderId": "alice", "body": "the end" });
    node.call("POST", "/api/v1/conversations/c-0-0/messages", Some(&end)).await?;
    let last = late.expect("message:received").await?;
    ensure!(last["body"] == "the end", "{last}");
    Ok(())
}

/// A Redis that has written down what it answered.
async fn redis() -> Result<Server> {
    Server::start(Setup::new(Kind::Plain).set("appendfsync", "always")).await
}

fn quick(options: Options, redis: &Server) -> Options {
    options.env("PARLANCE_REDIS_URL", &redis.url()).env("PARLANCE_LIMITS_RATES", "false")
}

#[tokio::test]
async fn thousands_of_rows_are_heard_once_though_nodes_postgresql_and_redis_are_killed() -> Result<()> {
    let (mut postgres, mut redis) = (table().await?, redis().await?);
    let options = || quick(of_table(&postgres), &redis).env("PARLANCE_OUTBOX_BATCH", "37");
    let mut nodes = vec![Gateway::start(options()).await?, Gateway::start(options()).await?];
    let (committed, mut writers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for writer in 0..WRITERS {
        writers.spawn(write_rows(postgres.url(), writer, committed.clone()));
    }
    for stage in 1..=6 {
        until_committed(&committed, stage * ALL / 8).await?;
        match stage {
            1 | 4 => {
                let leader = leader(&nodes, "table").await?;
                nodes[leader].kill9()?;
                nodes[leader].restart().await?;
            }
            2 | 5 => postgres.restart().await?,
            _ => redis.restart().await?,
        }
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    are_whole(&nodes.iter().collect::<Vec<_>>()).await
}

#[tokio::test]
async fn thousands_of_entries_are_heard_once_though_nodes_and_both_redis_are_killed() -> Result<()> {
    let (mut source, mut shared) = (redis().await?, redis().await?);
    let options = || quick(of_stream(&source), &shared).env("PARLANCE_OUTBOX_BATCH", "37");
    let mut nodes = vec![Gateway::start(options()).await?, Gateway::start(options()).await?];
    let all: Vec<_> = (0..WRITERS).flat_map(events).collect();
    let mut stopped = None;
    for (number, (key, call, target, body)) in all.iter().enumerate() {
        match number {
            300 => {
                let leader = leader(&nodes, "stream").await?;
                nodes[leader].kill9()?;
                nodes[leader].restart().await?;
            }
            700 => source.restart().await?,
            1_100 => shared.restart().await?,
            1_300 => {
                // One that stands still for longer than it has the lead, and then goes on where it was.
                let leader = leader(&nodes, "stream").await?;
                nodes[leader].signal(Signal::STOP)?;
                stopped = Some(leader);
            }
            1_500 => {
                let still = stopped.context("nobody stands still")?;
                self::leader(&nodes[1 - still..=1 - still], "stream").await?;
                nodes[still].signal(Signal::CONT)?;
            }
            1_800 => {
                let leader = leader(&nodes, "stream").await?;
                nodes[leader].kill9()?;
            }
            _ => {}
        }
        let body = body.to_string();
        let mut words = vec!["XADD", STREAM, "*", "key", key, "call", call, "body", &body];
        words.extend(target.iter().flat_map(|target| ["target", target.as_str()]));
        // One that was started again is not ready at once.
        let end = Instant::now() + PATIENCE;
        while let Err(why) = source.command(&words).await {
            ensure!(Instant::now() < end, "{why}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    until_empty(&source).await?;
    let alive = leader(&nodes, "stream").await?;
    are_whole(&[&nodes[alive]]).await
}

#[tokio::test]
async fn an_embedded_node_that_is_killed_publishes_the_rest_when_it_is_back() -> Result<()> {
    let mut postgres = table().await?;
    let mut node = Gateway::start(of_table(&postgres).env("PARLANCE_OUTBOX_BATCH", "7")).await?;
    let (committed, mut writers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for writer in 0..WRITERS {
        writers.spawn(write_rows(postgres.url(), writer, committed.clone()));
    }
    for stage in 1..=3 {
        until_committed(&committed, stage * ALL / 4).await?;
        node.kill9()?;
        if stage == 2 {
            postgres.restart().await?;
        }
        node.restart().await?;
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    are_whole(&[&node]).await
}

#[tokio::test]
async fn what_cannot_go_now_holds_back_what_is_about_the_same_and_nothing_else() -> Result<()> {
    let postgres = table().await?;
    let node = Gateway::start(of_table(&postgres).env("PARLANCE_OUTBOX_BATCH", "2")).await?;
    node.conversation("c", &["alice"]).await?;
    // New messages are refused for the time being, and nothing else is.
    node.call("PUT", "/api/v1/maintenance", Some(&json!({ "enabled": true }))).await?;
    let say =
        |n: usize| insert("message", Some("c"), Some(&json!({ "senderId": "alice", "body": n.to_string() })));
    let mut rows: String = (0..20).map(say).collect();
    rows += &insert("change", Some("c"), Some(&json!({ "removeMembers": ["alice"] })));
    rows +=
        &insert("conversation", None, Some(&json!({ "id": "other", "type": "group", "members": ["bob"] })));
    postgres.rows(&rows).await?;
    postgres.until(WAITING, 21).await?;
    ensure!(node.call("GET", "/api/v1/conversations/other", None).await?["members"] == json!(["bob"]));
    ensure!(node.call("GET", "/api/v1/conversations/c", None).await?["members"] == json!(["alice"]));
    node.call("PUT", "/api/v1/maintenance", Some(&json!({ "enabled": false }))).await?;
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    ensure!(super::bodies(&node, "c").await? == (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    ensure!(node.call("GET", "/api/v1/conversations/c", None).await?["members"] == json!([]));
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_leaves_it_to_another_at_once() -> Result<()> {
    let (source, shared) = (redis().await?, redis().await?);
    let options = || quick(of_stream(&source), &shared);
    let mut nodes = vec![Gateway::start(options()).await?, Gateway::start(options()).await?];
    let first = leader(&nodes, "stream").await?;
    nodes[first].sigterm().await?;
    // A node that is killed would have it for ten seconds longer.
    let other = timeout(Duration::from_secs(5), leader(&nodes, "stream")).await??;
    ensure!(other != first);
    Ok(())
}
