//! The schema's steps, in their order, each applied once.

use tokio_postgres::Client;

use crate::store::Refused;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// From 1 on.
    pub number: i32,
    /// What it is about.
    pub name: &'static str,
    sql: &'static str,
}

/// All that this release knows. One that was released is never changed; later ones only add, so that a node of the release before
/// can go on writing.
pub const ALL: &[Migration] =
    &[Migration { number: 1, name: "tables", sql: include_str!("../migrations/0001_tables.sql") }];

/// Nodes that start together migrate one after the other. ("parlance" as a number.)
const LOCK: i64 = 0x7061_726c;

const GROUND: &str = "CREATE SCHEMA IF NOT EXISTS parlance;
CREATE TABLE IF NOT EXISTS parlance.migrations (
    number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
);";

/// The numbers of those that are applied.
pub async fn applied(client: &Client) -> Result<Vec<i32>, Refused> {
    let there = client.query_one("SELECT to_regclass('parlance.migrations') IS NOT NULL", &[]).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let rows = client.query("SELECT number FROM parlance.migrations ORDER BY number", &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Those that are missing.
pub async fn missing(client: &Client) -> Result<Vec<Migration>, Refused> {
    let applied = applied(client).await?;
    Ok(ALL.iter().copied().filter(|one| !applied.contains(&one.number)).collect())
}

/// Applies what is missing, all of it or nothing; what that was.
///
/// # Errors
/// What PostgreSQL says.
pub async fn migrate(client: &mut Client) -> Result<Vec<Migration>, Refused> {
    if missing(client).await?.is_empty() {
        return Ok(Vec::new());
    }
    let step = client.transaction().await?;
    step.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    step.batch_execute(GROUND).await?;
    // Somebody may have been faster.
    let missing = missing(step.client()).await?;
    for one in &missing {
        step.batch_execute(one.sql).await?;
        let note = "INSERT INTO parlance.migrations (number, name) VALUES ($1, $2)";
        step.execute(note, &[&one.number, &one.name]).await?;
    }
    step.commit().await?;
    Ok(missing)
}
