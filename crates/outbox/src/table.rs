//! The table `parlance.outbox` in the application's PostgreSQL.
//!
//! The lead is an advisory lock of the session: it ends with the connection, and so with the node. Looked at again and again
//! instead of being told by `NOTIFY`: that would have every commit of the application wait for every other.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use parlance_postgres::{Migration, Refused, Schema, Session};
use tokio::time::{Instant, timeout};
use tokio_postgres::Row;

use crate::Address;
use crate::source::{Aside, Away, Backlog, Event, Refusal, Source};

/// Its steps.
const SCHEMA: Schema = Schema {
    table: "outbox_migrations",
    all: &[Migration { number: 1, name: "outbox", sql: include_str!("../migrations/0001_outbox.sql") }],
};

/// Whoever has it leads. ("outbox" as a number.)
const LOCK: i64 = 0x6f75_7462_6f78;
/// How long a statement may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A session of which nothing was heard for so long may have ended there.
const SURE: Duration = Duration::from_secs(8);
/// What is read at once, in bytes, but for one event.
const BUDGET: i64 = 8 << 20;

/// So that neither a session outlives its node nor a statement its patience: the login may be another's, so nothing that only
/// an owner may set.
const SETTINGS: &str = "
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SET statement_timeout = '9s';
SET lock_timeout = '9s';
SELECT set_config('idle_session_timeout', '30s', false) WHERE current_setting('server_version_num')::int >= 140000;";

/// Making the table may take longer than looking at it.
const MIGRATING: &str = "RESET statement_timeout; RESET lock_timeout";

/// From the beginning (`$5`: the largest number there is) together with the last number that can be seen right then.
const READ: &str = "
WITH page AS (
    SELECT id, key, call, target, body::text AS body, created_at FROM parlance.outbox
    WHERE refused_at IS NULL AND id > $1 AND id <= $5 ORDER BY id LIMIT $2
), sized AS (
    SELECT *, coalesce(octet_length(body), 0) AS size, sum(coalesce(octet_length(body), 0)) OVER (ORDER BY id) AS total FROM page
)
SELECT id, key, call, target, CASE WHEN size <= $3 THEN coalesce(body, '') END,
    greatest(0, (extract(epoch FROM created_at) * 1000)::bigint),
    CASE WHEN $5 = 9223372036854775807 THEN (SELECT max(id) FROM parlance.outbox WHERE refused_at IS NULL) END
FROM sized WHERE total - size < $4 ORDER BY id";

const SETTLE: &str = "
WITH gone AS (DELETE FROM parlance.outbox WHERE id = ANY($1))
UPDATE parlance.outbox AS kept
SET refused_at = clock_timestamp(), refusal_code = said.code, refusal = said.why, refusals = kept.refusals + 1
FROM unnest($2::bigint[], $3::text[], $4::text[]) AS said (id, code, why) WHERE kept.id = said.id";

const BACKLOG: &str = "
SELECT (SELECT count(*) FROM (SELECT FROM parlance.outbox WHERE refused_at IS NULL LIMIT 100000) AS waiting),
    (SELECT count(*) FROM (SELECT FROM parlance.outbox WHERE refused_at IS NOT NULL LIMIT 100000) AS aside),
    coalesce((SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM parlance.outbox
        WHERE refused_at IS NULL ORDER BY id LIMIT 1), 0)";

const ASIDE: &str = "
SELECT id, call, coalesce(target, ''), coalesce(refusal_code, ''), coalesce(refusal, '') FROM parlance.outbox
WHERE refused_at IS NOT NULL ORDER BY id LIMIT $1";

const RETRY: &str = "
UPDATE parlance.outbox SET refused_at = NULL, refusal_code = NULL, refusal = NULL
WHERE refused_at IS NOT NULL AND ($1::bigint IS NULL OR id = $1)";

/// What [`Schema::migrate`] would do to an empty database, for who lets other programs do so.
pub fn as_sql() -> String {
    let table = SCHEMA.table;
    let mut out = format!(
        "CREATE SCHEMA IF NOT EXISTS parlance;\nCREATE TABLE IF NOT EXISTS parlance.{table} (\n    number integer PRIMARY KEY, \
         name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()\n);\n"
    );
    for one in SCHEMA.all {
        // Writing into a string cannot fail.
        let _ = write!(
            out,
            "\n{}\nINSERT INTO parlance.{table} (number, name) VALUES ({}, '{}');\n",
            one.sql.trim_end(),
            one.number,
            one.name
        );
    }
    out
}

