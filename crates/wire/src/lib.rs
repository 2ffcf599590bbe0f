//! The client dialects and their framing, sans-IO: bytes in, canonical commands out; canonical events and
//! answers in, bytes out. Only this crate knows a JSON field name. It never panics and never reads a clock.
//!
//! Owns: decoding, encoding, framing. Must not know: permissions, storage, sockets, tasks, time of day.
#![warn(missing_docs)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod accent;
pub mod chatgenius;
mod codec;
mod emit;
mod encoded;
pub mod engineio;
pub mod famly;
pub mod history;
mod json;
pub mod lingochat;
mod peer;
pub mod sanitise;
pub mod sechat;
pub mod socialhub;
pub mod socketio;
pub mod websocket;

pub use accent::{Accent, Dialect, Framing, Style};
pub use codec::encode;
pub use encoded::{Class, Encoded, Offset};
pub use peer::{Auth, Peer, Settings, Tag};
