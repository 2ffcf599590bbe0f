//! `parlance chat`: a terminal client, full screen on a terminal and line by line on a pipe.
//!
//! Owns: starting the client and its end, and which of the two it is. Must not know: dialects (that is `parlance-client`).

mod app;
mod args;
mod commands;
mod editor;
mod lines;
mod plain;
mod roster;
mod screen;
mod styled;
mod view;

use std::io::{IsTerminal as _, stdin, stdout};

pub use args::Args;
use parlance_client::Client;

/// Runs the client until the user leaves.
///
/// # Errors
/// When the gateway refuses the user, or messages could not be delivered to it.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let (client, updates) = Client::connect(args.options()?);
    let full_screen = !args.plain && stdin().is_terminal() && stdout().is_terminal();
    let result = if full_screen {
        screen::run(&args, &client, updates).await
    } else {
        plain::run(&args, &client, updates).await
    };
    client.close().await;
    result
}
