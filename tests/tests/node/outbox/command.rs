//! `parlance outbox`: the table made by it or by others, and what cannot be.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use parlance_tests::{Postgres, built_binary};

use super::said;

#[tokio::test]
async fn the_table_is_made_once_by_the_command_or_by_what_it_prints() -> Result<()> {
    let (one, other) = (Postgres::start().await?, Postgres::start().await?);
    let migrate = |postgres: &Postgres| said(&["migrate"], &[("PARLANCE_OUTBOX_URL", &postgres.url())]);
    ensure!(migrate(&one)? == "applied 0001 outbox\ndone\n");
    ensure!(migrate(&one)? == "nothing to do\n");
    other.rows(&said(&["migrate", "--print"], &[])?).await?;
    ensure!(migrate(&other)? == "nothing to do\n");
    let columns = "SELECT table_name, column_name, data_type, column_default FROM information_schema.columns \
                   WHERE table_schema = 'parlance' ORDER BY 1, 2";
    ensure!(one.rows(columns).await? == other.rows(columns).await?);
    Ok(())
}

#[test]
fn what_cannot_be_is_said() -> Result<()> {
    let refused = |words: &[&str], environment: &[(&str, &str)]| -> Result<String> {
        let mut command = Command::new(built_binary()?);
        command.args(words).env("PARLANCE_JWT_SECRET", parlance_tests::SECRET);
        let output = command.envs(environment.iter().copied()).stdin(Stdio::null()).output()?;
        ensure!(output.status.code() == Some(2), "{:?}", output.status);
        Ok(String::from_utf8(output.stderr)?)
    };
    let nothing = refused(&["outbox", "status"], &[])?;
    ensure!(nothing.contains("neither outbox.url nor outbox.stream is set"), "{nothing}");
    let embedded = refused(&["check-config"], &[("PARLANCE_OUTBOX_STREAM", "outbox")])?;
    ensure!(embedded.contains("outbox.stream: needs a Redis"), "{embedded}");
    let bad = [("PARLANCE_OUTBOX_STREAM", "o"), ("PARLANCE_OUTBOX_REDIS_URL", "redis://:hush@h/7")];
    let bad = refused(&["check-config"], &bad)?;
    ensure!(bad.contains("outbox.redis_url: ") && !bad.contains("hush"), "{bad}");
    Ok(())
}
