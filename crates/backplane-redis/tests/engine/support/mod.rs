//! What the engine's tests have in common; here a standalone server as they use it.

pub mod chat;
pub mod papers;
pub mod witness;

use parlance_backplane::Clock;
use parlance_backplane_redis::Options;

/// A server of the test's own.
pub struct Server(parlance_redis_rig::Server);

impl Server {
    /// Starts one.
    pub async fn start() -> Self {
        Self(parlance_redis_rig::Server::standalone().await.unwrap())
    }

    /// Options for this server.
    pub fn options(&self, clock: Clock) -> Options {
        Options::new(&self.0.url(), clock)
    }

    /// Sends one command as an operator would, and returns the answer.
    pub async fn operator(&self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        self.0.command(&words).await.unwrap()
    }

    /// How often a command was called so far.
    pub async fn calls_of(&self, command: &str) -> u64 {
        self.0.calls_of(command).await.unwrap()
    }

    /// Kills it where it stands and starts it again on what it left.
    pub async fn restart(&mut self) {
        self.0.written().await.unwrap();
        self.0.restart().await.unwrap();
    }
}
