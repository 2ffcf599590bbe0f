//! One run: servers of its own, the load, the outcome.
//!
//! Owns: the load generator's command line. Must not know: what is made of the outcome.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::figures::Found;
use super::process::Stage;
use super::programs::Programs;
use super::servers::{API_KEY, Kind, SECRET, Servers};
use super::targets::{Run, Target};

/// How long a run may take, whatever it waits for.
const PATIENCE: Duration = Duration::from_secs(900);
/// The frame of the floor, as long as Parlance's has not been measured.
const FRAME: u64 = 379;
/// The figure that tells its size.
const FRAME_BYTES: &str = "bytes_per_delivery";

/// What the runs of a target share.
pub struct Turn<'a> {
    /// What is run.
    pub programs: &'a Programs,
    /// Where it is run.
    pub stage: &'a Stage,
    /// Where outcomes are kept.
    pub out: &'a Path,
    /// Whether runs are short.
    pub quick: bool,
    /// The size of Parlance's average delivery in this target, once it is known: the floor writes as much.
    pub frame: Option<u64>,
}

impl Turn<'_> {
    /// Starts the servers, puts the load on them, and ends them.
    ///
    /// # Errors
    /// When something does not start, or the load generator has no outcome.
    pub fn play(&mut self, target: &Target, run: &Run, round: usize) -> Result<Found> {
        let frame = self.frame.unwrap_or(FRAME);
        let servers = Servers::start(run.setup, frame, self.programs, self.stage)?;
        let outcome = self.out.join(format!("outcomes/{:02}-{}-{}.json", target.number, run.name, round + 1));
        let mut load = Command::new(&self.programs.bench);
        load.arg(run.scenario.unwrap_or(target.scenario)).args(servers.arguments());
        load.args(["--secret", SECRET, "--api-key", API_KEY, "--quiet", "--label", run.name])
            .arg("--json")
            .arg(&outcome);
        load.args(self.flags(target, run));
        let mut load = self.stage.start("load", load)?;
        let status = load.wait_for_end(PATIENCE)?;
        // 1 says that something was lost or doubled: the outcome says what.
        if !matches!(status.code(), Some(0 | 1)) {
            bail!("the load generator ended with {status}: {}\n{}", load.last_words(), servers.last_words());
        }
        let found = Found::read(&outcome)
            .with_context(|| format!("no outcome: {}\n{}", load.last_words(), servers.last_words()))?;
        if run.setup.kind == Kind::Parlance
            && let Some(bytes) = found.figure(FRAME_BYTES)
        {
            self.frame = Some(bytes.round() as u64);
        }
        Ok(found)
    }

    fn flags(&self, target: &Target, run: &Run) -> Vec<String> {
        let quick = |flags| if self.quick { flags } else { "" };
        merged(&[target.flags, run.flags, quick(target.quick), quick(run.quick)])
    }
}

/// Flags of several levels: the later one wins.
fn merged(levels: &[&str]) -> Vec<String> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for level in levels {
        for word in level.split_whitespace() {
            if word.starts_with("--") {
                all.retain(|(flag, _)| flag != word);
                all.push((word.to_owned(), Vec::new()));
            } else if let Some((_, values)) = all.last_mut() {
                values.push(word.to_owned());
            }
        }
    }
    all.into_iter().flat_map(|(flag, values)| std::iter::once(flag).chain(values)).collect()
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn the_later_flag_wins() {
        let flags = merged(&["--cross --members 10 --rate 2", "--dialect famly", "--members 5", ""]);
        assert_eq!(flags, ["--cross", "--rate", "2", "--dialect", "famly", "--members", "5"]);
    }
}
