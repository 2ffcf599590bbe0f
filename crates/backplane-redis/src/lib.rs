//! The Redis engine: everything shared, kept in Redis and told over its sharded channels.
//!
//! Owns: how the traits of the backplane are mapped to functions that run inside Redis. A step that must be atomic
//! is one function on keys of one partition; what spans partitions is ordered so that a crash in between leaves
//! something a repetition heals. Must not know: dialects, client sockets, configuration files.
#![warn(missing_docs)]

mod access;
mod batches;
mod bus;
mod changes;
mod checks;
mod conversations;
mod cursors;
mod durable;
mod engine;
mod envelope;
mod fences;
mod keys;
mod library;
mod limits;
mod link;
mod log;
mod members;
mod nodes;
mod numbers;
mod overviews;
mod presence;
mod primaries;
mod rooms;
mod scripts;
mod sequences;
mod shared;
mod times;
mod topology;
mod trail;
mod turns;
mod typing;
mod walk;

pub use access::{Access, Login, Tls};
pub use durable::Replicas;
pub use engine::{Options, Redis};
pub use link::Reply;
pub use scripts::{Script, Scripts, check_address};

/// For the benchmarks only: parts that are measured by themselves.
#[doc(hidden)]
pub mod bench {
    pub use crate::envelope::publication;
}
