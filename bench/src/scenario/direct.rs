//! Pairs: one writes, the other answers with receipts that it was delivered and read.

use anyhow::Result;
use clap::Args as ClapArgs;

use super::common::{Common, Stage};
use super::groups::Groups;
use crate::outcome::{Better, Join, Outcome};

/// Pairs: one writes, the other answers with receipts that it was delivered and read (where a dialect has words for it).
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many pairs.
    #[arg(long, default_value_t = 100)]
    pub pairs: usize,
    /// No receipts are given.
    #[arg(long)]
    pub no_receipts: bool,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let mut stage = Stage::open(common).await?;
    let receipts = !args.no_receipts;
    let groups = Groups { rooms: args.pairs, receivers: 1, senders: 1, receipts, ..Groups::default() };
    let load = groups.set_up(&stage).await?;
    let (mut outcome, window) = load.run(&mut stage, "direct").await?;
    outcome.setting("receipts", receipts);
    if receipts {
        outcome.figure("receipts", window.counted.events as f64, "", Better::None, Join::Sum);
    }
    Ok(outcome)
}
