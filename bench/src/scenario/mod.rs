//! What is measured: one file for each scenario, and what they share.
//!
//! Must not know: protocols.

pub mod acks;
pub mod common;
mod crowd;
pub mod direct;
mod ear;
pub mod fanout;
mod finish;
mod flow;
mod gather;
mod groups;
mod mouth;
pub mod rooms;
