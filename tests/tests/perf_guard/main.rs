//! What things cost, as ratios of processor time within one run: they hold on a slow machine, beside other work, and in
//! a build that is not optimised. Each guards one promise of `docs/performance.md`, with a margin wide enough that only
//! another order of growth, or a lost optimisation, breaks it.
//!
//! A program of its own, its measurements one after the other: nothing of the tests runs beside them.

mod crowd;
mod floor;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crowd::{Crowd, pair};
use parlance_tests::cost::Spent;
use parlance_tests::{Gateway, Options, cost};
use tokio::sync::Mutex;

/// What is compared is measured in turns, so often; the median counts.
const ROUNDS: usize = 5;
/// Whoever measures holds it.
static ALONE: Mutex<()> = Mutex::const_new(());
/// SeChat, told to connections of other conversations only what concerns them; whoever waits for its turn is not cut off.
const CONFIG: &str = r#"
[[mounts]]
name = "sechat"
dialect = "sechat"
path = "/sechat"
membership = "open"
presence_scope = "contacts"
ping_timeout_ms = 600000
"#;

async fn node() -> Result<Gateway> {
    Gateway::start(Options::brief().config(CONFIG).env("PARLANCE_NO_LIMITS", "true")).await
}

/// The median of the ratios, which are printed.
fn median(what: &str, mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("{what}: {median:.3} of {ratios:.3?}");
    median
}

fn ratio(of: Duration, to: Duration) -> f64 {
    of.as_secs_f64() / to.as_secs_f64()
}

/// How fast something grows that is `ratio` times as much at `times` as many: 0 not at all, 1 in proportion, 2 with the square.
fn exponent(ratio: f64, times: f64) -> f64 {
    ratio.ln() / times.ln()
}

/// Room of 100 and of 400 on one node; a short and a long text to the same 100.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_costs_in_proportion_to_its_members_and_a_text_is_encoded_once() -> Result<()> {
    let _alone = ALONE.lock().await;
    let node = node().await?;
    let mut few = Crowd::gather(&node, "few", 100).await?;
    let mut many = Crowd::gather(&node, "many", 400).await?;
    let (short, long) = ("hello ".repeat(33), "\"hello\"\n".repeat(2000));
    let (mut growths, mut lengths, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let in_few = few.cost(120, &short).await?;
        let in_many = many.cost(30, &short).await?;
        let of_long = few.cost(30, &long).await?;
        growths.push(exponent(ratio(in_many, in_few), 4.0));
        lengths.push(ratio(of_long, in_few));
        floors.push(ratio(in_few / 100, floor::delivery(100, 120, crowd::frame(&short))?));
    }
    let growth = median("growth with members (exponent)", growths);
    let length = median("a text of 16,000 bytes to one of 200", lengths);
    let above = median("a delivery to a bare write()", floors);
    ensure!(growth <= 1.35, "a room of four times as many members costs 4 to the {growth:.2} times as much");
    ensure!(length <= 6.0, "a text eighty times as long costs {length:.2} times as much");
    ensure!(above <= 30.0, "a delivery costs {above:.1} times a bare write()");
    Ok(())
}

/// A message of two people, on a node where ten and one where a thousand conversations are open.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_costs_the_same_however_many_conversations_there_are() -> Result<()> {
    let _alone = ALONE.lock().await;
    let (small, large) = (node().await?, node().await?);
    let mut of_few = pair(&small, 10).await?;
    let mut of_many = pair(&large, 1000).await?;
    let mut growths = Vec::new();
    for _ in 0..ROUNDS {
        let among_few = of_few.cost(500).await?;
        let among_many = of_many.cost(500).await?;
        growths.push(exponent(ratio(among_many, among_few), 100.0));
    }
    let growth = median("growth with conversations (exponent)", growths);
    ensure!(
        growth <= 0.15,
        "a hundred times as many conversations: 100 to the {growth:.2} times as much a message"
    );
    Ok(())
}

/// The processor time of a node.
fn spent(node: &Gateway) -> Result<Spent> {
    cost::cpu(node.pid().context("the node is gone")?)
}
