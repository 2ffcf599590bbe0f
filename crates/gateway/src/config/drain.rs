//! How a node's clients are sent elsewhere: when it stops, and when others have fewer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Leaving and balancing. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// After the signal `/readyz` fails at once; new connections are taken for so long all the same.
    pub delay_ms: u64,
    /// After the delay: how long the clients have; who is there then is cut off.
    pub deadline_ms: u64,
    /// Clients of all nodes together that are sent elsewhere in a second; 0 = as many as there are.
    pub clients_per_second: u32,
    /// Names the rollout that the node belongs to: nodes of an older one take no new connections while one of a newer one has
    /// room. Empty: none.
    pub generation: String,
    /// Send clients away while this node has many more than the others.
    pub rebalance: bool,
    /// How many percent more than the mean are left alone.
    pub rebalance_percent: u32,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            delay_ms: 0,
            deadline_ms: 10_000,
            clients_per_second: 1_000,
            generation: String::new(),
            rebalance: false,
            rebalance_percent: 20,
        }
    }
}

impl Drain {
    /// See the field.
    pub const fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }
    /// See the field.
    pub const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}
