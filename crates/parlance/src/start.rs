//! Chooses the engine and starts the node on it.

use std::net::SocketAddr;

use parlance_backplane::Backplane;
use parlance_gateway::clock::Clock;
use parlance_gateway::config::Config;

use crate::failure::Failure;

/// A running node.
pub struct Running(std::convert::Infallible);

impl Running {
    /// Where clients connect.
    pub fn public_addr(&self) -> SocketAddr {
        match self.0 {}
    }

    /// Where the server API is.
    pub fn internal_addr(&self) -> SocketAddr {
        match self.0 {}
    }

    /// Drains and ends.
    pub async fn stop(self) {
        match self.0 {}
    }
}

/// Opens the embedded engine and starts a node on it.
pub async fn start(_config: Config, _clock: Clock) -> Result<(Running, Backplane), Failure> {
    Err(Failure::Other(anyhow::anyhow!("this build cannot serve yet")))
}

/// Applies keys, limits and whatever else may change while running.
pub fn reload(running: &Running, _config: Config) -> Result<(), Failure> {
    match running.0 {}
}
