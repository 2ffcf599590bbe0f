//! Once in an hour, by one of those who write.

use std::sync::Arc;
use std::time::Duration;

use parlance_postgres::{Refused, Session};

use super::Rows;
use super::policies::Policies;
use super::prune::prune;
use crate::store::Address;

/// The first look, at the latest after it; not all nodes that start together look at once.
const FIRST: Duration = Duration::from_secs(5);
/// Between two looks whether it is time.
const LOOK: Duration = Duration::from_secs(5 * 60);
/// Connecting may take so long.
const PATIENCE: Duration = Duration::from_secs(10);

const DUE: &str = "SELECT to_regclass('parlance.chores') IS NOT NULL";
const LATELY: &str =
    "SELECT count(*) > 0 FROM parlance.chores WHERE name = 'prune' AND done_at > now() - interval '1 hour'";
const DONE: &str = "INSERT INTO parlance.chores (name, done_at) VALUES ('prune', now())
    ON CONFLICT (name) DO UPDATE SET done_at = excluded.done_at";

/// Who is told what went.
pub trait Removals: Send + Sync {
    /// Rows of a table went.
    fn removed(&self, table: &'static str, rows: u64);
}

/// Has go what policies say, now and then, until it is dropped. They are asked for each time: they may change.
pub async fn keep(address: Address, policies: impl Fn() -> Policies + Send + Sync, tally: Arc<dyn Removals>) {
    tokio::time::sleep(FIRST.mul_f64(rand::random())).await;
    loop {
        let policies = policies();
        if !policies.is_empty() {
            match once(&address().unwrap_or_default(), &policies).await {
                Ok(rows) => told(&rows, tally.as_ref()),
                Err(why) => tracing::warn!(%why, "what the archive keeps no longer is removed later"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn told(rows: &Rows, tally: &dyn Removals) {
    let all: u64 = rows.values().sum();
    if all > 0 {
        tracing::info!(
            rows = all,
            messages = rows.get("messages"),
            "the archive keeps it no longer: removed"
        );
    }
    for (table, count) in rows {
        tally.removed(table, *count);
    }
}

async fn once(address: &str, policies: &Policies) -> Result<Rows, Refused> {
    let connected = Session::connect(address, "parlance-archive-retention");
    let mut session = tokio::time::timeout(PATIENCE, connected).await.map_err(|_| Refused::late())??;
    session.bound().await?;
    let there: bool = session.query_one(DUE, &[]).await?.try_get(0)?;
    if !there || session.query_one(LATELY, &[]).await?.try_get(0)? {
        return Ok(Rows::new());
    }
    let Some(rows) = prune(&mut session, policies, false).await? else { return Ok(Rows::new()) };
    session.execute(DONE, &[]).await?;
    Ok(rows)
}
