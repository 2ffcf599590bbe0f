//! What happened, kept in PostgreSQL: a consumer of the trail, off unless it is configured.
//!
//! Owns: the tables (schema `parlance`, numbered migrations), what of the trail becomes which row, and that every row is there
//! once however often it comes; reading logs on there where they were trimmed. Must not know: how a trail is kept, what a node is. No
//! acknowledgement waits for it, but by the ack level that says so (`ack`).
#![warn(missing_docs)]

mod ack;
mod backfill;
mod keep;
mod migrations;
mod read;
mod rows;
mod sink;
mod store;

use parlance_backplane::trail::Kinds;

pub use ack::{Confirmer, Count, acknowledged};
pub use backfill::{Hold, Plan, Progress};
pub use keep::{Forgotten, Policies, Removals, Rows as Removed, Rule, forget, keep, prune, remembers};
pub use read::{Asked, Reading, Watch, through};
pub use sink::{Settings, Tally, run};
pub use store::{Address, State, Store};

/// The consumer's name.
pub const GROUP: &str = "archive";

/// What has to be written down for it.
pub const KINDS: Kinds = Kinds { entries: true, cursors: true, presence: false, connections: false };