/// The table.
pub struct Table {
    address: Address,
    /// The largest body that is read.
    largest: usize,
    session: Option<Session>,
    /// Since when it is known that this session leads.
    leads: Mutex<Option<Instant>>,
    /// The last number that could be seen when the beginning was read.
    until: AtomicI64,
}

/// A statement, which ends.
async fn within<T>(
    statement: impl Future<Output = Result<T, tokio_postgres::Error>> + Send,
) -> Result<T, Away> {
    let done = timeout(PATIENCE, statement).await.map_err(|_| Refused::late())?;
    Ok(done.map_err(Refused::from)?)
}

impl Table {
    /// The one behind an address; bodies of more than `largest` bytes are not read.
    pub fn new(address: Address, largest: usize) -> Self {
        let until = AtomicI64::new(i64::MAX);
        Self { address, largest, session: None, leads: Mutex::default(), until }
    }

    async fn open(&mut self) -> Result<&mut Session, Away> {
        let open = self.session.take().filter(|session| !session.is_closed());
        let session = if let Some(session) = open {
            session
        } else {
            *self.leads.lock() = None;
            let address = (self.address)().unwrap_or_default();
            let connected = Session::connect(&address, "parlance-outbox");
            let session = timeout(PATIENCE, connected).await.map_err(|_| Refused::late())??;
            within(session.batch_execute(SETTINGS)).await?;
            session
        };
        Ok(self.session.insert(session))
    }

    /// Makes the table, or brings it to what this release needs; the steps that were missing.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn migrate(&mut self) -> Result<Vec<Migration>, Away> {
        let session = self.open().await?;
        within(session.batch_execute(MIGRATING)).await?;
        Ok(SCHEMA.migrate(session).await?)
    }

    fn session(&self) -> Result<&Session, Away> {
        self.session.as_ref().ok_or_else(|| Away("there is no connection".to_owned()))
    }

    /// Whoever may not take away what is published would publish it again and again.
    async fn may_settle(&self) -> Result<(), Away> {
        let (ids, texts) = (Vec::<i64>::new(), Vec::<String>::new());
        within(self.session()?.execute(SETTLE, &[&ids, &ids, &texts, &texts])).await.map(drop)
    }

    /// What was heard since a moment came from a session that leads.
    fn heard(&self, since: Instant) {
        if let Some(at) = self.leads.lock().as_mut() {
            *at = since;
        }
    }

    fn event(row: &Row) -> Result<Event, Away> {
        let at: i64 = row.try_get(5).map_err(Refused::from)?;
        let text = |column: usize| row.try_get::<_, String>(column).map_err(Refused::from);
        let maybe = |column: usize| row.try_get::<_, Option<String>>(column).map_err(Refused::from);
        Ok(Event {
            id: row.try_get::<_, i64>(0).map_err(Refused::from)?.to_string(),
            key: text(1)?,
            call: text(2)?,
            target: maybe(3)?,
            body: maybe(4)?.map(String::into_bytes),
            at: u64::try_from(at).unwrap_or_default(),
        })
    }
}

/// PostgreSQL's text has none.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn number(id: &str) -> Result<i64, Away> {
    id.parse().map_err(|_| Away(format!("{id} is no id of an event")))
}

