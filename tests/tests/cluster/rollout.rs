//! Nodes are replaced one by one behind a real balancer while stock clients and the load generator's talk.

use anyhow::{Result, ensure};
use parlance_tests::front::Kind;
use parlance_tests::rollout::{Plan, run};

async fn played(plan: Plan) -> Result<()> {
    let Some(outcome) = run(&plan).await? else { return Ok(()) };
    println!("{outcome}");
    // Once, where the machine has time; beside other tests a ping may be late, and a session ends by that.
    let broken = outcome.broken(1.25);
    ensure!(broken.is_empty(), "{broken:#?}\n{outcome}");
    ensure!(
        outcome.stock.recovered == outcome.stock.bounces,
        "sessions that are not taken up again: {outcome:?}"
    );
    Ok(())
}

#[tokio::test]
async fn behind_haproxy_each_client_is_sent_away_once_and_loses_nothing() -> Result<()> {
    played(Plan::default()).await
}

#[tokio::test]
async fn behind_nginx_each_client_is_sent_away_once_and_loses_nothing() -> Result<()> {
    played(Plan { balancer: Kind::Nginx, dialects: vec!["socialhub".to_owned()], ..Plan::default() }).await
}
