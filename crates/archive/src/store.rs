//! One connection to PostgreSQL: batches in, each in one transaction.
//!
//! Owns: what an error means. Must not know: where batches come from.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::error::DbError;
use tokio_postgres::{Client, NoTls, Transaction};

use crate::address;
use crate::migrations::{self, Migration};
use crate::pace::Outcome;
use crate::rows::Rows;

const STAGING: &str = include_str!("staging.sql");
const APPLY: &str = include_str!("apply.sql");
/// What is gathered before it goes out.
const CHUNK: usize = 64 * 1024;
/// Whoever applies a part does so alone, also when it takes longer than it has the part. (The first half of a pair.)
const LOCK: i32 = 0x6172_6368;
/// Above so many rows a count is an estimate.
const COUNTED: f32 = 100_000.0;

/// Why PostgreSQL did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is out of reach, or cannot do it now, or something about it has to be put right: worth a retry.
    #[error("{0}")]
    Away(String),
    /// It does not take what it was given.
    #[error("{0}")]
    Content(String),
}

impl Refused {
    /// As an outcome.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Away(_) => Outcome::Away,
            Self::Content(_) => Outcome::Refused,
        }
    }
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) if is_of_content(db.code().code()) => Self::Content(line(db)),
            Some(db) => Self::Away(line(db)),
            // Why is in its source: which address, which system call.
            None => Self::Away(
                std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
            ),
        }
    }
}

/// Never the detail, which quotes rows.
fn line(error: &DbError) -> String {
    format!("{} ({})", error.message(), error.code().code())
}

/// Data that does not fit (class 22), that breaks a rule (23, but for a key that somebody else took a moment ago), or is too large
/// (54). Anything else is about the server, the schema or rights, and whoever runs them can put it right.
fn is_of_content(code: &str) -> bool {
    code != "23505" && ["22", "23", "54"].iter().any(|class| code.starts_with(class))
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
    client: Client,
    /// What moves its bytes; ends with it.
    _mover: JoinSet<()>,
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// [`Refused::Away`], also for an address that is none.
    pub async fn connect(address: &str) -> Result<Self, Refused> {
        let config = address::parse(address).map_err(Refused::Away)?;
        let (client, connection) = config.connect(NoTls).await?;
        let mut mover = JoinSet::new();
        mover.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to PostgreSQL ended");
            }
        });
        let encoding = client.query_one("SHOW server_encoding", &[]).await?;
        let encoding: String = encoding.try_get(0)?;
        if encoding != "UTF8" {
            return Err(Refused::Away(format!("the database's encoding is {encoding}: it has to be UTF8")));
        }
        Ok(Self { client, _mover: mover })
    }

    /// Applies what is missing of the schema; what that was.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn migrate(&mut self) -> Result<Vec<Migration>, Refused> {
        migrations::migrate(&mut self.client).await
    }

    /// Makes it ready for [`Store::apply`].
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn prepare(&self) -> Result<(), Refused> {
        Ok(self.client.batch_execute(STAGING).await?)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Writes a part's batch: all of it is there then, once, or nothing. May be repeated.
    ///
    /// # Errors
    /// What PostgreSQL says; whether it is there is not known then.
    pub async fn apply(&mut self, part: usize, rows: &Rows, within: Duration) -> Result<(), Refused> {
        let late = || Refused::Away("no answer in time".to_owned());
        timeout(within, self.applied(part, rows)).await.map_err(|_| late())?
    }

    async fn applied(&mut self, part: usize, rows: &Rows) -> Result<(), Refused> {
        let step = self.client.transaction().await?;
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
        const TABLES: [&str; 6] =
            ["conversations", "messages", "superseded_messages", "reactions", "memberships", "receipts"];
        let (applied, missing) =
            (migrations::applied(&self.client).await?, migrations::missing(&self.client).await?);
        let mut rows = Vec::new();
        for table in TABLES.iter().filter(|_| !applied.is_empty()) {
            rows.push((*table, self.count(table).await?));
        }
        Ok(State { applied, missing, rows })
    }

    async fn count(&self, table: &str) -> Result<i64, Refused> {
        let about = "SELECT reltuples FROM pg_class WHERE oid = to_regclass('parlance.' || $1)";
        let about: f32 = self.client.query_one(about, &[&table]).await?.try_get(0)?;
        if about > COUNTED {
            #[allow(clippy::cast_possible_truncation, reason = "an estimate")]
            return Ok(about as i64);
        }
        Ok(self.client.query_one(&format!("SELECT count(*) FROM parlance.{table}"), &[]).await?.try_get(0)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_content_is_refused_for_it() {
        for (code, of_content) in [
            ("22021", true),
            ("22P02", true),
            ("23502", true),
            ("23505", false),
            ("54000", true),
            ("42P01", false),
            ("42501", false),
            ("53100", false),
            ("57P01", false),
            ("25006", false),
        ] {
            assert_eq!(is_of_content(code), of_content, "{code}");
        }
    }
}
