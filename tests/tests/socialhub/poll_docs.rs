//! The commands of the documentation, pasted.

use std::process::Command;

use crate::poll_support::say;
use crate::support::{conversation, gateway};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/dialects/socialhub.md");

/// The commands in the page's blocks of console, in order; `\` goes on with the next line.
fn commands() -> Vec<String> {
    let blocks = PAGE.split("```console\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let lines =
        blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>());
    lines
        .filter_map(|line| line.strip_prefix("$ ").map(str::to_owned))
        .filter(|line| line.starts_with("curl"))
        .collect()
}

#[tokio::test]
async fn curl_commands_work_as_pasted() -> Result<()> {
    let node = gateway().await?;
    conversation(&node, "demo", &["alice", "bob"]).await?;
    say(&node, "demo", "bob", "hello").await?;
    let token = parlance_tests::token("alice")?;
    let commands = commands();
    ensure!(commands.len() >= 4, "the page shows {commands:?}");
    for command in commands {
        let pasted = command.replace("127.0.0.1:8082", node.address()).replace("timeout=30", "timeout=1");
        let run = tokio::task::spawn_blocking({
            let (pasted, token) = (format!("{pasted} --silent --show-error"), token.clone());
            move || Command::new("sh").args(["-c", &pasted]).env("TOKEN", token).output()
        });
        let output = run.await??;
        let text = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let body = text.lines().last().with_context(|| format!("{command}: no answer"))?;
        let answer: Value = serde_json::from_str(body).with_context(|| format!("{command}: {text}"))?;
        let told = answer.get("events").or_else(|| answer.get("messages"));
        ensure!(told.is_some_and(Value::is_array), "{command}: {answer}");
    }
    Ok(())
}
