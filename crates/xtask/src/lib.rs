//! The project's own chores, as functions that the binary and the house tests share.
//!
//! Owns: running cargo, installing what the tests need, counting lines and test results. Must not know: anything of the gateway's code.

pub mod bench;
pub mod cargo;
pub mod chart;
pub mod chores;
pub mod dashboards;
pub mod engine;
pub mod map;
pub mod prometheus;
pub mod report;
pub mod source;
pub mod tools;
