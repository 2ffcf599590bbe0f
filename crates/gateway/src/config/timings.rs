//! Time spans of presence, typing and housekeeping.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time spans in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timings {
    /// A connection counts as there for so long after its last received byte.
    pub presence_ttl_ms: u64,
    /// How often leases are refreshed; about a third of `presence_ttl_ms`.
    pub presence_refresh_ms: u64,
    /// Typing ends after so long without a heartbeat.
    pub typing_ttl_ms: u64,
    /// How often expired leases and typists are looked for.
    pub sweep_ms: u64,
    /// How often the heads of live conversations are compared with what was delivered.
    pub head_check_ms: u64,
    /// How long subscriptions are kept for a client that comes back (socialhub).
    pub restore_ms: u64,
    /// How long a Socket.IO session can be recovered after its transport was cut.
    pub recovery_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            presence_ttl_ms: 35_000,
            presence_refresh_ms: 12_000,
            typing_ttl_ms: 4_000,
            sweep_ms: 500,
            head_check_ms: 2_000,
            restore_ms: 120_000,
            recovery_ms: 120_000,
        }
    }
}

impl Timings {
    /// See the field.
    pub const fn presence_ttl(&self) -> Duration {
        Duration::from_millis(self.presence_ttl_ms)
    }
    /// See the field.
    pub const fn presence_refresh(&self) -> Duration {
        Duration::from_millis(self.presence_refresh_ms)
    }
    /// See the field.
    pub const fn typing_ttl(&self) -> Duration {
        Duration::from_millis(self.typing_ttl_ms)
    }
    /// See the field.
    pub const fn sweep(&self) -> Duration {
        Duration::from_millis(self.sweep_ms)
    }
    /// See the field.
    pub const fn head_check(&self) -> Duration {
        Duration::from_millis(self.head_check_ms)
    }
    /// See the field.
    pub const fn restore(&self) -> Duration {
        Duration::from_millis(self.restore_ms)
    }
    /// See the field.
    pub const fn recovery(&self) -> Duration {
        Duration::from_millis(self.recovery_ms)
    }
}
