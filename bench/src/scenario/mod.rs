//! What is measured: one file for each scenario, and what they share.
//!
//! Must not know: protocols.

pub mod acks;
pub mod common;
pub mod connect_storm;
mod crowd;
pub mod direct;
mod ear;
pub mod fanout;
mod finish;
mod flow;
mod gather;
mod groups;
mod hold;
pub mod idle;
mod mouth;
pub mod polling;
pub mod presence_churn;
pub mod reconnect_storm;
pub mod rollout;
pub mod rooms;
pub mod soak;
pub mod typing;
