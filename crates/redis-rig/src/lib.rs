//! Redis servers of the tests' own: real processes on free ports of the loopback address, in temporary folders,
//! checked to be the ones that were started, gone when they are dropped; alone, as a cluster, or under Sentinels; and
//! a proxy that makes the way to them bad.
//!
//! Owns: starting, killing, stopping and reconfiguring servers, and moving slots. Must not know: what is kept in them.
#![warn(missing_docs)]

pub mod port;
pub mod signal;

mod cluster;
mod operator;
mod proxy;
mod sentinels;
mod server;
mod view;

pub use cluster::Cluster;
pub use operator::Operator;
pub use proxy::{Faults, Proxy};
pub use sentinels::Sentinels;
pub use server::{Kind, Server, Setup};
