//! Typing: how much a signal costs that nobody keeps.

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;

use super::common::{Common, Stage};
use super::groups::Groups;
use crate::outcome::{Better, Join, Outcome};

/// Typing: in each room one starts and stops, all others hear of it.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many rooms.
    #[arg(long, default_value_t = 20)]
    pub rooms: usize,
    /// How many are in each.
    #[arg(long, default_value_t = 5)]
    pub members: usize,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    ensure!(!common.closed, "typing is not answered: there is no closed loop of it");
    ensure!(args.members > 1, "nobody hears the typist");
    let mut stage = Stage::open(common).await?;
    let groups = Groups {
        rooms: args.rooms,
        receivers: args.members - 1,
        senders: 1,
        typing: true,
        ..Groups::default()
    };
    let load = groups.set_up(&stage).await?;
    let (mut outcome, window) = load.run(&mut stage, "typing").await?;
    let heard = window.counted.events as f64;
    outcome.figures.clear();
    outcome.figure("signals", window.counted.sent as f64, "", Better::None, Join::Sum);
    outcome.figure("heard", heard, "", Better::None, Join::Sum);
    outcome.figure("heard_per_second", heard / window.seconds.max(1e-9), "1/s", Better::Higher, Join::Sum);
    outcome.cost("cpu_us_per_heard", "heard");
    Ok(outcome)
}
