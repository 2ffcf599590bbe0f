//! The node's one clock: the only caller of the system's time of day.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parlance_model::Time;

/// The time of day.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        let skew = skew();
        Self(Arc::new(move || {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            Time::from_millis(millis.saturating_add_signed(skew))
        }))
    }

    /// A clock of the caller's own.
    pub fn from_fn(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now.
    pub fn now(&self) -> Time {
        (self.0)()
    }

    /// As the engine wants it.
    pub fn for_engine(&self) -> parlance_backplane::Clock {
        self.0.clone()
    }
}

/// By how many milliseconds a test has this clock go wrong.
#[cfg(debug_assertions)]
fn skew() -> i64 {
    std::env::var("PARLANCE_TEST_CLOCK_SKEW_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(0)
}

#[cfg(not(debug_assertions))]
const fn skew() -> i64 {
    0
}
