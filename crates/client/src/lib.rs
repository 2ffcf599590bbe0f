//! A client for the gateway's dialects, as their documents ask of clients: it reconnects with back-off,
//! keeps a bounded queue while offline, resends with the same id, shows every message once, debounces
//! typing and keeps presence alive.
//!
//! Owns: the client's side of a conversation. Must not know: how a server works. The rules are in pure
//! modules that are handed the time; [`Client`] is the thin task around them.
#![warn(missing_docs)]

mod backoff;
mod chatgenius;
mod client;
mod clock;
mod dial;
mod engine;
mod famly;
mod io;
mod lingochat;
mod options;
mod outbox;
mod places;
pub mod raw;
mod sechat;
mod seen;
mod socialhub;
mod speech;
pub mod state;
mod task;
pub mod typing;
mod update;

pub use backoff::Backoff;
pub use client::{Client, SendError};
pub use options::Options;
pub use raw::RawSocket;
pub use state::MessageState;
pub use update::{Message, Update};

pub use parlance_model::{ReceiptKind, Status, Time};
pub use parlance_wire::{Dialect, Framing};
