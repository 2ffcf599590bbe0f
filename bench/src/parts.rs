//! Several load processes for one run: this program starts itself so many times, lets all begin at one moment, and
//! joins what they found.
//!
//! Owns: what the processes say to each other (`made`, `ready`, the moment to begin, the outcome). Must not know: scenarios.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::load::run::{epoch_us, new_id};
use crate::outcome::{self, Outcome};
use crate::scenario::common::Common;

/// Between the word to begin and the beginning: enough for every process to have read it.
const NOTICE: Duration = Duration::from_millis(200);

/// What a process says when its conversations stand.
pub const MADE: &str = "made";
/// What a process says when it only waits for the moment to begin.
pub const READY: &str = "ready";

/// The outcome of `alone`, or, with `--processes`, of several processes of this program that run it together.
///
/// # Errors
/// When a process cannot be started or fails, or the outcomes are not of one run.
pub async fn run(common: &Common, alone: impl Future<Output = Result<Outcome>>) -> Result<Outcome> {
    if common.processes <= 1 || common.part.of > 1 {
        return alone.await;
    }
    let (own, id) = (std::env::current_exe().context("where does this program lie?")?, new_id());
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    let start = |index| {
        let mut command = Command::new(&own);
        command.args(arguments(&given, index)).arg("--quiet").arg("--run").arg(&id);
        command.arg("--part").arg(format!("{index}/{}", common.processes));
        Part::start(command, index)
    };
    together(common.processes, start).await
}

async fn together(count: usize, start: impl Fn(usize) -> Result<Part>) -> Result<Outcome> {
    let mut parts = Vec::new();
    for index in 0..count {
        let mut part = start(index)?;
        if index == 0 {
            // The first makes what all of them enter.
            part.made().await?;
        }
        parts.push(part);
    }
    for part in &mut parts {
        part.ready().await?;
    }
    let at = epoch_us() + u64::try_from(NOTICE.as_micros())?;
    for part in &mut parts {
        part.begin(at).await?;
    }
    let mut outcomes = Vec::new();
    for part in parts {
        outcomes.push(part.outcome().await?);
    }
    outcome::join(&outcomes)
}

/// The arguments of one part: without what is done with the joined outcome, and all but the first watch nothing, since
/// all would see the same.
fn arguments(given: &[OsString], index: usize) -> Vec<OsString> {
    let dropped = |name: &str| {
        matches!(name, "--processes" | "--json" | "--html" | "--threshold")
            || (name == "--watch" && index > 0)
    };
    let mut kept = Vec::new();
    let mut given = given.iter();
    while let Some(argument) = given.next() {
        let text = argument.to_string_lossy();
        match text.split_once('=') {
            _ if argument == OsStr::new("--quiet") => {}
            // Its value is the next argument, and goes with it.
            None if dropped(&text) => drop(given.next()),
            Some((name, _)) if dropped(name) => {}
            _ => kept.push(argument.clone()),
        }
    }
    kept
}

struct Part {
    index: usize,
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    is_ready: bool,
}

impl Part {
    fn start(mut command: Command, index: usize) -> Result<Self> {
        // One that fails is everybody's failure: the others end with this process.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start a load process")?;
        let input = child.stdin.take().context("a load process without input")?;
        let output = child.stdout.take().context("a load process without output")?;
        Ok(Self { index, child, input, lines: BufReader::new(output).lines(), is_ready: false })
    }

    /// Waits until the conversations stand that all processes enter; one without any is ready at once.
    async fn made(&mut self) -> Result<()> {
        let line = self.lines.next_line().await?;
        self.is_ready = line.as_deref() == Some(READY);
        ensure!(self.is_ready || line.as_deref() == Some(MADE), "load process {} did not begin", self.index);
        Ok(())
    }

