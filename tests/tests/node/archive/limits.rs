//! How many connections there are, and who waits for them; and that what is away holds up nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use parlance_redis_rig::{Cluster, Server};
use parlance_tests::chaos::shards::{lies_on, victim};
use parlance_tests::metrics::Samples;
use parlance_tests::{Gateway, PATIENCE, Postgres, Response};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::kept_in;
use super::story::{is_archived, short};

const PATH: &str = "/api/v1/conversations/room/messages";
const MESSAGES: usize = 120;
/// Of those that read.
const CONNECTIONS: usize = 2;
/// For each connection so many may wait.
const WAITING: usize = 64;
const ALL: &str = "limit=200&since=2001-01-01T00:00:00Z";

/// Connections by the name of what they are for.
fn sessions(of: &str, more: &str) -> String {
    format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{of}' {more}")
}

const BLOCKED: &str = "AND wait_event_type = 'Lock'";

/// Has nobody get at the messages while something is done.
async fn while_held<T>(postgres: &Postgres, work: impl Future<Output = Result<T>>) -> Result<T> {
    let holds = postgres.rows("/* holds */ BEGIN; LOCK TABLE parlance.messages; SELECT pg_sleep(600)");
    let worked = async {
        postgres.until("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 1).await?;
        work.await
    };
    // It ends when it is let go, at the latest when nobody waits for it any more.
    let (held, worked) = tokio::join!(holds, worked);
    ensure!(held.is_err(), "it was never held");
    worked
}

/// Lets them go.
async fn release(postgres: &Postgres) -> Result<()> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '/* holds */%'";
    postgres.rows(end).await.map(drop)
}

async fn ask(gateway: &Gateway, query: &str) -> Result<Response> {
    let bearer = parlance_tests::token("carol")?;
    gateway.public("GET", &format!("{PATH}?{query}"), Some(&bearer)).await
}

#[tokio::test]
async fn more_readers_than_connections_are_served_or_refused_and_none_waits_for_ever() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = Gateway::start(short(&postgres, &format!("read_connections = {CONNECTIONS}"))).await?;
    gateway.conversation("room", &["alice", "carol"]).await?;
    for n in 0..MESSAGES {
        gateway.call("POST", PATH, Some(&json!({ "senderId": "alice", "body": n.to_string() }))).await?;
    }
    is_archived(&postgres, MESSAGES).await?;
    let readers = |count: usize| join_all((0..count).map(|_| ask(&gateway, ALL)));
    // For a moment: they wait for one another, over no more connections than there may be.
    let some = while_held(&postgres, async {
        let meanwhile = async {
            postgres.until(&sessions("parlance-archive-read", BLOCKED), i64::try_from(CONNECTIONS)?).await?;
            ensure!(
                postgres.number(&sessions("parlance-archive-read", "")).await? == i64::try_from(CONNECTIONS)?
            );
            release(&postgres).await
        };
        let (some, held) = tokio::join!(readers(20), meanwhile);
        held?;
        Ok(some)
    });
    for answer in some.await? {
        let answer = answer?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(answer.json()?["messages"].as_array().is_some_and(|all| all.len() == MESSAGES));
    }
    // For longer than anybody waits, and more of them than may.
    let began = Instant::now();
    let many = while_held(&postgres, async {
        let meanwhile = async {
            postgres.until(&sessions("parlance-archive-read", BLOCKED), i64::try_from(CONNECTIONS)?).await?;
            // What is kept beside it is read all the same.
            let newest = ask(&gateway, "limit=20").await?;
            ensure!(newest.status == 200, "{newest:?}");
            Ok(())
        };
        let (many, newest) = tokio::join!(readers(CONNECTIONS * (WAITING + 1) + 20), meanwhile);
        newest?;
        release(&postgres).await?;
        Ok(many)
    });
    for answer in many.await? {
        let answer = answer?;
        ensure!(answer.status == 503 && answer.header("retry-after").is_some(), "{answer:?}");
    }
    ensure!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let busy = Samples::of(&gateway).await?.sum("parlance_archive_reads_total", &[("outcome", "busy")]);
    ensure!(busy >= 20.0, "{busy} were sent away at once");
    let again = async {
        while ask(&gateway, ALL).await?.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, again).await.context("nobody reads any more")?
}

