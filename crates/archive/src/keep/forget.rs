//! Somebody is to be forgotten: a conversation, or a user.

use parlance_postgres::{Refused, Session};

use super::Rows;
use super::tables::{Broom, ENTRIES, FORGOTTEN, OVER};
use super::unsay;

/// Messages that are emptied at once.
const BATCH: i64 = 1_000;

/// Who, or what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// All rows of a conversation.
    Conversation(String),
    /// What a user wrote is emptied, and what says that the user was anywhere goes.
    User(String),
}

/// Who is forgotten, so that history that is brought in later does not bring it back.
const NOTE: &str =
    "INSERT INTO parlance.forgotten (kind, name, at) VALUES ($1, sha256(convert_to($2, 'UTF8')), clock_timestamp())
    ON CONFLICT (kind, name) DO UPDATE SET at = excluded.at";

/// Whether it is remembered who is forgotten; not before the step of the schema that brings that.
///
/// # Errors
/// What PostgreSQL says.
pub async fn remembers(session: &mut Session) -> Result<bool, Refused> {
    Broom::new(session, true).has(FORGOTTEN).await
}

/// Removes it, or only counts; rows by table.
///
/// # Errors
/// What PostgreSQL says. What went until then is gone; doing it again does the rest.
pub async fn forget(session: &mut Session, whom: &Forgotten, only_counts: bool) -> Result<Rows, Refused> {
    let mut broom = Broom::new(session, only_counts);
    let (has_entries, notes) = (broom.has(ENTRIES.name).await?, broom.has(FORGOTTEN).await? && !only_counts);
    match whom {
        Forgotten::Conversation(id) => {
            if notes {
                broom.note(NOTE, &[&"conversation", id]).await?;
                over(&mut broom, id).await?;
            }
            for table in ["messages", "superseded_messages", "reaction_states", "memberships", "receipts"] {
                broom.sweep(table, "conversation = $1", &[id]).await?;
            }
            if has_entries {
                broom.sweep(ENTRIES.name, "conversation = $1", &[id]).await?;
            }
            broom.sweep("conversations", "id = $1", &[id]).await?;
        }
        Forgotten::User(id) => {
            if notes {
                broom.note(NOTE, &[&"user", id]).await?;
            }
            for table in ["messages", "superseded_messages"] {
                empty(&mut broom, table, has_entries, id).await?;
            }
            for table in ["reaction_states", "memberships", "receipts"] {
                broom.sweep(table, "user_id = $1", &[id]).await?;
            }
            created(&mut broom, id).await?;
            if has_entries {
                unsay::entries(&mut broom, id).await?;
            }
        }
    }
    Ok(broom.rows)
}

/// Has it remembered that a conversation is over, if it is: as it stands, for as long as that is written.
async fn over(broom: &mut Broom<'_>, id: &String) -> Result<(), Refused> {
    let step = broom.session.transaction().await?;
    step.query_opt("SELECT FROM parlance.conversations WHERE id = $1 FOR UPDATE", &[id]).await?;
    step.execute(OVER, &[id]).await?;
    Ok(step.commit().await?)
}

/// Columns of a message that are emptied, besides its body.
const NAMED: [&str; 3] = ["metadata", "extra", "sender_name"];
/// And those that came with the table of entries.
const NAMED_LATER: [&str; 3] = ["sender_username", "sender_picture", "record"];

/// The row stays: a log without it would have a hole.
async fn empty(
    broom: &mut Broom<'_>,
    table: &'static str,
    has_entries: bool,
    user: &String,
) -> Result<(), Refused> {
    let later = if has_entries { &NAMED_LATER[..] } else { &[] };
    let columns: Vec<&str> = NAMED.iter().chain(later).copied().collect();
    let full = format!("sender = $1 AND (body <> '' OR num_nonnulls({}) > 0)", columns.join(", "));
    if broom.only_counts {
        return broom.sweep(table, &full, &[user]).await;
    }
    let nothing: Vec<String> = columns.iter().map(|column| format!("{column} = NULL")).collect();
    let sql = format!(
        "WITH chosen AS (
            SELECT ctid, sent_at FROM parlance.{table}
                WHERE {full} AND sent_at >= coalesce($2::text::timestamptz, '-infinity')
                ORDER BY sent_at LIMIT {BATCH} FOR UPDATE
        ), emptied AS (
            UPDATE parlance.{table} AS m SET body = '', {} FROM chosen WHERE m.ctid = chosen.ctid RETURNING chosen.sent_at
        )
        SELECT count(*), max(sent_at)::text FROM emptied",
        nothing.join(", ")
    );
    let mut from: Option<String> = None;
    loop {
        let row = broom.session.query_one(&sql, &[user, &from]).await?;
        let count: i64 = row.try_get(0)?;
        broom.count(table, u64::try_from(count).unwrap_or_default());
        if count == 0 {
            return Ok(());
        }
        from = row.try_get(1)?;
    }
}

async fn created(broom: &mut Broom<'_>, user: &String) -> Result<(), Refused> {
    let sql = if broom.only_counts {
        "SELECT count(*) FROM parlance.conversations WHERE created_by = $1"
    } else {
        "WITH nobody AS (UPDATE parlance.conversations SET created_by = NULL WHERE created_by = $1 RETURNING id)
        SELECT count(*) FROM nobody"
    };
    let count: i64 = broom.session.query_one(sql, &[user]).await?.try_get(0)?;
    broom.count("conversations", u64::try_from(count).unwrap_or_default());
    Ok(())
}
