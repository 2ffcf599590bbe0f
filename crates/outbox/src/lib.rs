//! What an application wrote down to be published: rows of a table of its PostgreSQL, entries of a stream of Redis.
//!
//! Owns: the table and the stream, that one node at a time reads them, in which order events go, when they go again, and what
//! becomes of those that are refused. Must not know: what an event does, what a node is.
#![warn(missing_docs)]

mod consumer;
mod pace;
mod plan;
mod source;
mod stream;
mod table;
mod weather;

pub use consumer::{Consumer, Settings};
pub use source::{Aside, Away, Backlog, Event, Lane, Publisher, Refusal, Source, Tally, Verdict};
pub use stream::Stream;
pub use table::{Table, as_sql};

/// How one gets into Redis; asked at each connect, like [`Address`].
pub type Logins = std::sync::Arc<dyn Fn() -> parlance_backplane_redis::Access + Send + Sync>;

/// Where it is; asked at each connect, since a password may have been changed.
pub type Address = std::sync::Arc<dyn Fn() -> Option<String> + Send + Sync>;
