//! One connection to PostgreSQL: batches in, each in one transaction.
//!
//! Must not know: where batches come from.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio::time::timeout;
use tokio_postgres::Transaction;

use parlance_postgres::{Migration, Refused, Session};

use crate::migrations::SCHEMA;
use crate::rows::Rows;

const STAGING: &str = include_str!("staging.sql");
const APPLY: &str = include_str!("apply.sql");
/// What is gathered before it goes out.
const CHUNK: usize = 64 * 1024;
/// Whoever applies a part does so alone, also when it takes longer than it has the part. (The first half of a pair.)
const LOCK: i32 = 0x6172_6368;
/// Above so many rows a count is an estimate.
const COUNTED: f32 = 100_000.0;

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
    session: Session,
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
        Ok(self.session.batch_execute(STAGING).await?)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Writes a part's batch: all of it is there then, once, or nothing. May be repeated.
    ///
    /// # Errors
    /// What PostgreSQL says; whether it is there is not known then.
    pub async fn apply(&mut self, part: usize, rows: &Rows, within: Duration) -> Result<(), Refused> {
        timeout(within, self.applied(part, rows)).await.map_err(|_| Refused::late())?
    }

    async fn applied(&mut self, part: usize, rows: &Rows) -> Result<(), Refused> {
        let step = self.session.transaction().await?;
        let part = i32::try_from(part).unwrap_or(i32::MAX);
        step.execute("SELECT pg_advisory_xact_lock($1, $2)", &[&LOCK, &part]).await?;
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

async fn copy(step: &Transaction<'_>, table: &str, lines: &[String]) -> Result<(), Refused> {
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
