//! How long things may take, and trying again until then.
//!
//! Must not know: what is tried.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// For one start of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How long a command may take.
    pub patience: Duration,
    /// Until when Redis may stay away before the start fails.
    pub until: Instant,
}

impl Times {
    /// Tries until it works, or there is no time for another attempt. At least once; the first failure is told.
    ///
    /// # Errors
    /// The last one.
    pub async fn insist<T, E: Debug>(&self, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> Result<T, E> {
        let mut told = false;
        loop {
            match attempt().await {
                Err(error) if Instant::now() + PAUSE < self.until => {
                    if !told {
                        let left = self.until - Instant::now();
                        tracing::warn!(?error, ?left, "Redis cannot be used yet: trying on");
                        told = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }
}
