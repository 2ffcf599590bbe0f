//! Rate windows shared by all nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parlance_model::{Time, UserId};

use crate::Fault;

/// At most `limit` in any `window`, per user and rule name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Names the counter (`sechat:send`).
    pub name: Arc<str>,
    /// How many.
    pub limit: u32,
    /// In which time.
    pub window: Duration,
}

/// Whether one more is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Allowed (and counted).
    pub allowed: bool,
    /// How many are left now.
    pub remaining: u32,
    /// When the next one is allowed (refused) or the window is empty again (allowed).
    pub reset: Time,
    /// Names the counted entry for [`Limits::give_back`].
    pub stamp: u64,
}

/// Exact sliding windows.
///
/// Guarantees: the accepted entries of any window never exceed the limit, over all nodes; a refused
/// attempt counts for nothing.
#[async_trait]
pub trait Limits: Send + Sync {
    /// Counts one.
    async fn take(&self, user: &UserId, rule: &Rule) -> Result<Verdict, Fault>;

    /// Takes back what `take` counted under `stamp`.
    async fn give_back(&self, user: &UserId, rule: &Rule, stamp: u64) -> Result<(), Fault>;

    /// What `take` counted under `stamp` happened at `at`, which is later: from then on it counts for a window.
    async fn happened(&self, user: &UserId, rule: &Rule, stamp: u64, at: Time) -> Result<(), Fault>;
}
