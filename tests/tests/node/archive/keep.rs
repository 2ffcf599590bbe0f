//! What is kept no longer goes, and nothing else; who is to be forgotten is.

use anyhow::{Result, ensure};
use parlance_tests::metrics::until;
use parlance_tests::{Gateway, Postgres};

use super::command::{outcome, said};
use super::{are_whole, kept_in};
use crate::webhooks::{connect, say};

/// A row of a message that is so many days old.
pub async fn message(postgres: &Postgres, conversation: &str, seq: u64, days: u64) -> Result<()> {
    let columns = "conversation, seq, epoch, message_id, message_number, message_offset, sender, sender_name, client_id, body, metadata, sent_at";
    let row = format!(
        "'{conversation}', {seq}, 1, 'msg_', 1, {seq}, 'alice', 'Alice', 'm-{seq}', 'secret', '{{}}'"
    );
    let at = format!("now() - interval '{days} days'");
    postgres.rows(&format!("INSERT INTO parlance.messages ({columns}) VALUES ({row}, {at})")).await?;
    let columns = "conversation, target_seq, kind, user_id, epoch, seq, at, stands";
    let row = format!("'{conversation}', {seq}, 'x', 'bob', 1, {seq}, {at}, true");
    postgres.rows(&format!("INSERT INTO parlance.reaction_states ({columns}) VALUES ({row})")).await?;
    Ok(())
}

/// A row of a conversation that was made, and deleted, so many days ago; and of a member's.
async fn conversation(postgres: &Postgres, id: &str, made: u64, deleted: Option<u64>) -> Result<()> {
    let deleted = deleted.map_or("NULL".to_owned(), |days| format!("now() - interval '{days} days'"));
    let row = format!("'{id}', now() - interval '{made} days', 'alice', {deleted}, 1");
    postgres.rows(&format!("INSERT INTO parlance.conversations VALUES ({row})")).await?;
    let row = format!("'{id}', 'alice', 1, 1, now()");
    let columns = "conversation, user_id, joined_epoch, joined_seq, joined_at";
    postgres.rows(&format!("INSERT INTO parlance.memberships ({columns}) VALUES ({row})")).await?;
    postgres.rows(&format!("INSERT INTO parlance.receipts VALUES ('{id}', 'alice', 1, 1, now())")).await?;
    Ok(())
}

/// The tables, and in them a message that is older than anybody wants.
pub async fn old_message(postgres: &Postgres) -> Result<()> {
    said("migrate", &[("PARLANCE_ARCHIVE_URL", &postgres.url())])?;
    message(postgres, "ancient", 1, 10_000).await
}

async fn left(postgres: &Postgres, table: &str, seq: &str) -> Result<String> {
    let sql = format!(
        "SELECT coalesce(string_agg(line, ' '), '') FROM (SELECT conversation || ':' || string_agg({seq}::text, ',' ORDER BY {seq}) AS line
            FROM parlance.{table} GROUP BY conversation ORDER BY conversation) AS lines"
    );
    Ok(postgres.rows(&sql).await?.concat().concat())
}

