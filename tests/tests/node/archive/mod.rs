//! The archive: what happens is in PostgreSQL once, whoever is killed meanwhile.

mod acks;
mod aside;
mod backfill;
mod backfill_beside;
mod backfill_limits;
mod catching_up;
mod command;
mod faults;
mod gaps;
mod history;
mod keep;
mod late;
mod limits;
mod lives;
mod story;
mod tls;
mod unsay;
mod words;

use anyhow::{Result, ensure};
use parlance_tests::{Options, Postgres};

pub use keep::old_message;

/// A node's options that keep it there.
pub fn kept_in(postgres: &Postgres, more: &str) -> Options {
    let toml = format!("[archive]\nurl = \"{}\"\n{more}\n", postgres.url());
    Options::default().config(&toml).env("PARLANCE_LIMITS_RATES", "false")
}

/// So many messages, each once, and nothing beside them.
pub async fn are_whole(postgres: &Postgres, count: i64) -> Result<()> {
    postgres.until("SELECT count(*) FROM parlance.messages", count).await?;
    let distinct = "SELECT count(*) FROM (SELECT DISTINCT conversation, sender, client_id FROM parlance.messages) AS all_of_them";
    ensure!(postgres.number(distinct).await? == count, "some came twice");
    let odd = "SELECT count(*) FROM parlance.messages WHERE client_id_uses > 0 OR client_id IS NULL";
    ensure!(postgres.number(odd).await? == 0, "a client id was used twice");
    ensure!(postgres.number("SELECT count(*) FROM parlance.superseded_messages").await? == 0);
    Ok(())
}
