//! `archive`: very many messages into PostgreSQL, which is killed meanwhile as Redis and a node are, and whether each is there
//! once. Started by `cargo xtask archive`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use parlance_tests::million::{Plan, run};

fn arguments() -> Result<Plan> {
    let mut plan = Plan::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--messages" => plan.messages = value()?.parse()?,
            "--conversations" => plan.conversations = value()?.parse()?,
            "--senders" => plan.senders = value()?.parse()?,
            "--batch" => plan.batch = value()?.parse()?,
            _ => bail!("unknown argument {word}"),
        }
    }
    Ok(plan)
}

async fn play() -> Result<bool> {
    let outcome = run(&arguments()?).await?;
    println!("{outcome}");
    for what in &outcome.broken {
        println!("not as promised: {what}");
    }
    Ok(outcome.broken.is_empty())
}

#[tokio::main]
async fn main() -> ExitCode {
    match play().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("archive: {error:#}");
            ExitCode::from(2)
        }
    }
}
