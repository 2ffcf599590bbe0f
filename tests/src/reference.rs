//! The reference server as a process: what Parlance is compared with, and what the stock clients are tried on.
//!
//! Must not know: what is compared.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::script::{self, Script};

/// A running reference server; dropped, it is killed.
pub struct Reference {
    address: String,
    _script: Script,
}

impl Reference {
    /// Starts socket.io itself (`tests/node/reference.mjs` says what it does), with options as socket.io names them
    /// (`path`, `pingInterval`, `connectionStateRecovery`, …).
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(options: Value) -> Result<Self> {
        Self::run("reference.mjs", options).await
    }

    /// Starts engine.io alone, which echoes every message at `/engine.io/`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn engine(options: Value) -> Result<Self> {
        Self::run("reference-engine.mjs", options).await
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    async fn run(name: &str, options: Value) -> Result<Self> {
        let mut command = script::node(name)?;
        command.arg(options.to_string());
        let (told, mut ready) = watch::channel(None);
        let script = Script::start(command, move |line| {
            let port = line.map(|line| line.strip_prefix("ready ").map(str::to_owned));
            if let Some(None) = port {
                return;
            }
            told.send_replace(Some(port.flatten()));
        })?;
        let said = timeout(PATIENCE, ready.wait_for(Option::is_some)).await;
        let said = said.context("the reference server is not ready in time")??.clone().flatten();
        match said {
            Some(port) => Ok(Self { address: format!("127.0.0.1:{port}"), _script: script }),
            None => bail!("the reference server ended; its log:\n{}", script.log()),
        }
    }
}
