//! A steady mix for a long time: does memory stay where it is?

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;

use super::common::{Common, Stage};
use super::groups::Groups;
use crate::outcome::{Better, Join, Outcome};

/// A steady mix for a long time: rooms and receipts, with the servers' memory as a series.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How long.
    #[arg(long, default_value_t = 30.0)]
    pub minutes: f64,
    /// How many rooms.
    #[arg(long, default_value_t = 50)]
    pub rooms: usize,
    /// How many are in each.
    #[arg(long, default_value_t = 5)]
    pub members: usize,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    ensure!(args.members > 1, "nobody hears anything");
    let mut common = common.clone();
    common.seconds = args.minutes * 60.0;
    let mut stage = Stage::open(&common).await?;
    let receivers = args.members - 1;
    let groups = Groups { rooms: args.rooms, receivers, senders: 1, receipts: true, ..Groups::default() };
    let load = groups.set_up(&stage).await?;
    let (mut outcome, window) = load.run(&mut stage, "soak").await?;
    if let Some(growth) = growth(&window.memory) {
        outcome.figure("rss_growth", growth, "x", Better::Lower, Join::Max);
    }
    Ok(outcome)
}

/// Memory in the last tenth as a multiple of the second one: the first fills what is filled once.
fn growth(memory: &[(f64, f64)]) -> Option<f64> {
    let tenth = memory.len() / 10;
    let mean = |points: &[(f64, f64)]| points.iter().map(|(_, kib)| kib).sum::<f64>() / points.len() as f64;
    let (early, late) = (memory.get(tenth..2 * tenth)?, &memory[memory.len() - tenth..]);
    (tenth > 0 && mean(early) > 0.0).then(|| mean(late) / mean(early))
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn growth_compares_the_end_with_what_is_there_after_the_beginning() {
        let flat: Vec<_> = (0..100).map(|at| (f64::from(at), if at < 10 { 1.0 } else { 100.0 })).collect();
        assert_eq!(growth(&flat), Some(1.0));
        let rising: Vec<_> = (0..100).map(|at| (f64::from(at), f64::from(at))).collect();
        assert!(growth(&rising).unwrap() > 6.0);
        assert_eq!(growth(&flat[..5]), None);
    }
}
