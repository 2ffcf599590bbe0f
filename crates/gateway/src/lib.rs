//! One Parlance node as a library: sessions, commands, transports, HTTP, authentication, limits,
//! configuration, metrics.
//!
//! Owns: the node. Must not know: JSON field names of clients (`parlance-wire`), how state is shared
//! (`parlance-backplane`), the command line (the binary).

pub mod auth;
mod authoriser;
pub mod backfill;
mod background;
mod brake;
pub mod clock;
pub mod commands;
pub mod config;
mod drain;
mod events;
mod failpoints;
pub mod feed;
mod forward;
mod health;
pub mod http;
mod journal;
pub mod line;
pub mod metrics;
pub mod node;
mod orders;
mod outbound;
mod proofs;
mod running;
pub mod session;
mod trace;
mod webhooks;

pub use running::{Running, StartError, begin};
