//! Redis servers of the tests' own: real processes on free ports of the loopback address, in temporary folders,
//! checked to be the ones that were started, gone when they are dropped.
//!
//! Owns: starting, killing, pausing and reconfiguring servers. Must not know: what is kept in them.
#![warn(missing_docs)]

mod server;

pub use server::{Kind, Server, Setup};
