//! Small shared values with a lifetime: restored subscriptions, the maintenance switch.

use std::time::Duration;

use async_trait::async_trait;

use crate::Fault;

/// A small key-value store shared by all nodes.
///
/// Guarantees: a value is whole or absent; it is gone after its lifetime; the last save wins. A save
/// survives what the ack level says soon after, but not necessarily when the future resolves.
#[async_trait]
pub trait Shared: Send + Sync {
    /// Stores `value`; `ttl` `None` = until removed.
    async fn save(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Fault>;

    /// The value, unless absent or past its lifetime.
    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Fault>;

    /// Removes it.
    async fn remove(&self, key: &str) -> Result<(), Fault>;
}
