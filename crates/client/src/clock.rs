//! The time of day, for the stamps clients put on what they send. Servers stamp for themselves: it is
//! courtesy, never truth.

use std::time::{SystemTime, UNIX_EPOCH};

use parlance_model::Time;

/// Now.
pub(crate) fn now() -> Time {
    #[expect(clippy::disallowed_methods, reason = "the client's one look at the clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
