//! What is measured: one file for each scenario, and what they share.
//!
//! Must not know: protocols.

pub mod common;
pub mod crowd;
pub mod fanout;
pub mod gather;
pub mod finish;
