//! A schema's steps, in their order, each applied once.

use tokio_postgres::Client;

use crate::Refused;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// From 1 on.
    pub number: i32,
    /// What it is about.
    pub name: &'static str,
    /// What it does.
    pub sql: &'static str,
}

/// The steps of one schema. One that was released is never changed; later ones only add, so that a node of the release before
/// can go on.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The table that says which are applied, within the schema `parlance`.
    pub table: &'static str,
    /// In their order.
    pub all: &'static [Migration],
}

/// Nodes that start together migrate one after the other. ("parlance" as a number.)
const LOCK: i64 = 0x7061_726c;

impl Schema {
    /// The numbers of those that are applied.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn applied(&self, client: &Client) -> Result<Vec<i32>, Refused> {
        let table = format!("parlance.{}", self.table);
        let there = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
        if !there.try_get::<_, bool>(0)? {
            return Ok(Vec::new());
        }
        let rows = client.query(&format!("SELECT number FROM {table} ORDER BY number"), &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Those that are missing.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn missing(&self, client: &Client) -> Result<Vec<Migration>, Refused> {
        let applied = self.applied(client).await?;
        Ok(self.all.iter().copied().filter(|one| !applied.contains(&one.number)).collect())
    }

    /// Applies what is missing, all of it or nothing; what that was.
    ///
    /// # Errors
    /// What PostgreSQL says.
    pub async fn migrate(&self, client: &mut Client) -> Result<Vec<Migration>, Refused> {
        if self.missing(client).await?.is_empty() {
            return Ok(Vec::new());
        }
        let step = client.transaction().await?;
        step.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        let table = self.table;
        let ground = format!(
            "CREATE SCHEMA IF NOT EXISTS parlance;
            CREATE TABLE IF NOT EXISTS parlance.{table} (
                number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
            );"
        );
        step.batch_execute(&ground).await?;
        // Somebody may have been faster.
        let missing = self.missing(step.client()).await?;
        for one in &missing {
            step.batch_execute(one.sql).await?;
            let note = format!("INSERT INTO parlance.{table} (number, name) VALUES ($1, $2)");
            step.execute(&note, &[&one.number, &one.name]).await?;
        }
        step.commit().await?;
        Ok(missing)
    }
}
