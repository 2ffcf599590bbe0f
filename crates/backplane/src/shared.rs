//! Small shared values with a lifetime: restored subscriptions, the maintenance switch.

use std::time::Duration;

use async_trait::async_trait;

use crate::Fault;

/// What a kept value may take the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// Whatever is there, or nothing.
    Anything,
    /// Exactly this (`None`: nothing is there, or it is past its lifetime).
    This(Option<Vec<u8>>),
}

/// A small key-value store shared by all nodes.
///
/// Guarantees: a value is whole or absent; it is gone after its lifetime; the last save wins. A save
/// survives what the ack level says soon after, but not necessarily when the future resolves.
#[async_trait]
pub trait Shared: Send + Sync {
    /// Stores `value`; `ttl` `None` = until removed.
    async fn save(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Fault>;

    /// Stores `value` as [`Shared::save`] does, in one step with looking at what it takes the place of, and it survives
    /// what the ack level says once the future resolves. `false`: something else was there, and is.
    async fn keep(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>, over: Over)
    -> Result<bool, Fault>;

    /// The value, unless absent or past its lifetime.
    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Fault>;

    /// The same; where there is none, `value` is stored in the same step, as by [`Shared::save`].
    async fn load_or_save(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<Option<Vec<u8>>, Fault>;

    /// Removes it.
    async fn remove(&self, key: &str) -> Result<(), Fault>;
}
