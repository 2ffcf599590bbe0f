//! Tables of which rows go, and their going: in batches, or only counted.

use parlance_postgres::{Refused, Session};
use tokio_postgres::types::ToSql;

use super::Rows;
use crate::store::LOCK;

/// Rows that go at once.
const BATCH: i64 = 1_000;
/// Conversations that are looked at at once.
const PAGE: i64 = 1_000;
/// A time in microseconds as PostgreSQL has it.
macro_rules! micros {
    ($parameter:literal) => {
        concat!("(timestamptz 'epoch' + ", $parameter, "::float8 * interval '1 microsecond')")
    };
}
pub(super) use micros;

/// A table with rows of conversations at times; its key begins with the conversation, and goes on with a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub name: &'static str,
    /// The sequence.
    pub seq: &'static str,
    /// The time.
    pub at: &'static str,
}

pub(super) const MESSAGES: Table = Table { name: "messages", seq: "seq", at: "sent_at" };
/// What else is in the log; there from the migration on that brings it.
pub(super) const ENTRIES: Table = Table { name: "entries", seq: "seq", at: "at" };
pub(super) const SUPERSEDED: Table = Table { name: "superseded_messages", seq: "seq", at: "sent_at" };
pub(super) const REACTIONS: Table = Table { name: "reaction_states", seq: "target_seq", at: "at" };

/// Whoever notes that something must not come back excludes who brings history in, for a moment: that is not to write what it
/// read before. The second half of a pair that is no part's.
pub(crate) const FORGETTING: i32 = -3;
/// What must not come back; there from a later migration on.
pub(super) const FORGOTTEN: &str = "forgotten";
/// Has it remembered when the life of a conversation was over, if it is: what comes late of it is not written.
pub(super) const OVER: &str = "INSERT INTO parlance.forgotten AS f (kind, name, at)
    SELECT 'ended', sha256(convert_to(id, 'UTF8')), deleted_at FROM parlance.conversations
        WHERE id = $1 AND deleted_at IS NOT NULL AND (created_at IS NULL OR created_at <= deleted_at)
    ON CONFLICT (kind, name) DO UPDATE SET at = greatest(f.at, excluded.at)";

/// What a page of conversations says of one.
pub(super) struct Seen {
    pub conversation: String,
    /// Of its first row.
    pub first: i64,
    pub now: i64,
    pub created: Option<i64>,
}

/// A connection by which rows go.
pub(super) struct Broom<'a> {
    pub session: &'a mut Session,
    /// They are counted, and stay.
    pub only_counts: bool,
    pub rows: Rows,
}

impl<'a> Broom<'a> {
    pub const fn new(session: &'a mut Session, only_counts: bool) -> Self {
        Self { session, only_counts, rows: Rows::new() }
    }

    /// Whether the table is there.
    pub async fn has(&self, table: &str) -> Result<bool, Refused> {
        let name = format!("parlance.{table}");
        Ok(self.session.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await?.try_get(0)?)
    }

    /// Has something noted that whoever brings history in is to see with the next page: none is under way while it is written.
    pub async fn note(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<(), Refused> {
        let step = self.session.transaction().await?;
        step.query("SELECT pg_advisory_xact_lock($1, $2)", &[&LOCK, &FORGETTING]).await?;
        step.execute(sql, parameters).await?;
        Ok(step.commit().await?)
    }

    /// Conversations after this one that have rows. The key is used from one to the next: their number counts, not the rows'.
    pub async fn page(&self, table: Table, after: &str) -> Result<Vec<Seen>, Refused> {
        let Table { name, seq, at } = table;
        let next = |beyond: &str| {
            format!(
                "SELECT conversation, {at} AS first FROM parlance.{name} WHERE conversation > {beyond}
                    ORDER BY conversation, {seq} LIMIT 1"
            )
        };
        let us = |time: &str| format!("(extract(epoch FROM {time}) * 1000000)::bigint");
        let sql = format!(
            "WITH RECURSIVE each AS (
                ({}) UNION ALL SELECT n.* FROM each AS e, LATERAL ({}) AS n
            )
            SELECT p.conversation, {}, {}, {} FROM (SELECT * FROM each LIMIT {PAGE}) AS p
            LEFT JOIN parlance.conversations AS c ON c.id = p.conversation ORDER BY p.conversation",
            next("$1"),
            next("e.conversation"),
            us("p.first"),
            us("now()"),
            us("c.created_at"),
        );
        let rows = self.session.query(&sql, &[&after]).await?;
        let seen = |row: &tokio_postgres::Row| -> Result<Seen, Refused> {
            let (conversation, first) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Seen { conversation, first, now: row.try_get(2)?, created: row.try_get(3)? })
        };
        rows.iter().map(seen).collect()
    }

    /// Has the rows go that a condition holds for, a batch at a time.
    pub async fn sweep(
        &mut self,
        table: &'static str,
        condition: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Refused> {
        if self.only_counts {
            let sql = format!("SELECT count(*) FROM parlance.{table} WHERE {condition}");
            let count: i64 = self.session.query_one(&sql, parameters).await?.try_get(0)?;
            self.count(table, u64::try_from(count).unwrap_or_default());
            return Ok(());
        }
        let sql = batch(table, condition);
        loop {
            let gone = self.session.execute(&sql, parameters).await?;
            self.count(table, gone);
            if gone < BATCH.unsigned_abs() {
                return Ok(());
            }
        }
    }

    pub fn count(&mut self, table: &'static str, rows: u64) {
        *self.rows.entry(table).or_default() += rows;
    }
}

/// Deletes a batch. Rows that somebody else has just now are left for the next time.
pub(super) fn batch(table: &str, condition: &str) -> String {
    format!(
        "DELETE FROM parlance.{table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM parlance.{table} WHERE {condition} LIMIT {BATCH} FOR UPDATE SKIP LOCKED
        ))"
    )
}