#[tokio::test]
async fn those_that_write_and_acknowledge_have_so_many_connections_and_no_more() -> Result<()> {
    const PLACES: usize = 40;
    let (postgres, redis) = (Postgres::start().await?, Server::standalone().await?);
    let options = kept_in(&postgres, "").env("PARLANCE_REDIS_URL", &redis.url());
    let gateway = Gateway::start(options.env("PARLANCE_ACK_LEVEL", "archived")).await?;
    for at in 0..PLACES {
        gateway.conversation(&format!("c-{at}"), &["alice"]).await?;
    }
    postgres.until("SELECT count(*) FROM parlance.conversations", i64::try_from(PLACES)?).await?;
    let said = json!({ "senderId": "alice", "body": "hello", "clientId": "m" });
    let all = async || {
        let paths = (0..PLACES).map(|at| format!("/api/v1/conversations/c-{at}/messages"));
        try_join_all(paths.map(|path| {
            let (gateway, said) = (&gateway, &said);
            async move { gateway.call("POST", &path, Some(said)).await }
        }))
        .await
    };
    let told = while_held(&postgres, async {
        let meanwhile = async {
            // Four that acknowledge, and two that write what happened.
            postgres.until(&sessions("parlance-archive", BLOCKED), 6).await?;
            ensure!(postgres.number(&sessions("parlance-archive", "")).await? == 6);
            ensure!(postgres.number(&sessions("parlance-archive-read", "")).await? == 0, "nobody reads");
            release(&postgres).await
        };
        let (told, held) = tokio::join!(all(), meanwhile);
        held?;
        told
    });
    ensure!(told.await?.len() == PLACES);
    super::are_whole(&postgres, i64::try_from(PLACES)?).await?;
    ensure!(postgres.number(&sessions("parlance-archive", "")).await? <= 6);
    Ok(())
}

#[tokio::test]
async fn a_part_of_the_engine_that_is_away_holds_up_no_acknowledgement_of_the_others() -> Result<()> {
    const PLACES: usize = 60;
    let (postgres, mut cluster) = (Postgres::start().await?, Cluster::with(5, 0).await?);
    let options = kept_in(&postgres, "run = false").env("PARLANCE_REDIS_URL", &cluster.url());
    let gateway = Gateway::start(options.env("PARLANCE_ACK_LEVEL", "archived")).await?;
    let dead = victim(&cluster).await?;
    let mut on = BTreeMap::new();
    for at in 0..PLACES {
        let id = format!("c-{at}");
        gateway.conversation(&id, &["alice"]).await?;
        let away = lies_on(&cluster, &format!("c:{id}")).await? == dead;
        on.insert(id, away);
    }
    let well = on.values().filter(|away| !**away).count();
    ensure!((1..PLACES).contains(&well), "{on:?}");
    // Of several at once each waits for its own part only.
    let all = async |body: &str| {
        join_all(on.iter().map(|(id, away)| {
            let (gateway, path) = (&gateway, format!("/api/v1/conversations/{id}/messages"));
            let said = json!({ "senderId": "alice", "body": body, "clientId": body });
            async move {
                let began = Instant::now();
                let (status, answer) = gateway.api("POST", &path, Some(&said)).await?;
                anyhow::Ok((*away, status, began.elapsed(), answer))
            }
        }))
        .await
        .into_iter()
        .collect::<Result<Vec<_>>>()
    };
    let there = |body: &str| format!("SELECT count(*) FROM parlance.messages WHERE client_id = '{body}'");
    ensure!(all("before").await?.iter().all(|(_, status, ..)| *status < 300));
    ensure!(postgres.number(&there("before")).await? == i64::try_from(PLACES)?);
    cluster.server_mut(dead).kill9()?;
    for round in ["first", "second"] {
        for (away, status, took, answer) in all(round).await? {
            let quick = took < Duration::from_secs(3);
            ensure!((status < 300) != away && (away || quick), "{status} after {took:?}: {answer}");
        }
        ensure!(postgres.number(&there(round)).await? == i64::try_from(well)?);
    }
    cluster.server_mut(dead).restart().await?;
    cluster.wait_ok().await?;
    let end = Instant::now() + PATIENCE * 2;
    while all("after").await?.iter().any(|(_, status, ..)| *status >= 300) {
        ensure!(Instant::now() < end, "{}", gateway.log());
    }
    ensure!(postgres.number(&there("after")).await? == i64::try_from(PLACES)?);
    Ok(())
}
