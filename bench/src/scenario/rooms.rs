//! Many small rooms, with talk in all of them.

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;

use super::common::{Common, Stage};
use super::groups::Groups;
use crate::outcome::Outcome;

/// Many small rooms, with talk in all of them.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many rooms.
    #[arg(long, default_value_t = 100)]
    pub rooms: usize,
    /// How many are in each.
    #[arg(long, default_value_t = 20)]
    pub members: usize,
    /// How many of them send.
    #[arg(long, default_value_t = 1)]
    pub senders: usize,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    ensure!(args.senders <= args.members, "more senders than members");
    let mut stage = Stage::open(common).await?;
    let receivers = args.members - args.senders;
    let groups = Groups { rooms: args.rooms, receivers, senders: args.senders, ..Groups::default() };
    let load = groups.set_up(&stage).await?;
    Ok(load.run(&mut stage, "rooms").await?.0)
}
