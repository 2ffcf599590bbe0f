//! Runs cargo and rustup, saying what runs.
//!
//! Owns: the environment and the working directory of these processes. Must not know: why they run.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// The workspace's root folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Announces a step.
pub fn say(step: &str) {
    println!("==> {step}");
}

/// Runs `cargo` with its output on the terminal; whether it succeeded.
///
/// # Errors
/// When cargo cannot be started.
pub fn run(arguments: &[&str]) -> Result<bool> {
    say(&format!("cargo {}", arguments.join(" ")));
    let status = cargo(arguments).status().context("cannot start cargo")?;
    Ok(status.success())
}

/// Runs `cargo` with further variables in its environment, passes its standard output through line by line as it
/// comes, and shows each line to `see`.
///
/// # Errors
/// When cargo cannot be started or its output cannot be read.
pub fn run_watched(
    arguments: &[&str],
    environment: &[(&str, OsString)],
    mut see: impl FnMut(&str),
) -> Result<bool> {
    say(&format!("cargo {}", arguments.join(" ")));
    let mut command = cargo(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        see(&line);
    }
    Ok(child.wait().context("cargo did not end")?.success())
}

/// Runs `cargo` and returns its standard output; `None` when it failed.
///
/// # Errors
/// When cargo cannot be started.
pub fn capture(arguments: &[&str]) -> Result<Option<String>> {
    say(&format!("cargo {}", arguments.join(" ")));
    let output = cargo(arguments).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Sees to it that `cargo <command>` of a toolchain component works, installing it through rustup when it is
/// absent. `false`, with a line saying so, when that is not possible.
pub fn ensure_component(component: &str, command: &str) -> bool {
    if quiet(cargo(&[command, "--version"])) {
        return true;
    }
    say(&format!("{component} is missing: rustup component add {component}"));
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", component]).current_dir(root());
    if rustup.status().is_ok_and(|status| status.success()) {
        return true;
    }
    say(&format!("skipped: {component} is not installed and rustup cannot install it"));
    false
}

/// Whether a command succeeds; its output is not shown.
pub fn quiet(mut command: Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A `cargo` command in the workspace's root.
pub fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // `cargo run` set these for xtask itself. Build scripts that watch them would be run again, and half
    // of the workspace with them.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_own(name)) {
        command.env_remove(name);
    }
    command
}

fn is_own(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}
