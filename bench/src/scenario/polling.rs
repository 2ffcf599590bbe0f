//! Rooms whose receivers poll: Socket.IO's polling, and SocialHub's long poll.

use anyhow::Result;
use clap::Args as ClapArgs;

use super::common::{Common, Stage};
use super::groups::Groups;
use crate::outcome::Outcome;
use crate::target::Transport;

/// Rooms whose receivers poll: Socket.IO's polling (senders too), and SocialHub's long poll.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many rooms.
    #[arg(long, default_value_t = 20)]
    pub rooms: usize,
    /// How many are in each; one of them sends.
    #[arg(long, default_value_t = 5)]
    pub members: usize,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let mut common = common.clone();
    common.target.transport = Transport::Polling;
    let mut stage = Stage::open(&common).await?;
    let receivers = args.members.saturating_sub(1);
    let groups = Groups { rooms: args.rooms, receivers, senders: 1, ..Groups::default() };
    let load = groups.set_up(&stage).await?;
    Ok(load.run(&mut stage, "polling").await?.0)
}
