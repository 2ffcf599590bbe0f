//! The engine on a real Redis: what it costs, what it keeps, and what befalls it.

mod ack;
mod ack_moves;
mod bus_faults;
mod bus_support;
mod cluster_faults;
mod conversation;
mod costs;
mod expiry;
mod faults;
mod hangs;
mod library;
mod order;
mod presence;
#[path = "../shared/rig.rs"]
mod rig;
mod sentinel_faults;
mod sentinel_zombie;
mod stamps;
mod start;
mod storm;
mod support;
mod tls;
mod trail;
mod walk;
