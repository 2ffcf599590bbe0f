//! HTTP: the two listeners, the WebSocket handshake, health, metrics and the server API.
//!
//! Owns: everything before the first frame of a connection. Must not know: dialects' events.

pub mod api;
pub(crate) mod connection;
mod cors;
pub(crate) mod credentials;
mod encoding;
pub(crate) mod engine;
mod health;
pub(crate) mod history;
mod listener;
pub(crate) mod permit;
mod reply;
mod router;
pub mod socket;
mod upgrade;

pub use connection::Origin;
pub use permit::{Permit, Permits};

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use listener::Gate;

use crate::node::Node;

/// Opens the public listener: client traffic. Returns the address it is bound to.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn listen_public(node: &Arc<Node>, address: SocketAddr) -> io::Result<SocketAddr> {
    Gate::new(node, "public", router::public(node)).open(address)
}

/// Opens the internal listener: health, metrics, server API. Returns the address it is bound to.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn listen_internal(node: &Arc<Node>, address: SocketAddr) -> io::Result<SocketAddr> {
    Gate::new(node, "internal", router::internal(node)).open(address)
}
