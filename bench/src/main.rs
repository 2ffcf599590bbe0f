//! `parlance-bench`: the load generator's command line.
//!
//! Owns: arguments and the printing of results. Must not know: how a load is made.

use clap::{Parser, Subcommand};

mod engine;
mod idle;
#[allow(dead_code, unused_imports, reason = "scenarios do not fill outcomes yet")]
mod outcome;
mod send;
mod socket;
mod target;

/// Puts load on a running gateway and says what came of it: one line of JSON, then one for people.
#[derive(Parser)]
#[command(name = "parlance-bench", version)]
struct Arguments {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Opens many connections that do nothing, and measures the gateway's memory for each.
    Idle(idle::Arguments),
    /// Sends between pairs of users as fast as acknowledgements come, and checks every delivery.
    Send(send::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    target::raise_descriptor_limit();
    match Arguments::parse().load {
        Load::Idle(arguments) => {
            let report = idle::run(&arguments).await?;
            println!("{}\n{report}", serde_json::to_string(&report)?);
        }
        Load::Send(arguments) => {
            let report = send::run(&arguments).await?;
            println!("{}\n{report}", serde_json::to_string(&report)?);
            anyhow::ensure!(report.is_clean(), "lost, doubled or reordered messages");
        }
    }
    Ok(())
}
