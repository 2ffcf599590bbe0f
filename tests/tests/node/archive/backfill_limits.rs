//! What a backfill does not do: come twice at a time, bring back what went, or take what PostgreSQL refuses.

use anyhow::{Result, ensure};
use parlance_tests::{Gateway, Options, Postgres};
use serde_json::json;

use super::backfill::{PATH, backfilled, everything, is_settled, refused};
use super::command::said;
use super::kept_in;
use super::story::long;
use crate::webhooks::{connect, say};

pub async fn talk(gateway: &Gateway, place: &str, from: usize, to: usize) -> Result<()> {
    let mut alice = connect(gateway, "alice").await?;
    for n in from..to {
        say(&mut alice, &format!("{place}-{n}"), place, &["bob"]).await?;
    }
    Ok(())
}

/// A node without an archive that has some messages in two places, and then one with it.
async fn adopted(postgres: &Postgres) -> Result<Gateway> {
    let mut gateway = Gateway::start(long()).await?;
    talk(&gateway, "a", 0, 30).await?;
    talk(&gateway, "b", 0, 10).await?;
    gateway.sigterm().await?;
    gateway.restart_as(kept_in(postgres, "").env("PARLANCE_NO_LIMITS", "true")).await?;
    Ok(gateway)
}

#[tokio::test]
async fn one_at_a_time_does_so() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = adopted(&postgres).await?;
    // As if another node were at it, until it is told to stop.
    let other = postgres.rows("SELECT pg_advisory_lock(1634886504, -2); SELECT pg_sleep(60)");
    let meanwhile = async {
        let held =
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 4294967294";
        postgres.until(held, 1).await?;
        let (status, answer) = gateway.api("POST", PATH, None).await?;
        ensure!(status == 409 && answer["error"]["code"] == "ALREADY_RUNNING", "{status} {answer}");
        let line = refused(&gateway, "")?;
        ensure!(line.contains("409") && line.contains("one is under way already"), "{line}");
        postgres.rows("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE objid = 4294967294").await?;
        postgres.until(held, 0).await?;
        backfilled(&gateway, "")
    };
    let (other, line) = tokio::join!(other, meanwhile);
    ensure!(other.is_err(), "it was ended");
    let line = line?;
    ensure!(line.contains("finished: 2 conversations, 42 entries written"), "{line}");
    Ok(())
}

#[tokio::test]
async fn only_what_is_asked_for_is_brought_in_and_nonsense_is_refused() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = adopted(&postgres).await?;
    for body in [
        json!({ "conversations": [] }),
        json!({ "conversations": ["no id"] }),
        json!({ "conversations": "a" }),
        json!({ "conversations": vec!["a"; 1_001] }),
        json!({ "other": 1 }),
    ] {
        let (status, answer) = gateway.api("POST", PATH, Some(&body)).await?;
        ensure!(status == 400 && answer["error"]["code"] == "INVALID_REQUEST", "{status} {answer}");
    }
    let line = backfilled(&gateway, "--conversation b --conversation not-there")?;
    ensure!(line.contains("finished: 1 conversations, 11 entries written"), "{line}");
    ensure!(postgres.number("SELECT count(*) FROM parlance.messages WHERE conversation <> 'b'").await? == 0);
    let without = Gateway::start(long()).await?;
    let (status, answer) = without.api("POST", PATH, None).await?;
    ensure!(status == 404, "{status} {answer}");
    let (_, archive) = gateway.api("GET", "/api/v1/archive", None).await?;
    ensure!(archive["backfill"]["state"] == "finished" && archive["backfill"]["entries"] == 11, "{archive}");
    let (_, archive) = without.api("GET", "/api/v1/archive", None).await?;
    ensure!(archive.get("backfill").is_none(), "{archive}");
    Ok(())
}

#[tokio::test]
async fn what_was_removed_or_forgotten_does_not_come_back() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = adopted(&postgres).await?;
    let url = postgres.url();
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str())];
    said("migrate", &environment)?;
    // Before there is anything of it.
    said("forget --conversation b", &environment)?;
    said("forget --user bob", &environment)?;
    backfilled(&gateway, "")?;
    ensure!(postgres.number("SELECT count(*) FROM parlance.messages WHERE conversation = 'b'").await? == 0);
    ensure!(
        postgres.number("SELECT count(*) FROM parlance.memberships WHERE conversation = 'b'").await? == 0
    );
    ensure!(postgres.number("SELECT count(*) FROM parlance.memberships WHERE user_id = 'bob'").await? == 0);
    let named = "SELECT count(*) FROM parlance.entries WHERE position('bob' IN encode(record, 'escape')) > 0";
    ensure!(postgres.number(named).await? == 0);
    ensure!(postgres.number("SELECT count(*) FROM parlance.messages WHERE body <> ''").await? == 30);
    said("forget --user alice", &environment)?;
    // As if it had been removed by a policy.
    let removed = "WITH gone AS (DELETE FROM parlance.messages WHERE conversation = 'a' AND seq <= 11),
        first AS (DELETE FROM parlance.entries WHERE conversation = 'a' AND seq <= 11)
        UPDATE parlance.conversations SET removed_before =
            (SELECT sent_at FROM parlance.messages WHERE conversation = 'a' AND seq = 12) WHERE id = 'a'";
    postgres.rows(removed).await?;
    let before = everything(&postgres).await?;
    let line = backfilled(&gateway, "")?;
    // Those of the same millisecond may come.
    let back = postgres.number("SELECT count(*) FROM parlance.messages WHERE seq < 11").await?;
    ensure!(back == 0 && !line.contains("31 entries"), "{back} {line}");
    ensure!(
        postgres.number("SELECT count(*) FROM parlance.messages WHERE body <> ''").await? == 0,
        "alice's"
    );
    ensure!(postgres.number("SELECT count(*) FROM parlance.memberships").await? == 0);
    // What is said afterwards is kept as ever.
    talk(&gateway, "b", 10, 12).await?;
    is_settled(&gateway).await?;
    postgres.until("SELECT count(*) FROM parlance.messages WHERE conversation = 'b'", 2).await?;
    backfilled(&gateway, "")?;
    ensure!(postgres.number("SELECT count(*) FROM parlance.messages WHERE conversation = 'b'").await? == 2);
    ensure!(everything(&postgres).await?.len() == before.len());
    Ok(())
}

