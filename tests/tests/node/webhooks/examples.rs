//! The programs of `docs/examples`, as they are: each is run, and a node tells it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use parlance_tests::http::Request;
use parlance_tests::script::{self, Script};
use parlance_tests::{Gateway, Options, PATIENCE};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{SECRET, connect, say};

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(file)
}

async fn hears(mut command: Command) -> Result<()> {
    command.env("SECRET", SECRET).env("PORT", "0");
    let (told, mut heard) = watch::channel(Vec::<String>::new());
    let _script = Script::start(command, move |line| {
        told.send_modify(|lines| lines.extend(line.map(str::to_owned)));
    })?;
    let port = |lines: &Vec<String>| {
        lines.iter().find_map(|line| line.strip_prefix("listening on ")?.parse::<u16>().ok())
    };
    timeout(PATIENCE, heard.wait_for(|lines| port(lines).is_some()))
        .await
        .context("it does not listen")??;
    let port = port(&heard.borrow()).context("no port")?;
    let toml = format!("[webhooks]\nurl = \"http://127.0.0.1:{port}/\"\nsecret = \"{SECRET}\"\n");
    let gateway = Gateway::start(Options::brief().config(&toml)).await?;
    let mut alice = connect(&gateway, "alice").await?;
    say(&mut alice, "m-1", "c", &["bob"]).await?;
    let whole = |lines: &Vec<String>| lines.iter().any(|line| line == "message.accepted c");
    timeout(PATIENCE, heard.wait_for(whole))
        .await
        .with_context(|| format!("not told:\n{}", gateway.log()))??;
    let (address, body) = (format!("127.0.0.1:{port}"), json!({ "events": [] }));
    let unsigned = Request { address: &address, method: "POST", path: "/", bearer: None, body: Some(&body) };
    ensure!(unsigned.send().await?.status == 401, "it believes what is not signed");
    Ok(())
}

#[tokio::test]
async fn the_node_example_hears_what_happens_and_believes_nobody_else() -> Result<()> {
    let mut command = Command::new("node");
    command.arg(example("webhooks.mjs"));
    hears(command).await
}

#[tokio::test]
async fn the_python_example_hears_what_happens_and_believes_nobody_else() -> Result<()> {
    let Some(command) = script::bare_python(&example("webhooks.py"))? else { return Ok(()) };
    hears(command).await
}