#[tokio::test]
async fn messages_go_by_the_first_policy_that_is_about_their_conversation() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url();
    let kept = "[{ conversations = \"vip-*\", days = 0 }, { conversations = \"support-*\", days = 30 }]";
    let environment = [
        ("PARLANCE_ARCHIVE_URL", url.as_str()),
        ("PARLANCE_ARCHIVE_DAYS", "90"),
        ("PARLANCE_ARCHIVE_RETENTION", kept),
    ];
    said("migrate", &environment)?;
    for id in ["a", "support-1", "support-2", "vip-1"] {
        conversation(&postgres, id, 200, None).await?;
        for (seq, days) in [(2, 100), (3, 80), (4, 20), (7, 1)] {
            message(&postgres, id, seq, days).await?;
        }
    }
    postgres.rows("INSERT INTO parlance.superseded_messages SELECT * FROM parlance.messages").await?;
    let all = left(&postgres, "messages", "seq").await?;
    let dry = said("prune --dry-run", &environment)?;
    ensure!(
        dry == "would go: 5 of messages\nwould go: 5 of reaction_states\nwould go: 5 of superseded_messages\n",
        "{dry}"
    );
    ensure!(left(&postgres, "messages", "seq").await? == all, "nothing went");
    let wet = said("prune", &environment)?;
    ensure!(wet == dry.replace("would go", "removed"), "{wet}");
    for (table, seq) in
        [("messages", "seq"), ("superseded_messages", "seq"), ("reaction_states", "target_seq")]
    {
        let found = left(&postgres, table, seq).await?;
        ensure!(found == "a:3,4,7 support-1:4,7 support-2:4,7 vip-1:2,3,4,7", "{table}: {found}");
    }
    // So that history that is brought in later does not bring it back.
    let noted = "SELECT id FROM parlance.conversations WHERE removed_before BETWEEN
        now() - interval '91 days' AND now() - interval '29 days' ORDER BY id";
    ensure!(postgres.rows(noted).await?.concat() == ["a", "support-1", "support-2"]);
    ensure!(said("prune", &environment)? == "nothing to do\n");
    ensure!(postgres.number("SELECT count(*) FROM parlance.memberships").await? == 4);
    ensure!(said("prune", &environment[..1])?.starts_with("everything is kept for ever"));
    Ok(())
}

#[tokio::test]
async fn what_a_deleted_conversation_had_goes_and_what_it_has_again_stays() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url();
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str()), ("PARLANCE_ARCHIVE_DELETED_DAYS", "10")];
    said("migrate", &environment)?;
    for (id, made, deleted) in [
        ("gone", 50, Some(20)),
        ("lately", 50, Some(5)),
        ("there", 50, None),
        ("twice", 15, None),
        ("twice-lately", 5, None),
    ] {
        conversation(&postgres, id, made, deleted).await?;
        // What is deleted goes on no longer.
        for (seq, days) in [(1, 40), (2, 30), (3, if id == "gone" { 25 } else { 3 })] {
            message(&postgres, id, seq, days).await?;
        }
    }
    // More than go at once.
    let many = "INSERT INTO parlance.receipts SELECT 'gone', 'user-' || n, 1, 1, now() FROM generate_series(1, 2500) AS n";
    postgres.rows(many).await?;
    let dry = said("prune --dry-run", &environment)?;
    let wet = said("prune", &environment)?;
    ensure!(
        wet == dry.replace("would go", "removed") && wet.contains("removed: 2501 of receipts\n"),
        "{wet}\n{dry}"
    );
    let expected = "lately:1,2,3 there:1,2,3 twice:3 twice-lately:1,2,3";
    for (table, seq) in [("messages", "seq"), ("reaction_states", "target_seq")] {
        let found = left(&postgres, table, seq).await?;
        ensure!(found == expected, "{table}: {found}");
    }
    for table in ["memberships", "receipts"] {
        let found = left(&postgres, table, "user_id").await?;
        ensure!(found == "lately:alice there:alice twice:alice twice-lately:alice", "{table}: {found}");
    }
    ensure!(postgres.number("SELECT count(*) FROM parlance.conversations WHERE id = 'gone'").await? == 0);
    // What comes late of it is not written any more; of the others it is.
    let over = "SELECT kind, at < now() - interval '19 days' FROM parlance.forgotten";
    ensure!(postgres.rows(over).await? == [["ended", "t"]]);
    Ok(())
}

