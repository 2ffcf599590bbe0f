//! History from before the archive is brought into it: what is there then is what would be there, had there been one all along.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{API_KEY, Gateway, Options, PATIENCE, Postgres, token};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::command::{outcome, said};
use super::kept_in;
use super::story::{MESSAGES, READERS, Reader, happens, is_archived, long, short};
use crate::webhooks::{connect, say};

pub const PATH: &str = "/api/v1/archive/backfill";

pub fn asked(gateway: &Gateway, more: &str) -> String {
    format!("backfill --url http://{} {more}", gateway.internal_address()).trim_end().to_owned()
}

/// What the command says, when it succeeds.
pub fn backfilled(gateway: &Gateway, more: &str) -> Result<String> {
    said(&asked(gateway, more), &[("PARLANCE_API_KEY", API_KEY)])
}

/// Why it does not.
pub fn refused(gateway: &Gateway, more: &str) -> Result<String> {
    let (came, line) = outcome(&asked(gateway, more), &[("PARLANCE_API_KEY", API_KEY)])?;
    ensure!(!came, "{line}");
    Ok(line)
}

/// Every row of every table, in an order.
pub async fn everything(postgres: &Postgres) -> Result<Vec<(String, Vec<String>)>> {
    let mut all = Vec::new();
    for table in [
        "conversations",
        "messages",
        "entries",
        "superseded_messages",
        "reaction_states",
        "memberships",
        "receipts",
    ] {
        let rows =
            postgres.rows(&format!("SELECT t::text FROM parlance.{table} AS t ORDER BY t::text")).await?;
        all.push((table.to_owned(), rows.concat()));
    }
    Ok(all)
}

