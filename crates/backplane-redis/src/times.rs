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
    /// No attempt failed yet.
    pub const fn attempts(self) -> Attempts {
        Attempts { until: self.until, told: false }
    }
}

/// Attempts at one thing.
pub struct Attempts {
    until: Instant,
    told: bool,
}

impl Attempts {
    /// After an attempt that failed: waits for the next one. The first failure is told.
    ///
    /// # Errors
    /// The same error, when there is no time for another attempt.
    pub async fn again<E: Debug + Send>(&mut self, error: E) -> Result<(), E> {
        if Instant::now() + PAUSE >= self.until {
            return Err(error);
        }
        if !std::mem::replace(&mut self.told, true) {
            let left = self.until - Instant::now();
            tracing::warn!(?error, ?left, "Redis cannot be used yet: trying on");
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}
