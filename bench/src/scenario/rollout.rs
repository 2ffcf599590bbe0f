//! The nodes go away one by one and come back while people talk: clients follow, and nothing may be lost.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;
use tokio::process::Command;

use super::common::{Common, Stage};
use super::finish;
use super::groups::Groups;
use crate::load::run::Run;
use crate::outcome::{Better, Join, Outcome};

/// The nodes are restarted one by one while people talk: clients go to another node, and nothing may be lost.
#[derive(ClapArgs, Clone, Debug)]
pub struct Args {
    /// How many rooms.
    #[arg(long, default_value_t = 50)]
    pub rooms: usize,
    /// How many are in each; one of them sends.
    #[arg(long, default_value_t = 10)]
    pub members: usize,
    /// What restarts a node, for the shell: {node} stands for its number from 0, {url} for its address. Without it, restart
    /// the nodes yourself while --seconds pass: so, too, behind a balancer.
    #[arg(long)]
    pub restart: Option<String>,
    /// Seconds between two nodes.
    #[arg(long, default_value_t = 5.0)]
    pub every: f64,
}

/// Runs it.
pub async fn run(args: &Args, common: &Common) -> Result<Outcome> {
    ensure!(args.every > 0.0, "all at once is no rollout");
    let mut common = common.clone();
    if args.restart.is_some() {
        common.seconds = common.seconds.max(args.every * (common.target.nodes.len() + 1) as f64);
    }
    let mut stage = Stage::open(&common).await?;
    let receivers = args.members.saturating_sub(1);
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
    let run = stage.run.clone();
    let (arrived, nodes) = (load.arrived(&stage), common.target.nodes.clone());
    let clients = load.locals() as f64;
    let (window, restarted) =
        tokio::join!(finish::measure(&mut stage, arrived), restart(args, &run, &nodes, stage_part(&common)));
    let (mut outcome, _) = load.finish(&mut stage, "rollout", window?).await?;
    outcome.figure("restarted", restarted? as f64, "", Better::None, Join::Max);
    outcome.figure("came_back", run.returned() as f64, "", Better::None, Join::Sum);
    outcome.figure("bounces_per_client", run.returned() as f64 / clients, "", Better::Lower, Join::Mean);
    outcome.figure("bounces_most", run.most_returns() as f64, "", Better::Lower, Join::Max);
    outcome.figure("came_back_anew", run.anew() as f64, "", Better::Lower, Join::Sum);
    outcome.figure("repeated", run.repeated() as f64, "", Better::Lower, Join::Sum);
    outcome.warn("CPU time of restarted processes is not seen");
    Ok(outcome)
}

const fn stage_part(common: &Common) -> bool {
    common.part.index == 0
}

async fn restart(args: &Args, run: &Run, nodes: &[String], mine: bool) -> Result<usize> {
    let (Some(command), true) = (&args.restart, mine) else { return Ok(0) };
    let every = Duration::from_secs_f64(args.every).as_micros() as u64;
    for (node, url) in nodes.iter().enumerate() {
        run.until(run.warm + every * (node as u64 + 1)).await;
        let command = command.replace("{node}", &node.to_string()).replace("{url}", url);
        let mut shell = Command::new("sh");
        let status =
            shell.arg("-c").arg(&command).stdin(Stdio::null()).stdout(Stdio::null()).status().await?;
        ensure!(status.success(), "`{command}` ended with {status}");
    }
    Ok(nodes.len())
}
