//! The contract of a backplane, on every kind and release of Redis.

mod cluster_contract;
mod one_server;
mod releases;
#[path = "../shared/rig.rs"]
mod rig;
mod sentinel_contract;
