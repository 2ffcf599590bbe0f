//! One room: a few send, all hear.

use anyhow::Result;
use clap::Args as ClapArgs;

use super::common::{Common, Stage};
use super::groups::Groups;
use crate::outcome::Outcome;

/// One room: a few send, all hear.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many hear.
    #[arg(long, default_value_t = 100)]
    pub members: usize,
    /// How many send; they are members too.
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let mut stage = Stage::open(common).await?;
    let groups = Groups { rooms: 1, receivers: args.members, senders: args.publishers, ..Groups::default() };
    let load = groups.set_up(&stage).await?;
    Ok(load.run(&mut stage, "fanout").await?.0)
}
