//! All connections are cut at once and come back: how long until everybody is in again, and whether anything is lost.

use std::time::Duration;

use anyhow::Result;
use clap::Args as ClapArgs;
use tokio::time::sleep;

use super::common::{Common, Stage};
use super::finish;
use super::groups::Groups;
use crate::outcome::{Better, Join, Outcome};

/// All connections are cut at once, in the middle of talk, and come back.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many rooms.
    #[arg(long, default_value_t = 50)]
    pub rooms: usize,
    /// How many are in each; one of them sends.
    #[arg(long, default_value_t = 10)]
    pub members: usize,
    /// How often they are cut; evenly spread over --seconds.
    #[arg(long, default_value_t = 1)]
    pub cuts: usize,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    let mut stage = Stage::open(common).await?;
    let receivers = args.members.saturating_sub(1);
    // Receipts confirm what arrived: what comes again after a cut is what had none.
    let groups = Groups {
        rooms: args.rooms,
        receivers,
        senders: 1,
        receipts: true,
        comes_back: true,
        ..Groups::default()
    };
    let mut load = groups.set_up(&stage).await?;
    load.begin(&stage).await?;
    let (cuts, run, locals) = (load.cuts(), stage.run.clone(), load.locals() as u64);
    let arrived = load.arrived(&stage);
    let between = (run.end - run.warm) / (args.cuts as u64 + 1);
    let cutting = async {
        let mut slowest = 0;
        for cut in 1..=args.cuts as u64 {
            let at = run.warm + cut * between;
            run.until(at).await;
            cuts.send_modify(|cuts| *cuts += 1);
            while run.returned() < cut * locals && run.now() < at + between {
                sleep(Duration::from_millis(1)).await;
            }
            slowest = slowest.max(run.now() - at);
        }
        slowest
    };
    let (window, slowest) = tokio::join!(finish::measure(&mut stage, arrived), cutting);
    let returned = run.returned();
    let (mut outcome, _) = load.finish(&mut stage, "reconnect-storm", window?).await?;
    outcome.setting("cuts", args.cuts as u64);
    outcome.figure("all_back_ms", slowest as f64 / 1000.0, "ms", Better::Lower, Join::Max);
    outcome.figure("came_back", returned as f64, "", Better::None, Join::Sum);
    outcome.figure("repeated", run.repeated() as f64, "", Better::Lower, Join::Sum);
    if returned < locals * args.cuts as u64 {
        outcome.checks.errors.insert("never came back".to_owned(), locals * args.cuts as u64 - returned);
    }
    Ok(outcome)
}
