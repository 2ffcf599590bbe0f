//! `rollout`: replaces nodes one by one behind a balancer while clients talk, and says what they noticed. Started by
//! `cargo xtask rollout`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parlance_tests::front::Kind;
use parlance_tests::rollout::{Plan, run};

fn arguments() -> Result<Plan> {
    let mut plan = Plan::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--balancer" => {
                plan.balancer = match value()?.as_str() {
                    "haproxy" => Kind::Haproxy,
                    "nginx" => Kind::Nginx,
                    other => bail!("{other} is neither haproxy nor nginx"),
                }
            }
            "--dialects" => plan.dialects = value()?.split(',').map(str::to_owned).collect(),
            "--nodes" => plan.nodes = value()?.parse()?,
            "--stock" => plan.stock = value()?.parse()?,
            "--rooms" => plan.rooms = value()?.parse()?,
            "--members" => plan.members = value()?.parse()?,
            "--rate" => plan.rate = value()?.parse()?,
            "--seconds" => plan.load = Duration::from_secs(value()?.parse()?),
            "--delay-ms" => plan.delay = Duration::from_millis(value()?.parse()?),
            "--deadline-ms" => plan.deadline = Duration::from_millis(value()?.parse()?),
            "--folder" => plan.folder = Some(value()?.into()),
            _ => bail!("unknown argument {word}"),
        }
    }
    Ok(plan)
}

async fn play() -> Result<bool> {
    let plan = arguments()?;
    let Some(outcome) = run(&plan).await? else { return Ok(true) };
    println!("{outcome}");
    let broken = outcome.broken(1.0);
    for what in &broken {
        println!("not as promised: {what}");
    }
    Ok(broken.is_empty())
}

#[tokio::main]
async fn main() -> ExitCode {
    match play().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rollout: {error:#}");
            ExitCode::from(2)
        }
    }
}
