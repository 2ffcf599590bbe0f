//! What is kept no longer: by policy, and when somebody is to be forgotten.
//!
//! Owns: which rows go, in batches that lock little. Must not know: who configures it, which process does it.

mod forget;
mod policies;
mod prune;
mod tables;
mod unsay;
mod watch;

pub use forget::{Forgotten, forget, remembers};
pub(crate) use policies::Known;
pub use policies::{Policies, Rule};
pub use prune::prune;
pub(crate) use tables::FORGETTING;
pub(crate) use unsay::without;
pub use watch::{Removals, keep};

use std::collections::BTreeMap;

/// Rows by table.
pub type Rows = BTreeMap<&'static str, u64>;
