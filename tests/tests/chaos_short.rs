//! Short chaos runs: clients of all dialects on three nodes, faults from a fixed seed, every promise checked.
//!
//! `cargo xtask chaos` runs all faults for as long as one likes. `PARLANCE_CHAOS_SEED` plays these with another seed;
//! `PARLANCE_CHAOS_FOLDER` keeps the histories.

use anyhow::{Result, ensure};
use parlance_tests::chaos::scenario::{Scenario, Step};
use parlance_tests::chaos::table::{figures, table};
use parlance_tests::chaos::{Fault, run};

/// A debug build beside other tests on two cores is no measure of speed; what hangs is still found.
const QUICK_MS: u64 = 4000;

async fn play(name: &str, steps: &[(u64, Fault)], leaver: bool) -> Result<()> {
    let seed = std::env::var("PARLANCE_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let first = steps.first().map_or(Fault::Calm, |(_, fault)| *fault);
    let scenario = Scenario {
        name: name.to_owned(),
        steps: steps.iter().map(|(at_ms, fault)| Step { at_ms: *at_ms, fault: *fault }).collect(),
        load_ms: 0,
        after_ms: 12_000,
        leaver,
        outside: steps.iter().any(|(_, fault)| *fault == Fault::ArchiveKill),
        ack_p99_ms: QUICK_MS,
        ..Scenario::of(first, seed)
    };
    let folder = tempfile::tempdir()?;
    let report = match std::env::var_os("PARLANCE_CHAOS_FOLDER") {
        Some(kept) => run(&scenario, &std::path::Path::new(&kept).join(name)).await?,
        None => run(&scenario, folder.path()).await?,
    };
    println!("{}{}", table(std::slice::from_ref(&report)), figures(&report));
    ensure!(report.acked > 20 && report.shown > report.acked, "hardly anything was said: {report:?}");
    ensure!(report.is_well(), "seed {seed}\n{}", report.evidence());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_die_redis_dies_subscribers_are_cut_and_somebody_leaves_without_a_word() -> Result<()> {
    let steps = [(3000, Fault::NodeKill), (8000, Fault::PubsubKill), (18_000, Fault::RedisKill)];
    play("standalone", &steps, true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_cut_off_at_once_and_old_nodes_make_room_for_new_ones() -> Result<()> {
    play("rollout", &[(2000, Fault::MassDisconnect), (4000, Fault::Rolling)], false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_the_cluster_dies() -> Result<()> {
    play("cluster", &[(3000, Fault::ClusterFailoverWait)], false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_and_the_backend_have_everything_once_though_all_are_killed() -> Result<()> {
    let steps = [(1500, Fault::ArchiveKill), (7000, Fault::NodeKill), (10_000, Fault::RedisKill)];
    play("outside", &steps, false).await
}
