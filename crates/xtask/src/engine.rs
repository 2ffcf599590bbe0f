//! Redis servers for a run of the scenarios.
//!
//! Owns: their life. Must not know: how they are set up (that is `parlance-redis-rig`), what runs on them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo, say};

/// What the nodes of the scenarios share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// One Redis.
    Standalone,
    /// A primary and two replicas under three Sentinels.
    Sentinel,
    /// A Cluster of three primaries with a replica each.
    Cluster,
}

/// Running servers.
pub struct Servers {
    child: Child,
    url: String,
}

impl Servers {
    /// Starts them and waits until they are ready.
    ///
    /// # Errors
    /// When they do not start.
    pub fn start(engine: Engine) -> Result<Self> {
        let kind = match engine {
            Engine::Standalone => "standalone",
            Engine::Sentinel => "sentinel",
            Engine::Cluster => "cluster",
        };
        let mut command = cargo(&["run", "--quiet", "--package", "parlance-redis-rig", "--", kind]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
        let output = child.stdout.take().context("no output")?;
        let mut url = String::new();
        BufReader::new(output).read_line(&mut url)?;
        ensure!(!url.is_empty(), "the Redis servers do not start");
        let url = url.trim().to_owned();
        say(&format!("the scenarios run on {url}"));
        Ok(Self { child, url })
    }

    /// What the tests are told of them.
    pub fn variable(&self) -> (&'static str, OsString) {
        ("PARLANCE_TEST_REDIS_URL", self.url.clone().into())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // They end with their standard input.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
