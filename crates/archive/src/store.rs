//! One connection to PostgreSQL: batches in, each in one transaction.
//!
//! Must not know: where batches come from.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio::time::timeout;
use tokio_postgres::Transaction;

use parlance_model::Time;
use parlance_postgres::{Migration, Refused, Session};

use crate::migrations::SCHEMA;
use crate::rows::Rows;

const STAGING: &str = include_str!("staging.sql");
pub(crate) const APPLY: &str = include_str!("apply.sql");
/// What is gathered before it goes out.
const CHUNK: usize = 64 * 1024;
/// Whoever applies a part does so alone, also when it takes longer than it has the part. (The first half of a pair.)
pub(crate) const LOCK: i32 = 0x6172_6368;
/// Above so many rows a count is an estimate.
const COUNTED: f32 = 100_000.0;

/// Where the database is; asked at each connect, since a password may have been changed.
pub type Address = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Connects for writing, and sees to the schema, which may take as long as it takes: begun anew each time it would never end.
///
/// # Errors
/// What PostgreSQL says.
pub async fn connect(address: &Address, within: Duration) -> Result<Store, Refused> {
    let address = address().unwrap_or_default();
    let mut store = timeout(within, Store::connect(&address)).await.map_err(|_| Refused::late())??;
    for one in store.migrate().await? {
        tracing::info!(number = one.number, name = one.name, "the archive's schema was migrated");
    }
    timeout(within, store.prepare()).await.map_err(|_| Refused::late())??;
    Ok(store)
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Numbers of the migrations that are applied.
    pub applied: Vec<i32>,
    /// Those that this release knows and that are not.
    pub missing: Vec<Migration>,
    /// Rows by table; of a large one about how many.
    pub rows: Vec<(&'static str, i64)>,
}

/// A connection.
pub struct Store {
    pub(crate) session: Session,
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// [`Refused::Away`], also for an address that is none.
    pub async fn connect(address: &str) -> Result<Self, Refused> {
        Ok(Self { session: Session::connect(address, "parlance-archive").await? })
    }

    /// Applies what is missing of the schema; what that was.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn migrate(&mut self) -> Result<Vec<Migration>, Refused> {
        SCHEMA.migrate(&mut self.session).await
    }

    /// Makes it ready for [`Store::apply`].
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn prepare(&self) -> Result<(), Refused> {
        self.session.bound().await?;
        Ok(self.session.batch_execute(STAGING).await?)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Writes a batch of these parts: all of it is there then, once, or nothing. May be repeated.
    ///
    /// # Errors
    /// What PostgreSQL says; whether it is there is not known then.
    pub async fn apply(
        &mut self,
        parts: &BTreeSet<usize>,
        rows: &Rows,
        within: Duration,
    ) -> Result<(), Refused> {
        timeout(within, self.applied(parts, rows)).await.map_err(|_| Refused::late())?
    }

    async fn applied(&mut self, parts: &BTreeSet<usize>, rows: &Rows) -> Result<(), Refused> {
        let step = self.session.transaction().await?;
        let parts: Vec<i32> = parts.iter().map(|part| i32::try_from(*part).unwrap_or(i32::MAX)).collect();
        // In their order: nobody waits for somebody who waits for him.
        let locks = "SELECT pg_advisory_xact_lock($1, part) FROM unnest($2::int[]) AS part";
        step.query(locks, &[&LOCK, &parts]).await?;
        for (table, lines) in rows.copies() {
            copy(&step, table, &lines).await?;
        }
        step.batch_execute(APPLY).await?;
        Ok(step.commit().await?)
    }

    /// What there is.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn state(&self) -> Result<State, Refused> {
        /// With the step that each came with.
        const TABLES: [(&str, i32); 7] = [
            ("conversations", 1),
            ("messages", 1),
            ("superseded_messages", 1),
            ("entries", 2),
            ("reactions", 1),
            ("memberships", 1),
            ("receipts", 1),
        ];
        let (applied, missing) = (SCHEMA.applied(&self.session).await?, SCHEMA.missing(&self.session).await?);
        let mut rows = Vec::new();
        for (table, _) in TABLES.iter().filter(|(_, step)| applied.contains(step)) {
            rows.push((*table, self.count(table).await?));
        }
        Ok(State { applied, missing, rows })
    }

    /// Whether a message is there, of that time if that is known.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn has(
        &self,
        conversation: &str,
        (seq, at): (u64, Option<Time>),
        within: Duration,
    ) -> Result<bool, Refused> {
        const FIND: &str = "SELECT EXISTS (SELECT FROM parlance.messages WHERE conversation = $1 AND seq = $2
            AND ($3::timestamptz IS NULL OR sent_at = $3))";
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        let at = at.map(|at| SystemTime::UNIX_EPOCH + Duration::from_millis(at.millis()));
        let found = timeout(within, self.session.query_one(FIND, &[&conversation, &seq, &at])).await;
        Ok(found.map_err(|_| Refused::late())??.try_get(0)?)
    }

    async fn count(&self, table: &str) -> Result<i64, Refused> {
        let about = "SELECT reltuples FROM pg_class WHERE oid = to_regclass('parlance.' || $1)";
        let about: f32 = self.session.query_one(about, &[&table]).await?.try_get(0)?;
        if about > COUNTED {
            #[allow(clippy::cast_possible_truncation, reason = "an estimate")]
            return Ok(about as i64);
        }
        Ok(self
            .session
            .query_one(&format!("SELECT count(*) FROM parlance.{table}"), &[])
            .await?
            .try_get(0)?)
    }
}

pub(crate) async fn copy(step: &Transaction<'_>, table: &str, lines: &[String]) -> Result<(), Refused> {
    let mut into = pin!(step.copy_in::<_, Bytes>(&format!("COPY pg_temp.{table} FROM STDIN")).await?);
    let mut gathered = String::new();
    for line in lines {
        gathered.push_str(line);
        if gathered.len() >= CHUNK {
            into.send(Bytes::from(std::mem::take(&mut gathered))).await?;
        }
    }
    if !gathered.is_empty() {
        into.send(Bytes::from(gathered)).await?;
    }
    into.finish().await?;
    Ok(())
}