#[tokio::test]
async fn a_node_removes_what_is_too_old_and_goes_on_writing() -> Result<()> {
    let postgres = Postgres::start().await?;
    old_message(&postgres).await?;
    let gateway =
        Gateway::start(kept_in(&postgres, "retention = [{ conversations = \"*\", days = 30 }]")).await?;
    say(&mut connect(&gateway, "alice").await?, "m-1", "c", &["bob"]).await?;
    until(&gateway, |page| page.sum("parlance_archive_removed_rows_total", &[("table", "messages")]) == 1.0)
        .await?;
    are_whole(&postgres, 1).await?;
    ensure!(postgres.number("SELECT count(*) FROM parlance.chores WHERE name = 'prune'").await? == 1);
    ensure!(gateway.log().contains("removed") && !gateway.log().contains("secret"), "{}", gateway.log());
    Ok(())
}

#[tokio::test]
async fn who_is_to_be_forgotten_is() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.url();
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str())];
    said("migrate", &environment)?;
    for id in ["a", "b"] {
        conversation(&postgres, id, 1, None).await?;
        for seq in 1..4 {
            message(&postgres, id, seq, 0).await?;
        }
    }
    postgres.rows("INSERT INTO parlance.superseded_messages SELECT * FROM parlance.messages").await?;
    postgres.rows("UPDATE parlance.messages SET sender = 'bob' WHERE conversation = 'b' AND seq = 2").await?;
    let dry = said("forget --user alice --dry-run", &environment)?;
    ensure!(dry.contains("would be forgotten: 5 of messages\n"), "{dry}");
    let wet = said("forget --user alice", &environment)?;
    ensure!(wet == dry.replace("would be forgotten", "forgotten"), "{wet}");
    let full = "SELECT count(*) FROM parlance.messages WHERE body <> '' OR metadata IS NOT NULL OR sender_name IS NOT NULL";
    ensure!(postgres.number(full).await? == 1, "bob's stays");
    ensure!(postgres.number(&full.replace("messages", "superseded_messages")).await? == 0);
    ensure!(left(&postgres, "messages", "seq").await? == "a:1,2,3 b:1,2,3", "the log is dense");
    ensure!(postgres.number("SELECT count(*) FROM parlance.memberships").await? == 0);
    ensure!(postgres.number("SELECT count(*) FROM parlance.receipts").await? == 0);
    ensure!(
        postgres.number("SELECT count(*) FROM parlance.conversations WHERE created_by IS NOT NULL").await?
            == 0
    );
    ensure!(postgres.number("SELECT count(*) FROM parlance.reaction_states").await? == 6, "of bob");
    ensure!(said("forget --user alice", &environment)? == "nothing to do\n");
    said("forget --user bob", &environment)?;
    ensure!(postgres.number("SELECT count(*) FROM parlance.reaction_states").await? == 0);
    let conversation = said("forget --conversation a", &environment)?;
    ensure!(
        conversation.contains("forgotten: 3 of messages\n") && conversation.contains("1 of conversations"),
        "{conversation}"
    );
    ensure!(left(&postgres, "messages", "seq").await? == "b:1,2,3");
    Ok(())
}

#[tokio::test]
async fn one_at_a_time_removes() -> Result<()> {
    let postgres = Postgres::start().await?;
    old_message(&postgres).await?;
    let url = postgres.url();
    let environment = [("PARLANCE_ARCHIVE_URL", url.as_str()), ("PARLANCE_ARCHIVE_DAYS", "30")];
    // As if another one were at it, until it is told to stop.
    let other = postgres.rows("SELECT pg_advisory_lock(1634886504, -1); SELECT pg_sleep(60)");
    let meanwhile = async {
        postgres.until("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted", 1).await?;
        let (came, line) = outcome("prune", &environment)?;
        ensure!(!came && line.contains("somebody else is at it"), "{line}");
        are_whole(&postgres, 1).await?;
        postgres.rows("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'").await?;
        postgres.until("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0).await?;
        said("prune", &environment)
    };
    let (other, line) = tokio::join!(other, meanwhile);
    ensure!(other.is_err(), "it was ended");
    ensure!(line?.contains("removed: 1 of messages"));
    Ok(())
}