/// Nothing waits to be written: the metric may say so a while too early.
pub async fn is_settled(gateway: &Gateway) -> Result<()> {
    let settled = async {
        while gateway.api("GET", "/api/v1/archive", None).await?.1["waiting"] != 0 {
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE * 3, settled).await?
}

/// Some read, some only hear.
async fn receipts(gateway: &Gateway, ids: &[String]) -> Result<()> {
    for (who, n) in [("dave", 20), ("carol", 200), ("dave", 150)] {
        let bearer = token(who)?;
        let body = json!({ "messageId": ids[n] });
        let request = parlance_tests::http::Request {
            address: gateway.address(),
            method: "PUT",
            path: "/api/v1/conversations/room/read",
            bearer: Some(&bearer),
            body: Some(&body),
        };
        let answer = request.send().await?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    Ok(())
}

/// Other conversations: one with a life before, one that is gone, one with very many members.
async fn beside(gateway: &Gateway) -> Result<()> {
    let mut alice = connect(gateway, "alice").await?;
    for (place, again) in [("again", true), ("gone", false)] {
        say(&mut alice, &format!("{place}-1"), place, &["bob"]).await?;
        gateway.api("DELETE", &format!("/api/v1/conversations/{place}"), None).await?;
        if again {
            say(&mut alice, &format!("{place}-2"), place, &["bob"]).await?;
        }
    }
    gateway.conversation("crowd", &["alice"]).await?;
    let mut upload = parlance_tests::Upload::import(gateway, "crowd").await?;
    let lines: String = (0..1_200).map(|n| format!("{{\"userId\":\"u-{n}\"}}\n")).collect();
    upload.send(&lines).await?;
    ensure!(upload.finish().await?.status == 200);
    say(&mut alice, "crowd-1", "crowd", &[]).await
}

/// `first`: an archive from the beginning on; `second`: one that is taken later.
async fn is_as_if_it_had_been_there(engine: impl Fn(Options) -> Options) -> Result<()> {
    let (first, second) = (Postgres::start().await?, Postgres::start().await?);
    let with = |postgres: &Postgres| engine(kept_in(postgres, "").env("PARLANCE_NO_LIMITS", "true"));
    let mut gateway = Gateway::start(with(&first)).await?;
    gateway.conversation("room", &["alice", "bob", "carol", "dave"]).await?;
    let mut story = happens(&gateway).await?;
    receipts(&gateway, &story.ids).await?;
    beside(&gateway).await?;
    is_archived(&first, MESSAGES).await?;
    is_settled(&gateway).await?;
    gateway.sigterm().await?;
    gateway.restart_as(with(&second)).await?;
    let told = backfilled(&gateway, "")?;
    ensure!(told.contains("finished: 3 conversations, "), "{told}");
    let (live, brought) = (everything(&first).await?, everything(&second).await?);
    for ((table, live), (_, brought)) in live.iter().zip(&brought) {
        // Not in the logs any more: what was deleted. Not by name: members who came very many at once.
        // Nor when an earlier life ended for whoever is a member again.
        let of_before =
            ["(gone,", "again-1", "(crowd,u-", if table == "memberships" { "(again," } else { "(gone," }];
        let of_now = |row: &&String| !of_before.iter().any(|of| row.contains(of));
        let (live, brought): (Vec<_>, Vec<_>) =
            (live.iter().filter(of_now).collect(), brought.iter().filter(of_now).collect());
        let only = |these: &[&String], those: &[&String]| {
            these.iter().filter(|row| !those.contains(row)).map(ToString::to_string).collect::<Vec<_>>()
        };
        let (missing, other) = (only(&live, &brought), only(&brought, &live));
        // How the earlier life of one began and ended.
        let earlier = if table == "entries" { 2 } else { 0 };
        ensure!(missing.len() == earlier && other.is_empty(), "{table}: {missing:#?} {other:#?}");
    }
    let again = "SELECT count(*) FROM parlance.memberships WHERE conversation = 'again' AND is_member AND joined_seq = 4";
    ensure!(second.number(again).await? == 2);
    let members = "SELECT count(*) FROM parlance.memberships WHERE conversation = 'crowd' AND is_member";
    ensure!(second.number(members).await? == 1_201);
    ensure!(second.number(&format!("{members} AND joined_at IS NULL")).await? == 0, "the log tells when");
    let again = backfilled(&gateway, "")?;
    ensure!(again.contains(" 0 entries written"), "{again}");
    ensure!(everything(&second).await? == brought, "nothing is changed");

    story.goes_on(&gateway, 20).await?;
    is_archived(&second, MESSAGES + 20).await?;
    gateway.restart_as(engine(short(&second, ""))).await?;
    story.goes_on(&gateway, 30).await?;
    is_archived(&second, MESSAGES + 50).await?;
    for reader in READERS {
        let told = story.as_told(reader);
        ensure!(told.len() == MESSAGES + 50, "{reader:?}: {}", told.len());
        for limit in [7, 50, 200] {
            ensure!(reader.back(&gateway, limit).await? == told, "{reader:?} back by {limit}");
            ensure!(reader.on(&gateway, limit).await? == told, "{reader:?} on by {limit}");
        }
    }
    let mut second = second;
    second.kill9()?;
    let (status, body) = Reader::Member.ask(&gateway, "limit=200").await?;
    ensure!(status == 503, "the engine alone has no more of it: {status} {body}");
    ensure!(!gateway.log().contains("panicked"), "{}", gateway.log());
    Ok(())
}

#[tokio::test]
async fn on_the_embedded_engine_it_is_as_if_it_had_been_there_all_along() -> Result<()> {
    is_as_if_it_had_been_there(|options| options).await
}

#[tokio::test]
async fn on_redis_it_is_as_if_it_had_been_there_all_along() -> Result<()> {
    let redis = Server::standalone().await?;
    is_as_if_it_had_been_there(|options| options.env("PARLANCE_REDIS_URL", &redis.url())).await
}

/// Messages in so many conversations before the archive, and more while history is brought in and PostgreSQL is killed.
async fn nothing_is_missing_or_doubled(engine: impl Fn(Options) -> Options) -> Result<()> {
    const PLACES: usize = 12;
    let mut gateway = Gateway::start(engine(long())).await?;
    let mut alice = connect(&gateway, "alice").await?;
    for n in 0..480 {
        say(&mut alice, &format!("m-{n}"), &format!("c-{}", n % PLACES), &["bob"]).await?;
    }
    let mut postgres = Postgres::start().await?;
    gateway.sigterm().await?;
    gateway.restart_as(engine(kept_in(&postgres, "batch = 3").env("PARLANCE_NO_LIMITS", "true"))).await?;
    ensure!(backfilled(&gateway, "--no-wait")? == "begun\n");
    let mut alice = connect(&gateway, "alice").await?;
    for n in 480..720 {
        match n {
            500 => postgres.until("SELECT least(count(*), 60) FROM parlance.messages", 60).await?,
            510 => postgres.kill9()?,
            600 => postgres.restart().await?,
            _ => {}
        }
        say(&mut alice, &format!("m-{n}"), &format!("c-{}", n % PLACES), &["bob"]).await?;
    }
    let done = async {
        loop {
            let (_, answer) = gateway.api("GET", "/api/v1/archive", None).await?;
            if answer["backfill"]["state"] != "running" {
                return anyhow::Ok(answer["backfill"].clone());
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let done: Value = timeout(PATIENCE * 12, done).await??;
    ensure!(done["state"] == "finished" && done["conversations"] == PLACES, "{done}");
    ensure!(done["refused"] == 0 && done["unreadable"] == 0, "{done}");
    super::are_whole(&postgres, 720).await?;
    is_settled(&gateway).await?;
    let dense = "SELECT count(*) FROM (
        SELECT conversation FROM (
            SELECT conversation, seq FROM parlance.messages UNION ALL SELECT conversation, seq FROM parlance.entries
        ) AS both_of_them GROUP BY conversation HAVING count(*) = max(seq) AND min(seq) = 1 AND count(*) = 61
    ) AS whole";
    ensure!(postgres.number(dense).await? == 12);
    ensure!(gateway.log().contains("bringing history into the archive waits"), "{}", gateway.log());
    Ok(())
}

#[tokio::test]
async fn on_the_embedded_engine_nothing_is_missing_after_postgresql_was_killed() -> Result<()> {
    nothing_is_missing_or_doubled(|options| options).await
}

#[tokio::test]
async fn on_redis_nothing_is_missing_after_postgresql_was_killed() -> Result<()> {
    let redis = Server::standalone().await?;
    nothing_is_missing_or_doubled(|options| options.env("PARLANCE_REDIS_URL", &redis.url())).await
}
