//! Acknowledgements: senders in rooms of their own, as fast as they may.

use anyhow::Result;
use clap::Args as ClapArgs;

use super::common::{Common, Stage};
use super::groups::Groups;
use crate::outcome::Outcome;

/// Acknowledgements: senders, each with one receiver, as fast as they may (with --closed, --window on the way each).
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many senders.
    #[arg(long, default_value_t = 100)]
    pub senders: usize,
    /// How many hear each of them; with none only acknowledgements are measured.
    #[arg(long, default_value_t = 1)]
    pub receivers: usize,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let mut stage = Stage::open(common).await?;
    let (rooms, receivers) = (args.senders, args.receivers);
    let groups = Groups { rooms, receivers, senders: 1, by_acks: true, ..Groups::default() };
    let load = groups.set_up(&stage).await?;
    Ok(load.run(&mut stage, "acks").await?.0)
}