    async fn ready(&mut self) -> Result<()> {
        while !self.is_ready {
            let line = self.lines.next_line().await?;
            self.is_ready = line.as_deref() == Some(READY);
            let goes_on = self.is_ready || line.as_deref() == Some(MADE);
            ensure!(goes_on, "load process {} did not get ready", self.index);
        }
        Ok(())
    }

    /// Says when to begin, in microseconds since 1970.
    async fn begin(&mut self, at: u64) -> Result<()> {
        self.input.write_all(format!("{at}\n").as_bytes()).await?;
        self.input.flush().await.with_context(|| format!("load process {} is gone", self.index))
    }

    async fn outcome(mut self) -> Result<Outcome> {
        let mut last = String::new();
        while let Some(line) = self.lines.next_line().await? {
            last = line;
        }
        let status = self.child.wait().await?;
        ensure!(status.success(), "load process {} failed: {status}", self.index);
        serde_json::from_str(&last)
            .with_context(|| format!("load process {} said nothing of use", self.index))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use tokio::process::Command;

    use super::{Part, arguments, together};
    use crate::outcome::sample;

    fn kept(index: usize, given: &[&str]) -> Vec<OsString> {
        arguments(&given.iter().map(OsString::from).collect::<Vec<_>>(), index)
    }

    #[test]
    fn parts_get_what_makes_load_and_not_what_is_done_with_the_outcome() {
        let given = [
            "fanout",
            "--processes",
            "3",
            "--json=x",
            "--html",
            "y",
            "--threshold",
            "a<=1",
            "--rate",
            "5",
            "--quiet",
        ];
        assert_eq!(kept(0, &given), ["fanout", "--rate", "5"]);
        assert_eq!(
            kept(0, &["fanout", "--processes=3", "--threshold=a<=1", "--label", "b=c"]),
            ["fanout", "--label", "b=c"]
        );
    }

    #[test]
    fn only_the_first_watches() {
        let given = ["fanout", "--watch", "a=1", "--watch=b=2"];
        assert_eq!(kept(0, &given), given);
        assert_eq!(kept(1, &given), ["fanout"]);
    }

    fn part(index: usize, script: &str) -> Part {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        Part::start(command, index).unwrap()
    }

    #[tokio::test]
    async fn all_begin_at_the_same_moment_and_are_joined() {
        let mut outcome = sample::outcome();
        outcome.setting("at", 0);
        let text = serde_json::to_string(&outcome).unwrap();
        let (before, after) = text.split_once("\"at\":0").unwrap();
        // Joining refuses unlike settings, and each part says here when it was told to begin.
        let script =
            format!("echo ready; read at; printf '%s' '{before}\"at\":'; printf '%s' $at; echo '{after}'");
        let joined = together(3, |index| Ok(part(index, &script))).await.unwrap();
        assert_eq!(joined.parts, 3);
        assert_eq!(joined.checks.sent, 3 * outcome.checks.sent);
        assert!(joined.settings["at"].as_u64().unwrap() > 1_600_000_000_000_000);
    }

    #[tokio::test]
    async fn one_that_fails_is_named() {
        let says = async |script: &str| {
            let scripts = ["echo made; echo ready; read at; exit 3", script];
            let error = together(2, |index| Ok(part(index, scripts[index]))).await.unwrap_err();
            format!("{error:#}")
        };
        assert!(says("exit 2").await.contains("load process 1 did not get ready"));
        assert!(says("echo ready; read at; echo '{}'").await.contains("load process 0 failed"));
    }

    #[tokio::test]
    async fn nobody_enters_what_the_first_has_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let room = folder.path().join("room").display().to_string();
        let text = serde_json::to_string(&sample::outcome()).unwrap();
        let end = format!("echo ready; read at; echo '{text}'");
        let scripts = [
            format!("sleep 0.2; touch {room}; echo made; {end}"),
            format!("test -e {room} || exit 9; echo made; {end}"),
        ];
        assert_eq!(together(2, |index| Ok(part(index, &scripts[index]))).await.unwrap().parts, 2);
    }
}
