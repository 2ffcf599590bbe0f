//! All of it at once, while two people talk: a short run of what `cargo xtask hostile` does for longer.

use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::hostile::{Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_talk_undisturbed_among_attackers() -> Result<()> {
    let outcome = run(Plan { seed: 1, span: Duration::from_secs(10), each: 1 }).await?;
    ensure!(outcome.broken.is_empty(), "{outcome}");
    println!("{outcome}");
    Ok(())
}
