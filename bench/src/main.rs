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
#[allow(dead_code, unused_imports, reason = "not everything of an outcome is read here yet")]
mod outcome;
mod scenario;
mod speech;
mod target;

use outcome::Outcome;
use scenario::common::Common;
use scenario::fanout;

/// Puts load on running servers, checks that everything arrives once and in order, and says what it cost.
#[derive(Parser)]
#[command(name = "parlance-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One room: a few send, all hear.
    Fanout(With<fanout::Args>),
    /// A WebSocket server that does the least there is: what one client sends, all others get.
    Floor(floor::Args),
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
        command => tokio::runtime::Runtime::new()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(run(command))),
    };
    done.unwrap_or_else(|error| {
        eprintln!("parlance-bench: {error:#}");
        ExitCode::from(2)
    })
}

async fn run(command: Command) -> Result<ExitCode> {
    let (outcome, common): (Outcome, Common) = match command {
        Command::Fanout(With { own, common }) => (fanout::run(&own, &common).await?, common),
        Command::Floor(_) => return Ok(ExitCode::SUCCESS),
    };
    finale::end(&outcome, &common)
}

/// Lets this process open as many connections as the system allows it.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused, the load stops at the old limit with an error that says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
