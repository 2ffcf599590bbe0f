//! A backfill beside what else happens: a node that goes, a policy that removes, lives that are over.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use parlance_tests::{API_KEY, Gateway, Options, Postgres};
use tokio::task::spawn_blocking;

use super::backfill::{asked, backfilled};
use super::backfill_limits::talk;
use super::command::{command, said};
use super::keep::message;
use super::kept_in;
use super::story::long;

/// Dropped, it is killed.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The transaction of whoever holds a lock of the archive's, until [`released`].
async fn held(postgres: &Postgres, lock: &str) -> Result<()> {
    let ended = postgres.rows(&format!("SELECT {lock}(1634886504, -3); SELECT pg_sleep(60)")).await;
    ensure!(ended.is_err(), "it is ended from outside");
    Ok(())
}

/// Who has, or waits for, that lock.
fn at_it(granted: bool) -> String {
    let is = if granted { "granted" } else { "NOT granted" };
    format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4294967293 AND {is}")
}

async fn released(postgres: &Postgres) -> Result<()> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE objid = 4294967293 AND granted";
    postgres.rows(end).await?;
    Ok(())
}

#[tokio::test]
async fn the_command_waits_for_a_node_that_gives_no_answer() -> Result<()> {
    let postgres = Postgres::start().await?;
    let options = || kept_in(&postgres, "").env("PARLANCE_NO_LIMITS", "true");
    let mut gateway = Gateway::start(options()).await?;
    talk(&gateway, "a", 0, 3).await?;
    said("migrate", &[("PARLANCE_ARCHIVE_URL", &postgres.url())])?;
    let meanwhile = async {
        // It does not come through for as long as somebody is forgotten.
        postgres.until(&at_it(true), 1).await?;
        let mut asking = command(&asked(&gateway, ""), &[("PARLANCE_API_KEY", API_KEY)])?;
        let mut asking = Beside(asking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
        let mut told = BufReader::new(asking.0.stdout.take().context("no stdout")?).lines();
        let mut complaints = BufReader::new(asking.0.stderr.take().context("no stderr")?).lines();
        let line = spawn_blocking(move || told.next().context("nothing")?.context("no line")).await??;
        ensure!(line.starts_with("running"), "{line}");
        gateway.kill9()?;
        let (line, mut complaints) = spawn_blocking(move || (complaints.next(), complaints)).await?;
        let line = line.context("no complaint")??;
        ensure!(line.starts_with("waits: cannot reach the node"), "{line}");
        gateway.restart().await?;
        let line = spawn_blocking(move || complaints.next()).await?.context("no end")??;
        ensure!(line.contains("the node knows no more of it"), "{line}");
        released(&postgres).await
    };
    let (holder, meanwhile) = tokio::join!(held(&postgres, "pg_advisory_lock"), meanwhile);
    meanwhile?;
    holder
}

#[tokio::test]
async fn what_a_policy_removes_is_noted_before_it_goes_and_between_two_pages() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url();
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str()), ("PARLANCE_ARCHIVE_DAYS", "30")];
    said("migrate", &environment)?;
    postgres.rows("INSERT INTO parlance.conversations VALUES ('a', now(), 'alice', NULL, 1)").await?;
    message(&postgres, "a", 1, 40).await?;
    message(&postgres, "a", 2, 1).await?;
    let noted =
        "SELECT count(*) FROM parlance.conversations WHERE removed_before < now() - interval '29 days'";
    let meanwhile = async {
        // As if a page of history were just being written.
        postgres.until(&at_it(true), 1).await?;
        let mut prune = Beside(command("prune", &environment)?.stdout(Stdio::null()).spawn()?);
        postgres.until(&at_it(false), 1).await?;
        ensure!(postgres.number("SELECT count(*) FROM parlance.messages").await? == 2, "nothing went yet");
        released(&postgres).await?;
        postgres.until("SELECT count(*) FROM parlance.messages", 1).await?;
        ensure!(postgres.number(noted).await? == 1);
        ensure!(spawn_blocking(move || prune.0.wait()).await??.success());
        anyhow::Ok(())
    };
    let (holder, meanwhile) = tokio::join!(held(&postgres, "pg_advisory_lock_shared"), meanwhile);
    meanwhile?;
    holder
}

#[tokio::test]
async fn members_are_those_of_the_life_that_there_is() -> Result<()> {
    let postgres = Postgres::start().await?;
    let little = |options: Options| options.env("PARLANCE_RETENTION_ENTRIES", "20");
    let mut gateway = Gateway::start(little(long())).await?;
    for place in ["before", "ended", "over"] {
        talk(&gateway, place, 0, 40).await?;
    }
    gateway.sigterm().await?;
    gateway.restart_as(little(kept_in(&postgres, "run = false").env("PARLANCE_NO_LIMITS", "true"))).await?;
    said("migrate", &[("PARLANCE_ARCHIVE_URL", &postgres.url())])?;
    let columns = "conversation, seq, epoch, message_number, message_offset, kind, at, prev_at, record";
    for (place, seq, epoch, kind) in [
        // What an earlier life had where they came, and how it ended.
        ("before", 1, 0, "members"),
        ("before", 9_000, 0, "deleted"),
        // The end of this one, which an earlier one with greater places had, too.
        ("ended", 9_000, 0, "deleted"),
        ("ended", 8_000, u32::MAX, "deleted"),
    ] {
        let row = format!("'{place}', {seq}, {epoch}, 1, {seq}, '{kind}', '2001-01-01', '2001-01-01', ''");
        postgres.rows(&format!("INSERT INTO parlance.entries ({columns}) VALUES ({row})")).await?;
    }
    // And one of which nothing is kept any more.
    let over = "INSERT INTO parlance.forgotten VALUES ('ended', sha256('over'), now() + interval '1 hour')";
    postgres.rows(over).await?;
    backfilled(&gateway, "")?;
    let told = "SELECT conversation, user_id, joined_seq, joined_at, is_member FROM parlance.memberships
        ORDER BY conversation, user_id";
    let found = postgres.rows(told).await?;
    let row = |place, who, is| [place, who, "1", "-", is].map(str::to_owned).to_vec();
    let expected = ["before", "ended"].map(|place| {
        let is = if place == "before" { "t" } else { "f" };
        [row(place, "alice", is), row(place, "bob", is)]
    });
    ensure!(found == expected.concat(), "{found:?}");
    Ok(())
}

#[tokio::test]
async fn forgetting_says_when_the_schema_cannot_remember() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url();
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str())];
    said("migrate", &environment)?;
    message(&postgres, "a", 1, 1).await?;
    let complaint = || {
        let output = command("forget --conversation a", &environment)?.output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stderr)?)
    };
    let said = complaint()?;
    ensure!(said.is_empty(), "{said}");
    // As the release before left it.
    postgres.rows("DROP TABLE parlance.forgotten").await?;
    message(&postgres, "a", 1, 1).await?;
    let said = complaint()?;
    ensure!(said.starts_with("not remembered: "), "{said}");
    ensure!(postgres.number("SELECT count(*) FROM parlance.messages").await? == 0, "it is gone all the same");
    Ok(())
}
