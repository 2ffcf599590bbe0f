//! The archive's schema.

use parlance_postgres::{Migration, Schema};

/// All steps that this release knows.
pub const SCHEMA: Schema = Schema {
    table: "migrations",
    all: &[
        Migration { number: 1, name: "tables", sql: include_str!("../migrations/0001_tables.sql") },
        Migration { number: 2, name: "entries", sql: include_str!("../migrations/0002_entries.sql") },
        Migration { number: 3, name: "chores", sql: include_str!("../migrations/0003_chores.sql") },
        Migration { number: 4, name: "backfill", sql: include_str!("../migrations/0004_backfill.sql") },
    ],
};
