//! What of a log is no message goes with the messages, and says nothing of who is forgotten.

use anyhow::{Result, ensure};
use parlance_tests::Postgres;

use super::command::said;
use super::keep::message;

/// The table, where no migration has brought it, with an entry.
async fn entry(postgres: &Postgres, seq: u64, days: u64, record: &str) -> Result<()> {
    postgres
        .rows(
            "CREATE TABLE IF NOT EXISTS parlance.entries (
                conversation text NOT NULL, seq bigint NOT NULL, epoch bigint NOT NULL, message_number bigint NOT NULL,
                message_offset bigint NOT NULL, kind text NOT NULL, at timestamptz NOT NULL, prev_at timestamptz NOT NULL,
                record bytea NOT NULL, PRIMARY KEY (conversation, seq)
            )",
        )
        .await?;
    for column in ["sender_username text", "sender_picture text", "prev_at timestamptz", "record bytea"] {
        for table in ["messages", "superseded_messages"] {
            postgres.rows(&format!("ALTER TABLE parlance.{table} ADD COLUMN IF NOT EXISTS {column}")).await?;
        }
    }
    let columns = "conversation, seq, epoch, message_number, message_offset, kind, at, prev_at, record";
    let row = format!(
        "'c', {seq}, 1, 1, {seq}, 'x', now() - interval '{days} days', now(), convert_to('{record}', 'UTF8')"
    );
    postgres.rows(&format!("INSERT INTO parlance.entries ({columns}) VALUES ({row})")).await?;
    Ok(())
}

async fn records(postgres: &Postgres) -> Result<Vec<String>> {
    let sql = "SELECT convert_from(record, 'UTF8') FROM parlance.entries ORDER BY seq";
    Ok(postgres.rows(sql).await?.concat())
}

const DELETED: &str = r#"{"d":{}}"#;
const BOB: &str = r#"{"u":{"a":["bob"]}}"#;
const NOTHING: &str = r#"{"u":{}}"#;

#[tokio::test]
async fn entries_go_with_the_messages_around_them() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url();
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str()), ("PARLANCE_ARCHIVE_DAYS", "30")];
    said("migrate", &environment)?;
    for (seq, days) in [(1, 60), (3, 40), (5, 20)] {
        message(&postgres, "c", seq, days).await?;
    }
    for (seq, days, record) in [(2, 50, BOB), (4, 35, DELETED), (6, 10, BOB)] {
        entry(&postgres, seq, days, record).await?;
    }
    let dry = said("prune --dry-run", &environment)?;
    ensure!(
        dry == "would go: 2 of entries\nwould go: 2 of messages\nwould go: 2 of reaction_states\n",
        "{dry}"
    );
    ensure!(said("prune", &environment)? == dry.replace("would go", "removed"));
    ensure!(records(&postgres).await? == [BOB]);
    // Of a log whose messages are gone it goes, too.
    postgres.rows("UPDATE parlance.messages SET sent_at = sent_at - interval '1 year'").await?;
    postgres.rows("UPDATE parlance.entries SET at = at - interval '1 year'").await?;
    said("prune", &environment)?;
    ensure!(records(&postgres).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn entries_say_nothing_of_who_is_forgotten() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url();
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str())];
    said("migrate", &environment)?;
    message(&postgres, "c", 1, 0).await?;
    let members = r#"{"u":{"a":["alice","bob"],"b":"alice"}}"#;
    let reaction = r#"{"r":{"a":{"i":"alice","n":"Alice"},"g":1,"k":"x","f":true}}"#;
    let other = reaction.replace("alice", "malice");
    for (seq, record) in [(2, members), (3, reaction), (4, &other), (5, DELETED)] {
        entry(&postgres, seq, 0, record).await?;
    }
    postgres
        .rows("UPDATE parlance.messages SET record = 'whole', sender_username = 'al', sender_picture = 'p'")
        .await?;
    let dry = said("forget --user alice --dry-run", &environment)?;
    ensure!(dry.contains("would be forgotten: 2 of entries\n"), "{dry}");
    ensure!(said("forget --user alice", &environment)? == dry.replace("would be forgotten", "forgotten"));
    let found = records(&postgres).await?;
    ensure!(found == [BOB, NOTHING, &other, DELETED], "{found:?}");
    let named = "SELECT count(*) FROM parlance.messages WHERE num_nonnulls(record, sender_username, sender_picture, metadata) > 0 OR body <> ''";
    ensure!(postgres.number(named).await? == 0);
    ensure!(said("forget --conversation c", &environment)?.contains("forgotten: 4 of entries\n"));
    ensure!(records(&postgres).await?.is_empty());
    Ok(())
}
