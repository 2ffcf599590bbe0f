//! `parlance chat`: a terminal client, full screen on a terminal and line by line in a pipe.
//!
//! Owns: choosing between the two. Must not know: dialects (that is `parlance-client`).

mod args;

pub use args::Args;

/// Runs the client until the user leaves.
///
/// # Errors
/// When the gateway refuses the user.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let _ = args.options()?;
    Ok(())
}
