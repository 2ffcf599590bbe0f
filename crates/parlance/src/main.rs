//! The `parlance` binary: command line, configuration sources, logging, signals, exit codes.
//!
//! Owns: the process. Must not know: how a node works (that is `parlance-gateway`).

mod archive;
mod aside;
mod backfill;
mod chat;
mod cli;
mod dev;
mod explain;
mod failure;
mod keeping;
mod logging;
mod memory;
mod nodes;
mod outbox;
mod probe;
mod rotation;
mod serve;
mod sources;
mod start;
mod token;
mod webhooks;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command};
use failure::Failure;
use parlance_gateway::http::openapi;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Failure::arguments(&error).report(),
        Err(help) => {
            // Help and version are asked for, not errors.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(anyhow::Error::from(error)).report(),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(flags) => dev::run(flags).await,
        Command::Serve(flags) => serve::run(flags).await,
        Command::Token(args) => token::run(args),
        Command::CheckConfig(flags) => serve::check(flags),
        Command::DefaultConfig(args) => {
            let text = if args.markdown {
                parlance_gateway::config::markdown()
            } else {
                parlance_gateway::config::default_toml()
            };
            print!("{text}");
            Ok(())
        }
        Command::Metrics => {
            print!("{}", parlance_gateway::metrics::markdown());
            Ok(())
        }
        Command::Openapi(args) => {
            let text = if args.markdown {
                openapi::markdown()
            } else {
                let document = if args.public { openapi::public() } else { openapi::internal() };
                document.to_pretty_json().map_err(anyhow::Error::from)? + "\n"
            };
            print!("{text}");
            Ok(())
        }
        Command::Chat(args) => Ok(chat::run(args).await?),
        Command::Nodes(args) => nodes::run(args).await,
        Command::Webhooks(args) => webhooks::run(args).await,
        Command::Archive(args) => archive::run(args).await,
        Command::Outbox(args) => outbox::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Probe(args) => probe::run(args).await,
    }
}
