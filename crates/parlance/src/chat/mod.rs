//! `parlance chat`: a terminal client, line by line.
//!
//! Owns: starting the client and its end. Must not know: dialects (that is `parlance-client`).

mod args;
mod lines;
mod plain;

pub use args::Args;
use parlance_client::Client;

/// Runs the client until the user leaves.
///
/// # Errors
/// When the gateway refuses the user, or messages could not be delivered to it.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let (client, updates) = Client::connect(args.options()?);
    let result = plain::run(&args, &client, updates).await;
    client.close().await;
    result
}
