//! `hostile`: attacks a node in every way at once for so long while two people talk, and says what they noticed.
//! Started by `cargo xtask hostile`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parlance_tests::hostile::{Plan, run};

fn arguments() -> Result<Plan> {
    let mut plan = Plan { seed: rand::random(), span: Duration::from_secs(60), each: 2 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => plan.seed = value()?.parse()?,
            "--seconds" => plan.span = Duration::from_secs(value()?.parse()?),
            "--each" => plan.each = value()?.parse()?,
            _ => bail!("unknown argument {word}"),
        }
    }
    Ok(plan)
}

async fn play() -> Result<bool> {
    let plan = arguments()?;
    println!("seed {}", plan.seed);
    let outcome = run(plan).await?;
    print!("{outcome}");
    Ok(outcome.broken.is_empty())
}

#[tokio::main]
async fn main() -> ExitCode {
    match play().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error:#}");
            ExitCode::from(2)
        }
    }
}