#[async_trait]
impl Source for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    async fn connect(&mut self) -> Result<(), Away> {
        self.open().await.map(drop)
    }

    async fn lead(&mut self) -> Result<bool, Away> {
        self.connect().await?;
        let led = *self.leads.lock();
        let began = Instant::now();
        match led {
            Some(at) if at.elapsed() < SURE / 4 => return Ok(true),
            // One that hangs is not asked twice.
            Some(_) => {
                if let Err(why) = self.renew().await {
                    self.session = None;
                    return Err(why);
                }
            }
            None => {
                let asked = self.session()?.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]);
                let has: bool = within(asked).await?.try_get(0).map_err(Refused::from)?;
                if has && let Err(why) = self.may_settle().await {
                    self.session = None;
                    return Err(why);
                }
                *self.leads.lock() = has.then_some(began);
            }
        }
        Ok(self.leads())
    }

    async fn renew(&self) -> Result<(), Away> {
        let began = Instant::now();
        within(self.session()?.simple_query("SELECT 1")).await?;
        self.heard(began);
        Ok(())
    }

    fn leads(&self) -> bool {
        let open = self.session.as_ref().is_some_and(|session| !session.is_closed());
        open && self.leads.lock().is_some_and(|at| at.elapsed() < SURE)
    }

    async fn leave(&mut self) {
        *self.leads.lock() = None;
        if let Some(session) = self.session.take()
            // It may have been asked for more than once.
            && let Err(why) = within(session.execute("SELECT pg_advisory_unlock_all()", &[])).await
        {
            tracing::debug!(%why, "the lock of the outbox ends with its session");
        }
    }

    async fn read(&self, after: Option<&str>, most: usize) -> Result<Vec<Event>, Away> {
        let began = Instant::now();
        let after = after.map_or(Ok(i64::MIN), number)?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let largest = i32::try_from(self.largest).unwrap_or(i32::MAX);
        let until = if after == i64::MIN { i64::MAX } else { self.until.load(Ordering::Relaxed) };
        let rows = within(self.session()?.query(READ, &[&after, &most, &largest, &BUDGET, &until])).await?;
        self.heard(began);
        if after == i64::MIN {
            let last = rows.first().map(|row| row.try_get::<_, Option<i64>>(6)).transpose();
            self.until.store(last.map_err(Refused::from)?.flatten().unwrap_or(i64::MAX), Ordering::Relaxed);
        }
        rows.iter().map(Self::event).collect()
    }

    async fn settle(&self, published: &[String], refused: &[(String, Refusal)]) -> Result<(), Away> {
        if published.is_empty() && refused.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let gone: Vec<i64> = published.iter().map(|id| number(id)).collect::<Result<_, _>>()?;
        let aside: Vec<i64> = refused.iter().map(|(id, _)| number(id)).collect::<Result<_, _>>()?;
        let codes: Vec<String> = refused.iter().map(|(_, refusal)| without_nul(&refusal.code)).collect();
        let whys: Vec<String> = refused.iter().map(|(_, refusal)| without_nul(&refusal.why)).collect();
        let settled =
            async { within(self.session()?.execute(SETTLE, &[&gone, &aside, &codes, &whys])).await };
        if let Err(why) = settled.await {
            // Before anything more is carried out it is looked at whether that can be settled.
            *self.leads.lock() = None;
            return Err(why);
        }
        self.heard(began);
        Ok(())
    }

    async fn backlog(&self) -> Result<Backlog, Away> {
        let row = within(self.session()?.query_one(BACKLOG, &[])).await?;
        let count = |column: usize| -> Result<u64, Away> {
            let count: i64 = row.try_get(column).map_err(Refused::from)?;
            Ok(u64::try_from(count).unwrap_or_default())
        };
        let lag: f64 = row.try_get(2).map_err(Refused::from)?;
        let lag = Duration::try_from_secs_f64(lag).unwrap_or_default();
        Ok(Backlog { waiting: count(0)?, aside: count(1)?, lag })
    }

    async fn aside(&self, most: usize) -> Result<Vec<Aside>, Away> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = within(self.session()?.query(ASIDE, &[&most])).await?;
        let told = |row: &Row| -> Result<Aside, tokio_postgres::Error> {
            let id = row.try_get::<_, i64>(0)?.to_string();
            let refusal = Refusal { code: row.try_get(3)?, why: row.try_get(4)? };
            Ok(Aside { id, call: row.try_get(1)?, target: row.try_get(2)?, refusal })
        };
        Ok(rows.iter().map(told).collect::<Result<_, _>>().map_err(Refused::from)?)
    }

    async fn retry(&self, id: Option<&str>) -> Result<u64, Away> {
        let id = id.map(number).transpose()?;
        within(self.session()?.execute(RETRY, &[&id])).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_applied() {
        let sql = as_sql();
        assert!(sql.starts_with("CREATE SCHEMA IF NOT EXISTS parlance;"));
        assert!(SCHEMA.all.iter().all(|one| sql.contains(one.sql.trim_end())));
        assert!(sql.ends_with("VALUES (1, 'outbox');\n"), "{sql}");
    }
}
