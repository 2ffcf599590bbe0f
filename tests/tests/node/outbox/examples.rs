//! The programs of `docs/examples`, as they are: what each writes down is heard.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::{Gateway, script};

use super::{of_stream, of_table, table};

const TEXT: &str = "It's on its \"way\" \\ ö";

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(file)
}

fn run(mut command: Command, address: &str) -> Result<bool> {
    command.args([address, "order-17", "team-7", "alice", TEXT]);
    Ok(command.stdin(Stdio::null()).stderr(Stdio::null()).status()?.success())
}

async fn is_heard(gateway: &Gateway, write: impl AsyncFn() -> Result<()>) -> Result<()> {
    gateway.conversation("team-7", &["alice", "bob"]).await?;
    let mut bob = gateway.connect("/sechat", "bob").await?;
    write().await?;
    let heard = bob.expect("message:received").await?;
    ensure!(heard["body"] == TEXT && heard["fromUserId"] == "alice", "{heard}");
    Ok(())
}

#[tokio::test]
async fn the_python_example_writes_an_order_and_its_message_or_neither() -> Result<()> {
    let postgres = table().await?;
    let gateway = Gateway::start(of_table(&postgres)).await?;
    let Some(_) = script::bare_python(&example("outbox.py"))? else { return Ok(()) };
    let write = || -> Result<bool> {
        let command = script::bare_python(&example("outbox.py"))?;
        command.map_or(Ok(false), |command| run(command, &postgres.url()))
    };
    is_heard(&gateway, async || {
        ensure!(write()?, "it fails");
        Ok(())
    })
    .await?;
    ensure!(postgres.number("SELECT count(*) FROM orders").await? == 1);
    // The order is there already.
    ensure!(!write()?, "it does not say that it failed");
    postgres.until("SELECT count(*) FROM parlance.outbox", 0).await?;
    ensure!(super::bodies(&gateway, "team-7").await? == [TEXT]);
    Ok(())
}

#[tokio::test]
async fn the_node_example_writes_an_event_that_is_heard_once() -> Result<()> {
    let redis = Server::standalone().await?;
    let gateway = Gateway::start(of_stream(&redis)).await?;
    let write = || -> Result<()> {
        let mut command = Command::new("node");
        command.arg(example("outbox.mjs"));
        let address = redis.url().replace("redis://", "");
        ensure!(run(command, &address)?, "it fails");
        Ok(())
    };
    is_heard(&gateway, async || write()).await?;
    write()?;
    super::until_empty(&redis).await?;
    ensure!(super::bodies(&gateway, "team-7").await? == [TEXT]);
    Ok(())
}
