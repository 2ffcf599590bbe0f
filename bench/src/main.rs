//! `parlance-bench`: the load generator's command line.
//!
//! Owns: subcommands and exit codes. Must not know: how a load is made.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod finale;
mod floor;
mod load;
mod net;
mod outcome;
mod parts;
mod results;
mod scenario;
mod speech;
mod target;

use outcome::Outcome;
use scenario::common::Common;
use scenario::{
    acks, connect_storm, direct, fanout, idle, polling, presence_churn, reconnect_storm, rollout, rooms,
    soak, typing,
};

/// Puts load on running servers, checks that everything arrives once and in order, and says what it cost.
#[derive(Parser)]
#[command(name = "parlance-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many connect at once, in waves with everything closed between.
    ConnectStorm(With<connect_storm::Args>),
    /// Connections that do nothing: memory and CPU time of each.
    Idle(With<idle::Args>),
    /// One room: a few send, all hear.
    Fanout(With<fanout::Args>),
    /// Many small rooms, with talk in all of them.
    Rooms(With<rooms::Args>),
    /// Pairs: one writes, the other answers with receipts.
    Direct(With<direct::Args>),
    /// Acknowledgements: senders as fast as they may.
    Acks(With<acks::Args>),
    /// People come and go: others hear of it.
    PresenceChurn(With<presence_churn::Args>),
    /// Rooms whose receivers poll.
    Polling(With<polling::Args>),
    /// All connections are cut at once, in the middle of talk, and come back.
    ReconnectStorm(With<reconnect_storm::Args>),
    /// The nodes are restarted one by one while people talk.
    Rollout(With<rollout::Args>),
    /// Typing: in each room one starts and stops, all others hear of it.
    Typing(With<typing::Args>),
    /// A steady mix for a long time, with the servers' memory as a series.
    Soak(With<soak::Args>),
    /// A WebSocket server that does the least there is: what one client sends, all others get.
    Floor(floor::Args),
    Report(results::Report),
    Compare(results::Compare),
    Join(results::Join),
}

/// A scenario's own flags and those of every scenario.
#[derive(Args)]
struct With<A: Args> {
    #[command(flatten)]
    own: A,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    raise_descriptor_limit();
    let done = match Arguments::parse().command {
        Command::Floor(args) => floor::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Report(args) => results::report(&args).map(|()| ExitCode::SUCCESS),
        Command::Compare(args) => results::compare(&args).map(|()| ExitCode::SUCCESS),
        Command::Join(args) => results::join(&args).map(|()| ExitCode::SUCCESS),
        command => tokio::runtime::Runtime::new()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(run(command))),
    };
    done.unwrap_or_else(|error| {
        eprintln!("parlance-bench: {error:#}");
        ExitCode::from(2)
    })
}

/// Runs a scenario, in as many processes as are asked for.
macro_rules! play {
    ($scenario:ident, $with:expr) => {{
        let With { own, common } = $with;
        (parts::run(&common, $scenario::run(&own, &common)).await?, common)
    }};
}

async fn run(command: Command) -> Result<ExitCode> {
    let (outcome, common): (Outcome, Common) = match command {
        Command::ConnectStorm(with) => play!(connect_storm, with),
        Command::Idle(with) => play!(idle, with),
        Command::Fanout(with) => play!(fanout, with),
        Command::Rooms(with) => play!(rooms, with),
        Command::Direct(with) => play!(direct, with),
        Command::Acks(with) => play!(acks, with),
        Command::PresenceChurn(with) => play!(presence_churn, with),
        Command::Polling(with) => play!(polling, with),
        Command::ReconnectStorm(with) => play!(reconnect_storm, with),
        Command::Rollout(with) => play!(rollout, with),
        Command::Typing(with) => play!(typing, with),
        Command::Soak(with) => play!(soak, with),
        // What needs no runtime was done before.
        Command::Floor(_) | Command::Report(_) | Command::Compare(_) | Command::Join(_) => {
            return Ok(ExitCode::SUCCESS);
        }
    };
    finale::end(&outcome, &common)
}

/// Lets this process open as many connections as the system allows it.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused, the load stops at the old limit with an error that says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