#[tokio::test]
async fn what_postgresql_refuses_is_left_out_and_said() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = adopted(&postgres).await?;
    said("migrate", &[("PARLANCE_ARCHIVE_URL", &postgres.url())])?;
    postgres.rows("ALTER TABLE parlance.messages ADD CONSTRAINT mine CHECK (body <> 'a-13')").await?;
    let line = refused(&gateway, "")?;
    ensure!(line.contains("left out: 1 entries that PostgreSQL refuses"), "{line}");
    ensure!(postgres.number("SELECT count(*) FROM parlance.messages").await? == 39);
    ensure!(!gateway.log().contains("a-13"), "{}", gateway.log());
    postgres.rows("ALTER TABLE parlance.messages DROP CONSTRAINT mine").await?;
    let line = backfilled(&gateway, "")?;
    ensure!(line.contains("finished: 2 conversations, 1 entries written"), "{line}");
    Ok(())
}

#[tokio::test]
async fn how_often_a_client_id_was_used_goes_by_the_log() -> Result<()> {
    let postgres = Postgres::start().await?;
    let gateway = adopted(&postgres).await?;
    said("migrate", &[("PARLANCE_ARCHIVE_URL", &postgres.url())])?;
    // As if the same ones had been used again, long after.
    let columns = "conversation, seq, epoch, message_id, message_number, message_offset, sender, client_id, client_id_uses, body, sent_at";
    for (seq, uses) in [(1_000, 0), (1_001, 1)] {
        let row = format!("'a', {seq}, 1, 'msg_', 1, {seq}, 'alice', 'a-7', {uses}, 'later', now()");
        postgres.rows(&format!("INSERT INTO parlance.messages ({columns}) VALUES ({row})")).await?;
    }
    backfilled(&gateway, "")?;
    let uses = "SELECT seq, client_id_uses FROM parlance.messages WHERE client_id = 'a-7' ORDER BY seq";
    let found = postgres.rows(uses).await?;
    ensure!(found == [["9", "0"], ["1000", "1"], ["1001", "2"]], "{found:?}");
    Ok(())
}

#[tokio::test]
async fn members_are_told_also_where_the_log_tells_no_more_of_their_coming() -> Result<()> {
    let postgres = Postgres::start().await?;
    let little = |options: Options| options.env("PARLANCE_RETENTION_ENTRIES", "20");
    let mut gateway = Gateway::start(little(long())).await?;
    talk(&gateway, "a", 0, 60).await?;
    gateway.sigterm().await?;
    gateway.restart_as(little(kept_in(&postgres, "").env("PARLANCE_NO_LIMITS", "true"))).await?;
    let first = backfilled(&gateway, "")?;
    ensure!(first.contains("finished: 1 conversations, 20 entries written"), "{first}");
    let told = "SELECT user_id, joined_seq, joined_at, left_seq, is_member FROM parlance.memberships ORDER BY user_id";
    let (alice, bob) = (["alice", "1", "-", "-", "t"], ["bob", "1", "-", "-", "t"]);
    let found = postgres.rows(told).await?;
    ensure!(found == [alice, bob], "{found:?}");
    let made = "SELECT created_by FROM parlance.conversations WHERE created_at > now() - interval '1 hour'";
    ensure!(postgres.rows(made).await?.concat() == ["alice"]);
    let before = everything(&postgres).await?;
    ensure!(backfilled(&gateway, "")?.contains(" 0 entries written"));
    ensure!(everything(&postgres).await? == before);
    let goes = json!({ "removeMembers": ["bob"] });
    gateway.call("PATCH", "/api/v1/conversations/a", Some(&goes)).await?;
    postgres.until("SELECT count(*) FROM parlance.memberships WHERE is_member", 1).await?;
    backfilled(&gateway, "")?;
    ensure!(postgres.number("SELECT count(*) FROM parlance.memberships WHERE is_member").await? == 1);
    gateway.api("DELETE", "/api/v1/conversations/a", None).await?;
    postgres.until("SELECT count(*) FROM parlance.memberships WHERE is_member", 0).await?;
    let gone = backfilled(&gateway, "")?;
    ensure!(gone.contains("finished: 0 conversations, 0 entries"), "{gone}");
    ensure!(
        postgres.number("SELECT count(*) FROM parlance.conversations WHERE deleted_at IS NULL").await? == 0
    );
    Ok(())
}
