//! The programs of `docs/examples`, as they are: each is run, and a node asks it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use parlance_tests::http::Request;
use parlance_tests::script::{self, Script};
use parlance_tests::{Gateway, Options, PATIENCE};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{SECRET, turned_away};

/// Runs a program; it, and the port that it says it listens on.
async fn run(mut command: Command) -> Result<(Script, u16)> {
    command.env("SECRET", SECRET).env("PORT", "0");
    let (told, mut heard) = watch::channel(None);
    let script = Script::start(command, move |line| {
        let port = line.and_then(|line| line.strip_prefix("listening on ")?.trim().parse::<u16>().ok());
        if port.is_some() {
            told.send_replace(port);
        }
    })?;
    let port = timeout(PATIENCE, heard.wait_for(Option::is_some)).await.context("it does not listen")?;
    let port = port.context("it ended")?.context("no port")?;
    Ok((script, port))
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(file)
}

async fn decides(command: Command) -> Result<()> {
    let (_script, port) = run(command).await?;
    let config = |secret: &str| {
        let toml = format!("[authoriser]\nurl = \"http://127.0.0.1:{port}/\"\nsecret = \"{secret}\"\n");
        Options::brief().config(&toml)
    };
    let gateway = Gateway::start(config(SECRET)).await?;
    gateway.connect("/ws", "alice").await?;
    let refused = turned_away(&gateway, "/ws", "eve").await?;
    ensure!(refused == (403, json!({ "error": "banned", "code": "FORBIDDEN" })), "{refused:?}");
    let stranger = Gateway::start(config("another-secret-of-thirty-two-bytes-or-more")).await?;
    ensure!(turned_away(&stranger, "/ws", "alice").await?.0 == 503, "it believes what is not signed for it");
    let (address, body) = (format!("127.0.0.1:{port}"), json!({ "user": "alice" }));
    let unsigned = Request { address: &address, method: "POST", path: "/", bearer: None, body: Some(&body) };
    ensure!(unsigned.send().await?.status == 401, "it believes what is not signed");
    Ok(())
}

#[tokio::test]
async fn the_node_example_decides_and_believes_nobody_else() -> Result<()> {
    let mut command = Command::new("node");
    command.arg(example("authoriser.mjs"));
    decides(command).await
}

#[tokio::test]
async fn the_python_example_decides_and_believes_nobody_else() -> Result<()> {
    let Some(command) = script::bare_python(&example("authoriser.py"))? else { return Ok(()) };
    decides(command).await
}
