//! `cargo xtask …`: the command line of the project's chores.
//!
//! Owns: the arguments and the exit code. Must not know: how a chore is done.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use parlance_xtask::engine::Engine;
use parlance_xtask::{bench, chores};

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Builds the binary, runs every test of the workspace and sums the results.
    Test {
        /// Runs the scenarios of all dialects on Redis servers started for this run, instead of every test.
        #[arg(long, value_name = "KIND")]
        engine: Option<Engine>,
        /// Passed on to `cargo test` (a filter, or `-- --nocapture`).
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Checks the formatting and runs clippy; any warning is an error.
    Lint,
    /// Regenerates the reference pages that follow from the code.
    Docs {
        /// Write nothing; fail when a page is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Lines of code and tests per crate, and how many functions are long.
    Stats,
    /// Runs several nodes in one simulated world under faults, seed after seed, and checks the promises.
    Simulate {
        /// How many seeds.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Optimised: several times as many in a minute.
        #[arg(long)]
        release: bool,
    },
    /// Brings faults about under load on several nodes, one after the other, and checks every promise from what the
    /// clients wrote down.
    Chaos {
        /// `--seed N`, `--minutes M`, `--nodes K`, `--users U`, `--faults a,b`, `--folder F`, `--quick-ms Q`,
        /// `--long` (faults as long as in production), `--list`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Attacks a node in every way at once while two people talk, and says what they noticed.
    Hostile {
        /// `--seconds S` (60), `--seed N`, `--each K` (attackers of each kind).
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Replaces three nodes one by one behind HAProxy or nginx while stock clients and the load generator's talk, and says how
    /// often they were sent away, what was lost, how soon they were back.
    Rollout {
        /// Optimised: for many clients.
        #[arg(long)]
        release: bool,
        /// `--balancer haproxy|nginx`, `--dialects a,b`, `--nodes N`, `--stock S`, `--rooms R`, `--members M`, `--rate X`,
        /// `--seconds S`, `--delay-ms D`, `--deadline-ms D`, `--folder F` (for logs and outcomes).
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Sends a million messages through two nodes into PostgreSQL while it, Redis and a node are killed, and asks the tables
    /// whether each is there once, in its place, as it was sent.
    Archive {
        /// Optimised: several times as fast.
        #[arg(long)]
        release: bool,
        /// `--messages N` (1000000), `--conversations C`, `--senders S` (in each), `--batch B` (`archive.batch`).
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Builds the binary with the feature `otel`, and follows messages over several nodes to a collector.
    Otel,
    /// Puts the same load on Parlance and on its peers.
    Bench {
        /// What to do.
        #[command(subcommand)]
        command: bench::Command,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Test { engine, arguments } => chores::test(engine, &arguments),
        Chore::Lint => chores::lint(),
        Chore::Docs { check } => chores::docs(check),
        Chore::Stats => chores::stats(),
        Chore::Simulate { seeds, from, release } => chores::simulate(seeds, from, release),
        Chore::Chaos { arguments } => chores::chaos(&arguments),
        Chore::Hostile { arguments } => chores::hostile(&arguments),
        Chore::Rollout { release, arguments } => chores::rollout(release, &arguments),
        Chore::Archive { release, arguments } => chores::archive(release, &arguments),
        Chore::Otel => chores::otel(),
        Chore::Bench { command } => bench::bench(&command),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
