//! The programs that a comparison runs: ours, and the peers', built or installed when they are not there.
//!
//! Owns: where they lie, and why one is left out. Must not know: how they are run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::servers::Kind;
use crate::cargo::{cargo, root, run, say};
use crate::tools::Tools;

/// Where they lie.
pub struct Programs {
    /// The gateway.
    pub parlance: PathBuf,
    /// The load generator.
    pub bench: PathBuf,
    /// The socketioxide server.
    pub siox: PathBuf,
    /// Centrifugo.
    pub centrifugo: PathBuf,
    /// The folder of the Socket.IO server.
    pub node: PathBuf,
    /// Which peers are left out, and why.
    pub absent: BTreeMap<Kind, String>,
}

/// Builds ours.
///
/// # Errors
/// When they cannot be built.
pub fn build() -> Result<()> {
    let built = run(&["build", "--release", "--package", "parlance", "--package", "parlance-bench"])?;
    ensure!(built, "Parlance or the load generator cannot be built");
    Ok(())
}

impl Programs {
    /// Finds ours, and builds or installs the peers of these kinds (again, unless what is there is to be
    /// used `as_it_is`). A peer that cannot be had is left out.
    ///
    /// # Errors
    /// When there is no Redis, no Parlance or no load generator.
    pub fn ensure(kinds: &[Kind], target: &Path, as_it_is: bool) -> Result<Self> {
        ensure!(Tools::ensure_redis(), "missing: redis-server");
        let peers = root().join("bench/peers");
        let mut programs = Self {
            parlance: target.join("release/parlance"),
            bench: target.join("release/parlance-bench"),
            siox: target.join("peers/release/parlance-bench-peer-siox"),
            centrifugo: target.join("tools/centrifugo/centrifugo"),
            node: peers.join("node"),
            absent: BTreeMap::new(),
        };
        for program in [&programs.parlance, &programs.bench] {
            ensure!(program.exists(), "there is no {}", program.display());
        }
        let has = |kind| kinds.contains(&kind);
        if has(Kind::NodeRedis) || has(Kind::NodeStreams) {
            let reason =
                (!Tools::ensure_peer(target)?).then_some("no node 20 or later with npm, or npm ci failed");
            programs.leave_out(&[Kind::NodeRedis, Kind::NodeStreams], kinds, reason);
        }
        if has(Kind::SioxRedis) {
            let is_there = as_it_is && programs.siox.exists();
            let built = is_there || build_siox(&peers.join("siox"), target)?;
            let reason = (!built).then_some("it cannot be built");
            programs.leave_out(&[Kind::SioxRedis], kinds, reason);
        }
        if has(Kind::Centrifugo) {
            let reason = build_centrifugo(&peers.join("centrifugo"), &programs.centrifugo);
            programs.leave_out(&[Kind::Centrifugo], kinds, reason.as_deref());
        }
        Ok(programs)
    }

    fn leave_out(&mut self, which: &[Kind], wanted: &[Kind], reason: Option<&str>) {
        let Some(reason) = reason else { return };
        for kind in which.iter().filter(|kind| wanted.contains(kind)) {
            say(&format!("skipped: {kind}: {reason}"));
            self.absent.insert(*kind, reason.to_owned());
        }
    }
}

/// Whether there is one.
fn build_siox(folder: &Path, target: &Path) -> Result<bool> {
    say("cargo build --release (in bench/peers/siox)");
    let mut command = cargo(&["build", "--release", "--locked"]);
    command.current_dir(folder).env("CARGO_TARGET_DIR", target.join("peers"));
    Ok(command.status().context("cannot start cargo")?.success())
}

/// Why there is no Centrifugo; `None` when there is one.
fn build_centrifugo(folder: &Path, program: &Path) -> Option<String> {
    if program.exists() {
        return None;
    }
    say("go build (in bench/peers/centrifugo)");
    let mut go = Command::new("go");
    go.args(["build", "-mod=mod", "-o"]).arg(program).arg("github.com/centrifugal/centrifugo/v5");
    match go.current_dir(folder).stdin(Stdio::null()).output() {
        Err(error) => Some(format!("no go: {error}")),
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            Some(format!("go build failed: {}", words.lines().last().unwrap_or_default().trim()))
        }
    }
}
