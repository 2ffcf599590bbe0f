//! `parlance webhooks`: what was not told yet, what was given up, and telling it again.

use crate::aside;
use crate::failure::Failure;

const CALL: &str = "/api/v1/webhooks";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Show how many events wait, and those that were given up.
    List(aside::List),
    /// Tell again what was given up, with the ids it had.
    Retry(aside::Retry),
}

/// Asks one node, which answers for all.
pub async fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        What::List(list) => list.show(CALL).await,
        What::Retry(retry) => retry.ask(CALL, "told").await,
    }
}
